"""Evaluating a pack on 100,000 cached embeddings: 20 findings, 10 groups, every interval.

From the file of embeddings to both files of the report: scored, measured, retrieved,
drawn. Prints wall-clock time, processor time and the highest resident memory. Reading the
labels, 2 million lines, is timed apart.

    python tests/benchmarks/evaluate.py [--rows 100000] [--findings 20] [--keep FOLDER]
"""

import argparse
import resource
import sys
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from dicom_node.domain import EncoderKey
from tests.cohorts import embedded
from tests.packs import make_pack
from workers.cohort import Cohort, read_cohort, write_cohort
from workers.commands.progress import bar
from workers.evaluating import Groups, evaluate
from workers.evaluating.asjson import as_json
from workers.evaluating.page import as_html
from workers.evaluating.retrieving import retrieve
from workers.evaluating.sources import from_pack
from workers.pack import Pack
from workers.trained import LinearWeights

DIMENSION = 1024
MOST_S, MOST_BYTES = 60, 2 << 30
GROUPS = {
    "sex": ("F", "M"),
    "age": ("0-17", "18-39", "40-59", "60-79"),
    "scanner": ("A", "B", "C", "D"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """What is evaluated."""

    pack: Pack
    embeddings: Path
    labels: Path


def main() -> None:
    """Print the figures, and whether they keep what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--findings", type=int, default=20)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        made = _made(Path(scratch), rows=asked.rows, findings=asked.findings)
        began = time.perf_counter()
        cohort = read_cohort(made.labels)
        print(f"labels read: {time.perf_counter() - began:.1f} s")
        _measure(made, cohort, folder)


def _measure(made: Made, cohort: Cohort, folder: Path) -> None:
    began, worked = time.perf_counter(), time.process_time()
    with bar(quiet=False) as progress:
        source = from_pack(made.pack, made.pack.heads, cohort, [made.embeddings])
        rows = len(source.units)
        _tell("scored", began, worked)
        found = evaluate(source.cases, _groups(rows), progress=progress)
        _tell("measured", began, worked)
        if source.library is not None:
            near = retrieve(source.library, source.cases.questions, progress=progress)
            found = replace(found, retrieval=near)
        _tell("retrieved", began, worked)
        page = as_html(found, version="benchmark", progress=progress)
        _tell("drawn", began, worked)
    (folder / "report.html").write_text(page, "utf-8")
    (folder / "evaluation.json").write_text(as_json(found), "utf-8")
    took, spent = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    groups = sum(map(len, GROUPS.values()))
    print(
        f"{rows} studies x {len(found.findings)} findings, {groups} groups: "
        f"{took:.1f} s, of processor {spent:.1f} s, at most {peak / 2**30:.2f} GiB"
    )
    print("passed" if took < MOST_S and peak < MOST_BYTES else "FAILED")


def _tell(what: str, began: float, worked: float) -> None:
    took, spent = time.perf_counter() - began, time.process_time() - worked
    print(f"{what}: after {took:.1f} s, of processor {spent:.1f} s")


def _groups(rows: int) -> Groups:
    rng = np.random.default_rng(1)
    return {
        name: tuple(rng.choice(groups, rows).tolist())
        for name, groups in GROUPS.items()
    }


def _made(folder: Path, *, rows: int, findings: int) -> Made:
    """Write pack, embeddings and labels, in a process whose memory is not counted."""
    names = tuple(f"f{number:02}" for number in range(findings))
    pack = _pack(folder / "pack", names)
    writer = get_context("spawn").Process(
        target=_write, args=(folder, rows, names, pack.encoder_key)
    )
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit(writer.exitcode)
    return Made(
        pack=pack, embeddings=folder / "e.safetensors", labels=folder / "labels.csv"
    )


def _write(folder: Path, rows: int, names: tuple[str, ...], key: EncoderKey) -> None:
    """Write embeddings in which findings are, and labels; one study an image."""
    findings = len(names)
    rng = np.random.default_rng(0)
    truth = rng.random((rows, findings)) < rng.uniform(0.02, 0.3, findings)
    vectors = rng.standard_normal((rows, DIMENSION), dtype=np.float32)
    vectors[:, :findings] += 1.8 * truth
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cohort = _cohort(truth.astype(np.int8), names, rng)
    write_cohort(cohort, folder / "labels.csv")
    embedded(
        folder / "e.safetensors",
        vectors,
        studies=cohort.studies,
        sop_instances=cohort.units,
        key=key,
    )


def _cohort(
    truth: np.ndarray, names: tuple[str, ...], rng: np.random.Generator
) -> Cohort:
    rows = len(truth)
    patients = rows // 2
    return Cohort(
        patients=tuple(f"P{number:06}" for number in range(patients)),
        studies=tuple(f"1.2.{number:06}" for number in range(rows)),
        units=tuple(f"1.3.{number:06}" for number in range(rows)),
        patient=rng.permutation(np.arange(rows) % patients).astype(np.int32),
        study=np.arange(rows, dtype=np.int32),
        findings=names,
        truth=truth,
        values=np.full(truth.shape, np.nan),
        sources=(),
        source=np.full(truth.shape, -1, np.int16),
        roles=(None,) * patients,
    )


def _pack(folder: Path, names: tuple[str, ...]) -> Pack:
    """Return a pack with a linear head for each name, made of a small real one."""
    small = make_pack(folder)
    spec = small.findings[0]
    heads = {}
    for number, name in enumerate(names):
        weight = np.zeros(DIMENSION, np.float32)
        weight[number] = 40.0
        heads[name] = LinearWeights(weight=weight, bias=-3.0)
    specs = tuple(replace(spec, key=name, meaning=f"Finding {name}") for name in names)
    return replace(small, heads=heads, manifest=replace(small.manifest, findings=specs))


if __name__ == "__main__":
    main()
