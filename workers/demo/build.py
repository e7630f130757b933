"""Train-demo: phantoms, then both towers, heads, thresholds, a gate, then a pack.

Five sets of phantoms that share none: the encoder learns from the first, the heads
from the second, thresholds are chosen on the third and their sensitivity and
specificity measured on the fourth, and the fifth is what the gate lets through.
Everything follows from the seed: on one machine, with one torch and one number of
threads, the weights come out the same to the bit.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dicom_node.errors import SettingsError
from workers.demo.catalogue import (
    ACCEPTS,
    CATALOGUE,
    MEAN,
    POINT,
    SENSITIVITY,
    SIZE_PX,
    STATEMENT,
    STD,
    Entry,
    model_config,
)
from workers.demo.gate import FILE as GATE
from workers.demo.gate import demo_gate, demo_orders, gate_spec
from workers.demo.heads import by_study, fit_head, sigmoid
from workers.demo.lessons import lessons, rephrasings
from workers.demo.roc import area, curve, proportion, stated
from workers.demo.samples import (
    FINDINGS,
    Order,
    Samples,
    Sizes,
    orders,
    orders_to_learn,
    render,
)
from workers.demo.texts import PROMPTS
from workers.gate import encode_gate
from workers.measures import threshold_at_sensitivity
from workers.medimageinsight import Tokenizer
from workers.medimageinsight.training import (
    Lessons,
    Normalisation,
    Plan,
    embed_images,
    save_half,
    train,
)
from workers.pack import Pack, seal
from workers.phantoms import CT_WINDOW_HU, PERCENTILES

Progress = Callable[[str], None]

VERSION: Final = "1.1.0"
SEEDS_PER_SET: Final = 1_000_000
SEEDS_PER_RUN: Final = 10 * SEEDS_PER_SET
"""Seeds that a run of train-demo sets aside for itself, counted from run times this."""

_SIZES = Sizes(encoder=SIZE_PX, chest=144, head=144)
_NORMALISATION = Normalisation(mean=MEAN, std=STD)
_TOKENIZER = Path(__file__).parents[1] / "packs" / "phantoms" / "tokenizer"
_ROC_POINTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How much is drawn and learned.

    Parameters
    ----------
    learn
        Chests with any findings, and phantoms of each head kind, for the encoder.
    fit, tune, test, gate
        Phantoms of each chest kind and of each head kind, for the heads, the
        thresholds and their figures, and the gate.
    steps, chests, heads
        Batches, and images of each in one.
    text_steps, texts
        Batches of texts alone that come before, and pairs of texts in one.
    locked
        Share of the steps in which the text tower stays as it is.
    slices
        Of a head that is measured.
    threads
        That learn; the weights depend on it in their last bits.
    """

    learn: tuple[int, int] = (9000, 1000)
    fit: tuple[int, int] = (300, 300)
    tune: tuple[int, int] = (250, 250)
    test: tuple[int, int] = (250, 250)
    gate: tuple[int, int] = (320, 150)
    steps: int = 3600
    text_steps: int = 150
    texts: int = 40
    locked: float = 0.8
    chests: int = 40
    heads: int = 12
    slices: int = 12
    learning_rate: float = 3e-3
    threads: int = 2


def train_demo(
    *,
    out: Path,
    progress: Progress,
    seed: int = 0,
    processes: int = 2,
    recipe: Recipe | None = None,
) -> Pack:
    """Return the pack that was written to `out`, trained from nothing but `seed`.

    Parameters
    ----------
    out
        A folder that does not exist yet, or is empty.
    progress
        Told in a line of text what is being done.
    processes
        That draw phantoms at the same time; the result does not depend on it.

    Raises
    ------
    SettingsError
        If there is something in `out` already.
    """
    if out.exists() and any(out.iterdir()):
        raise SettingsError(
            f"{out} is not empty: a pack is made in a folder of its own"
        )
    run = _Run(recipe or Recipe(), seed * SEEDS_PER_RUN, processes, progress)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_TOKENIZER, out / "tokenizer")
    encoder = run.encoder(out, seed)
    heads, evidence = run.heads(encoder)
    save_file(
        {name: value for key in heads for name, value in _tensors(key, *heads[key])},
        out / "heads.safetensors",
    )
    gate = run.gate(out, encoder, seed)
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)
    return seal(out, _manifest(encoder, evidence, run) | {"gate": gate})


