"""What a gate catches, category by category, and how often it is wrong: the table.

``python tests/benchmarks/gate.py [phantoms] [nih_cxr] [--pack PACK]``. Phantoms: the gate
of the shipped pack, on phantoms from seeds that nothing has seen. nih_cxr: a gate is
fitted on four fifths of the patients, with the pack's encoder, and asked about the rest,
five times; strangers that are made of nobody are asked of one of the five gates each.
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.model_selection import GroupKFold

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import strangers
from workers.demo.samples import Samples, Sizes, orders, render
from workers.encoder import Encoder, open_encoder
from workers.gate import Gate
from workers.gate.fitting import fit, validation
from workers.measures import clustered_proportion
from workers.pack import Pack, locate, open_pack

SHARED = Path(__file__).parents[3] / "shared"
UNSEEN = 7_000_000_000
COUNT = 240
BAR, ALARMS, ALARMS_HIGH = 0.95, 0.02, 0.04
Images = NDArray[np.uint8]
Outside = NDArray[np.bool_]


def main() -> None:
    """Print the tables that are asked for; exit with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=["phantoms", "nih_cxr"])
    parser.add_argument("--pack", default="phantoms")
    parser.add_argument("--chests", type=int, default=240, help="of each kind")
    parser.add_argument("--heads", type=int, default=40, help="of each kind")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    pack = open_pack(locate(asked.pack))
    encoder = open_encoder(pack, device="cpu", threads=1)
    passed = True
    for name in asked.sets:
        of = of_nih if name == "nih_cxr" else of_phantoms
        passed &= all(list(of(pack, encoder, asked)))
    sys.exit(not passed)


# ── phantoms ────────────────────────────────────────────────────────────────


def of_phantoms(
    pack: Pack, encoder: Encoder, asked: argparse.Namespace
) -> Iterator[bool]:
    """Print the table of the pack's own gate; yield whether each line is good."""
    gate = pack.gate
    if gate is None:
        raise SystemExit(f"pack {pack.name} has no gate")
    samples = drawn(pack, asked)
    shared = SHARED if SHARED.is_dir() else None
    policy = pack.preprocessing
    for head, modality in ((False, "DX"), (True, "CT")):
        what = "heads" if head else "chests"
        print(f"\n{pack.name} {pack.version}, phantoms, {what}")
        rows = np.flatnonzero(samples.head[samples.study] == head)
        inside = grey(samples.images[rows])
        made = strangers.of_heads if head else strangers.of_chests
        some = np.random.default_rng(0).permutation(len(inside))
        categories = made(policy, COUNT, shared) | strangers.of_validated(
            inside[some], COUNT
        )
        upside_down = np.rot90(inside[some][:COUNT], 2, axes=(2, 3))
        categories["turned, 180"] = upside_down
        other = np.flatnonzero(samples.head[samples.study] != head)[:COUNT]
        categories["chest" if head else "head"] = grey(samples.images[other])
        for name, images in categories.items():
            out = judged(gate, encoder, images, modality)
            yield line(name, out, np.arange(len(out)))
        vectors = encoder.embed_images(inside)
        out = gate.distances(vectors, modality) > gate.limit
        yield alarms("false alarms, images", out, samples.study[rows])
        if head:
            volumes = samples.study[rows]
            of = [
                bool(gate.outside_volume(vectors[volumes == one], modality))
                for one in np.unique(volumes)
            ]
            yield alarms("false alarms, scans", np.array(of), np.unique(volumes))
            by_level(out, volumes)


def drawn(pack: Pack, asked: argparse.Namespace) -> Samples:
    """Draw phantoms that nothing has seen, at three matrix sizes."""
    side = pack.preprocessing.size
    begun = time.perf_counter()
    kinds = [
        Sizes(encoder=side, chest=chest, head=head)
        for chest, head in ((144, 144), (144, 192), (384, 256))
    ]
    wanted = orders((asked.chests, asked.heads), UNSEEN, kinds[0], slices=12)
    wanted = [replace(o, sizes=kinds[i % 3]) for i, o in enumerate(wanted)]
    samples = render(wanted, processes=asked.processes)
    print(f"{len(wanted)} phantoms drawn in {time.perf_counter() - begun:.0f} s")
    return samples


