"""Cases to evaluate, made up: scores with a known order, patients with several studies."""

import numpy as np

from workers.evaluating import Cases, Groups, Point, Question


def question(key: str, *, threshold: float = 0.5, calibrated: bool = False) -> Question:
    """Return a finding with one operating point."""
    return Question(
        key=key,
        meaning=key.capitalize(),
        points=(Point(name="sens>=0.95", threshold=threshold),),
        calibrated=calibrated,
        prevalence=0.2 if calibrated else None,
    )


def cases(
    *,
    rows: int = 600,
    findings: tuple[str, ...] = ("effusion", "nodule"),
    calibrated: bool = False,
    seed: int = 0,
) -> Cases:
    """Return studies of half as many patients, scored as log-odds say."""
    rng = np.random.default_rng(seed)
    shape = (rows, len(findings))
    logits = rng.normal(-1, 1.5, size=shape)
    scores = 1 / (1 + np.exp(-logits))
    return Cases(
        questions=tuple(question(key, calibrated=calibrated) for key in findings),
        scores=scores,
        truth=(rng.random(shape) < scores).astype(np.int8),
        values=np.full(shape, np.nan),
        patient=rng.integers(rows // 2, size=rows),
        pack="pack 1.0",
        data="made up",
    )


def groups(rows: int, *, seed: int = 1) -> Groups:
    """Return sex, some of it unknown, and a scanner that next to nobody was on."""
    rng = np.random.default_rng(seed)
    return {
        "sex": tuple(rng.choice(["F", "M", ""], rows, p=[0.5, 0.4, 0.1]).tolist()),
        "scanner": tuple(["rare"] * 5 + ["usual"] * (rows - 5)),
    }