@dataclass(frozen=True, slots=True)
class _Encoder:
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    config: dict[str, Any]
    dimension: int


@dataclass(frozen=True, slots=True)
class _Run:
    recipe: Recipe
    first_seed: int
    processes: int
    progress: Progress

    def samples(self, split: int, counts: tuple[int, int], *, slices: int) -> Samples:
        first = self.first_seed + split * SEEDS_PER_SET
        return self._drawn(split, orders(counts, first, _SIZES, slices=slices))

    def to_learn(self) -> Samples:
        wanted = orders_to_learn(self.recipe.learn, self.first_seed, _SIZES)
        return self._drawn(0, wanted)

    def _drawn(self, split: int, wanted: list[Order]) -> Samples:
        self.progress(f"drawing {len(wanted)} phantoms, set {split + 1} of 5")
        return render(wanted, processes=self.processes)

    def encoder(self, out: Path, seed: int) -> _Encoder:
        """Learn both towers and write their weights."""
        recipe = self.recipe
        tokenizer = Tokenizer.load(_TOKENIZER)
        config = model_config(tokenizer.vocabulary)
        samples = self.to_learn()
        batches = lessons(samples, chests=recipe.chests, heads=recipe.heads, seed=seed)
        plan = Plan(
            steps=recipe.steps,
            text_steps=recipe.text_steps,
            locked=recipe.locked,
            learning_rate=recipe.learning_rate,
            threads=recipe.threads,
            seed=seed,
        )
        model = train(
            config,
            tokenizer,
            Lessons(
                batches=batches,
                rephrasings=rephrasings(count=recipe.texts, seed=seed),
            ),
            plan,
            normalisation=_NORMALISATION,
            progress=self._step,
        )
        model = save_half(model, out / "weights.safetensors")
        return _Encoder(
            embed=lambda images: embed_images(model, images, _NORMALISATION),
            config=asdict(config),
            dimension=config.embedding,
        )

    def heads(
        self, encoder: _Encoder
    ) -> tuple[dict[str, tuple[NDArray[np.float64], float]], dict[str, dict[str, Any]]]:
        """Fit a head for each finding, choose its threshold, measure it."""
        recipe = self.recipe
        fit = self.samples(1, recipe.fit, slices=0)
        embedded = encoder.embed(fit.images)
        heads = {
            entry.key: fit_head(
                embedded[rows], fit.shown[rows, FINDINGS.index(entry.key)]
            )
            for entry in CATALOGUE
            for rows in [fit.head[fit.study] == entry.about_head]
        }
        tune = self.samples(2, recipe.tune, slices=recipe.slices)
        test = self.samples(3, recipe.test, slices=recipe.slices)
        seen = [(split, encoder.embed(split.images)) for split in (tune, test)]
        evidence = {
            entry.key: _operating_point(
                *starmap(_Scored.of(entry, heads[entry.key]), seen)
            )
            for entry in CATALOGUE
        }
        return heads, evidence

    def gate(self, out: Path, encoder: _Encoder, seed: int) -> dict[str, Any]:
        """Fit the gate, write it, and return what the manifest says of it."""
        recipe, first = self.recipe, self.first_seed + 4 * SEEDS_PER_SET
        wanted = demo_orders(recipe.gate, first, slices=recipe.slices)
        samples = self._drawn(4, wanted)
        gate = demo_gate(samples, encoder.embed, seed=seed)
        (out / GATE).write_bytes(encode_gate(gate))
        return gate_spec(gate, samples, first)

    def _step(self, step: int, steps: int, loss: float) -> None:
        if step % 50 == 0 or step == steps:
            self.progress(f"learning, step {step} of {steps}, loss {loss:.3f}")