def by_level(out: Outside, study: NDArray[np.int64]) -> None:
    """Print the share of slices outside, from the base of the skull to the vertex."""
    table = np.stack([out[study == one] for one in np.unique(study)])
    shares = " ".join(f"{share:.3f}" for share in table.mean(axis=0))
    print(f"  slices outside, base to vertex: {shares}")


# ── real chests ─────────────────────────────────────────────────────────────


def of_nih(pack: Pack, encoder: Encoder, _: argparse.Namespace) -> Iterator[bool]:
    """Print the table of gates fitted on nih_cxr; yield whether each line is good."""
    images, patients = nih(pack)
    vectors = encoder.embed_images(images)
    shown = validation(
        vectors,
        patients,
        lambda rows: images[rows],
        modalities=("DX",),
        embed=encoder.embed_images,
    )
    made = strangers.of_chests(pack.preprocessing, COUNT, SHARED)
    outside: dict[str, list[Outside]] = {}
    whose: dict[str, list[NDArray[np.int32]]] = {}

    def note(name: str, out: Outside, of: NDArray[np.int32]) -> None:
        outside.setdefault(name, []).append(out)
        whose.setdefault(name, []).append(of)

    cut = GroupKFold(5, shuffle=True, random_state=0).split(images, groups=patients)
    for fold, (fitted, asked) in enumerate(cut):
        gate = fit([shown.rows(np.isin(np.arange(len(images)), fitted))])
        note("false", gate.distances(vectors[asked], "DX") > 1, patients[asked])
        for name, some in strangers.of_validated(images[asked], COUNT).items():
            note(name, judged(gate, encoder, some, "DX"), patients[asked])
        for name, some in made.items():
            out = judged(gate, encoder, some[fold::5], "DX")
            note(name, out, np.arange(fold, len(some), 5, dtype=np.int32))
    print(f"\nnih_cxr, encoder of {pack.name} {pack.version}: {len(images)} images")
    for name, parts in outside.items():
        if name != "false":
            yield line(name, np.concatenate(parts), np.concatenate(whose[name]))
    yield alarms(
        "false alarms", np.concatenate(outside["false"]), np.concatenate(whose["false"])
    )


def nih(pack: Pack) -> tuple[Images, NDArray[np.int32]]:
    """Return all images as model input, and whose each is."""
    folder = SHARED / "data" / "nih_cxr"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = [
        strangers.as_input(
            np.asarray(Image.open(folder / "images" / row["file"]).convert("L")),
            pack.preprocessing,
            "DX",
        )
        for row in rows
    ]
    _, patients = np.unique([row["patient"] for row in rows], return_inverse=True)
    return np.stack(images), patients.astype(np.int32)


# ── lines ───────────────────────────────────────────────────────────────────


def judged(gate: Gate, encoder: Encoder, images: Images, modality: str) -> Outside:
    """Return which images are outside, each by itself."""
    vectors = encoder.embed_images(np.ascontiguousarray(images))
    return gate.distances(vectors, modality) > gate.limit


def line(name: str, out: Outside, cluster: NDArray[np.integer]) -> bool:
    """Print how much of a category was caught; return whether that is enough."""
    caught = clustered_proportion(out, cluster)
    kind = "tuned" if name.startswith(strangers.TUNED) else "held out"
    print(f"  {name:11s} {caught.n:4d}  caught {caught}  {kind}")
    return caught.value >= BAR


def alarms(name: str, out: Outside, cluster: NDArray[np.integer]) -> bool:
    """Print how often validated images were outside; return whether that is rare."""
    wrong = clustered_proportion(out, cluster)
    print(f"  {name}: {wrong}, {wrong.hits} of {wrong.n}")
    return wrong.high <= ALARMS_HIGH


def grey(images: Images) -> Images:
    """Return (N, 3, S, S) of (N, S, S)."""
    return np.repeat(images[:, None], 3, axis=1)


if __name__ == "__main__":
    main()