@dataclass(frozen=True, slots=True)
class _Scored:
    scores: NDArray[np.float64]
    truth: NDArray[np.bool_]

    @staticmethod
    def of(
        entry: Entry, head: tuple[NDArray[np.float64], float]
    ) -> Callable[[Samples, NDArray[np.float32]], "_Scored"]:
        weight, bias = head

        def score(samples: Samples, embedded: NDArray[np.float32]) -> _Scored:
            studies = np.flatnonzero(samples.head == entry.about_head)
            scores = sigmoid(embedded @ weight + bias)
            return _Scored(
                by_study(scores, samples, studies.tolist()),
                samples.truth[studies, FINDINGS.index(entry.key)],
            )

        return score


def _operating_point(tune: _Scored, test: _Scored) -> dict[str, Any]:
    threshold = threshold_at_sensitivity(
        tune.scores, tune.truth, sensitivity=SENSITIVITY
    )
    flagged = test.scores >= threshold
    positive, negative = int(test.truth.sum()), int((~test.truth).sum())
    sensitivity = proportion(flagged[test.truth])
    specificity = proportion(~flagged[~test.truth])
    return {
        "name": POINT,
        "threshold": threshold,
        "evidence": {
            "tuned_on": "phantoms that neither encoder nor head had seen",
            "tuned_n_positive": int(tune.truth.sum()),
            "tuned_n_negative": int((~tune.truth).sum()),
            "measured_on": "other phantoms, seen by nothing before",
            "n_positive": positive,
            "n_negative": negative,
            "sensitivity": stated(sensitivity),
            "specificity": stated(specificity),
            "auc": stated(area(test.scores, test.truth)),
            "roc": curve(tune.scores, tune.truth, points=_ROC_POINTS),
        },
    }


def _tensors(
    key: str, weight: NDArray[np.float64], bias: float
) -> list[tuple[str, NDArray[np.float32]]]:
    return [
        (f"{key}.weight", weight.astype(np.float32)),
        (f"{key}.bias", np.array([bias], np.float32)),
    ]


def _manifest(
    encoder: _Encoder, evidence: dict[str, dict[str, Any]], run: _Run
) -> dict[str, Any]:
    first, count = run.first_seed, max(run.recipe.learn)
    center, width = CT_WINDOW_HU
    low, high = PERCENTILES
    percentiles = {"kind": "percentiles", "low": low, "high": high}
    window = {"kind": "window", "center": center, "width": width}
    return {
        "format": 1,
        "name": "phantoms",
        "version": VERSION,
        "title": "Synthetic phantoms",
        "synthetic": True,
        "statement": STATEMENT,
        "encoder": {
            "config": encoder.config,
            "weights": "weights.safetensors",
            "dtype": "float16",
            "numeric_profile": "float32",
            "embedding_dim": encoder.dimension,
            "tokenizer": "tokenizer",
            "training_data": [
                f"pacsight phantoms, seeds {first} to {first + count - 1}"
            ],
        },
        "preprocessing": {
            "name": "phantoms-1",
            "size": SIZE_PX,
            "intensity": [
                {"modality": ["CT"], "method": window},
                {"modality": [], "method": percentiles},
            ],
            "mean": list(MEAN),
            "std": list(STD),
        },
        "accepts": list(ACCEPTS),
        "findings": [_finding(entry, evidence[entry.key]) for entry in CATALOGUE],
        "threshold_set": {"name": "phantoms-1", "created": "2025-01-01"},
    }


def _finding(entry: Entry, operating_point: dict[str, Any]) -> dict[str, Any]:
    prompts = PROMPTS[entry.key]
    return {
        "key": entry.key,
        "meaning": entry.code[2],
        "code": list(entry.code),
        "site": list(entry.site),
        "urgency": entry.urgency,
        "accepts": entry.accepts,
        "aggregation": "max",
        "head": {"kind": "linear", "weights": "heads.safetensors", "key": entry.key},
        "prompts": {
            "positive": list(prompts.positive),
            "negative": list(prompts.negative),
        },
        "operating_point": operating_point,
    }
