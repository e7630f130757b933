"""What ``pacsight threshold set`` does: options become a rule, files samples, both a set."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.config import Settings
from dicom_node.errors import Permanent
from workers.asked import FindingSpec
from workers.cohort import (
    Cohort,
    Role,
    ScoreTable,
    check_encoder,
    join,
    read_cohort,
    read_embeddings,
    read_scores,
)
from workers.heads import Heads, heads_of
from workers.headspecs import asks_prompts
from workers.inforce import threshold_store
from workers.measures import predictive
from workers.operating import Order, check_apart, drafted, sample_of, spec_of
from workers.pack import Pack, locate, open_pack
from workers.scoring import score_studies
from workers.thresholds.choosing import Wish, choose
from workers.thresholds.rules import (
    PositivePredictive,
    Rule,
    RuleInOut,
    Sensitivity,
    Specificity,
    Youden,
)
from workers.thresholds.samples import Sample
from workers.thresholds.sets import Evidence, Mode, ThresholdSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options that say what a threshold has to reach."""

    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    prevalence: float | None
    youden: bool
    rule_in_specificity: float | None
    rule_out_sensitivity: float | None
    confidence: float | None
    allow_undemonstrated: bool
    mode: Mode | None
    seed: int
    runs: int

    @property
    def rule(self) -> Rule:
        """Return the one rule that they name.

        Raises
        ------
        Permanent
            If they name none, or several.
        """
        rules = list(self._rules())
        if len(rules) != 1:
            raise Permanent(
                "name one target: --sensitivity, --specificity, --ppv with --prevalence, "
                "--youden, or --rule-in-specificity with --rule-out-sensitivity"
            )
        return rules[0]

    def _rules(self) -> Iterator[Rule]:
        if self.sensitivity is not None:
            yield Sensitivity(at_least=self.sensitivity)
        if self.specificity is not None:
            yield Specificity(at_least=self.specificity)
        if self.ppv is not None:
            if self.prevalence is None:
                raise Permanent("a PPV is one at a prevalence: name it by --prevalence")
            yield PositivePredictive(at_least=self.ppv, prevalence=self.prevalence)
        if self.youden:
            yield Youden()
        pair = (self.rule_in_specificity, self.rule_out_sensitivity)
        if pair != (None, None):
            inside, outside = pair
            if inside is None or outside is None:
                raise Permanent(
                    "a pair needs both --rule-in-specificity and --rule-out-sensitivity"
                )
            yield RuleInOut(
                rule_in=Specificity(at_least=inside),
                rule_out=Sensitivity(at_least=outside),
            )

    @property
    def stated(self) -> dict[str, str | float | int | bool]:
        """Return the options that were given, for the evidence."""
        values: dict[str, str | float | int | bool | None] = asdict(self)
        return {k: v for k, v in values.items() if v is not None and v is not False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the studies come from: scores, or labels and embeddings."""

    scores: Path | None
    judge: Path | None
    data: Path | None
    embeddings: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A new set, and what a person has to know of it."""

    set: ThresholdSet
    finding: str
    path: Path
    pack: str
    prevalence: float

    @property
    def _evidence(self) -> Evidence:
        evidence = self.set.points[self.finding].evidence
        if evidence is None:
            raise ValueError("a threshold that was chosen has its evidence")
        return evidence

    @property
    def alarms_per_100(self) -> float:
        """Return how many of 100 studies would be flagged at the prevalence."""
        return predictive(
            self._evidence.sensitivity.value,
            self._evidence.specificity.value,
            self.prevalence,
        ).alarms_per_100

    def to_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        point = self.set.points[self.finding]
        evidence = {k: v for k, v in asdict(self._evidence).items() if k != "roc"}
        return {
            "set": self.set.label,
            "digest": self.set.digest,
            "file": str(self.path),
            "pack": self.set.pack,
            "finding": self.finding,
            "operating_point": point.name,
            "threshold": point.threshold,
            "rule_out": point.rule_out,
            "mode": point.mode,
            "demonstrated": point.demonstrated,
            "prevalence": self.prevalence,
            "alarms_per_100": self.alarms_per_100,
            "evidence": evidence,
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        point, evidence = self.set.points[self.finding], self._evidence
        yield f"{self.set.label} of {self.set.pack} {self.set.pack_version}: {self.path}"
        yield f"  {self.finding}, {point.name}, {point.mode}"
        yield f"  threshold      {point.threshold:.6g}"
        if point.rule_out is not None:
            yield f"  ruled out      below {point.rule_out:.6g}"
            yield f"  indeterminate  {evidence.indeterminate or 0.0:.1%} of the studies"
        yield f"  chosen on      {evidence.chosen_on}"
        yield f"  measured       {evidence.split}"
        yield f"  measured on    {evidence.measured_on}"
        yield f"  sensitivity    {evidence.sensitivity}"
        yield f"  specificity    {evidence.specificity}"
        if evidence.rule_out_sensitivity is not None:
            yield f"  not ruled out  {evidence.rule_out_sensitivity} with the finding"
        if point.demonstrated is not None:
            yield f"  demonstrated   {evidence.verdict(shown=point.demonstrated)}"
        at = f"at a prevalence of {self.prevalence:.3g}"
        yield f"  alarms         {self.alarms_per_100:.1f} per 100 studies {at}"
        yield "It is not in force. Next:"
        yield f"  pacsight threshold show {self.set.pack} {self.set.label}"
        yield f"  pacsight threshold activate {self.pack} {self.set.label}"


def set_threshold(
    name_or_path: str,
    finding: str,
    *,
    name: str,
    asked: Asked,
    sources: Sources,
    settings: Settings,
) -> Made:
    """Return a new set, in which the threshold of one finding is chosen anew.

    Raises
    ------
    Permanent
        If anything is not as it should be; nothing is written then.
    """
    wish = Wish(
        finding=finding,
        rule=asked.rule,
        confidence=asked.confidence,
        allow_undemonstrated=asked.allow_undemonstrated,
        seed=asked.seed,
        runs=asked.runs,
    )
    pack = open_pack(locate(name_or_path))
    sample, judge = _samples(pack, spec_of(pack, finding), sources)
    chosen = choose(wish, sample, judge)
    order = Order(name=name, wish=wish, mode=asked.mode, parameters=asked.stated)
    store = threshold_store(settings)
    new = drafted(pack, order, chosen, store=store, now=datetime.now(UTC))
    store.add(new)
    return Made(
        set=new,
        finding=finding,
        path=store.path(new.pack, new.label),
        pack=name_or_path,
        prevalence=asked.prevalence or chosen.measured_on.share,
    )


def _samples(
    pack: Pack, spec: FindingSpec, sources: Sources
) -> tuple[Sample, Sample | None]:
    """Return the studies that choose, and those that judge; None: by folds."""
    match sources:
        case Sources(scores=Path() as scores, judge=judge, data=None, embeddings=None):
            return _of_scores(pack, spec, scores, judge)
        case Sources(
            scores=None, judge=None, data=Path() as data, embeddings=Path() as vectors
        ):
            return _of_data(pack, spec, data, vectors)
    raise Permanent(
        "name --scores (and --judge), or --data and --embeddings: a threshold is "
        "chosen on one of the two"
    )


def _of_scores(
    pack: Pack, spec: FindingSpec, path: Path, judge: Path | None
) -> tuple[Sample, Sample | None]:
    table = read_scores(path)
    sample = sample_of(table, pack, spec, path)
    if judge is not None:
        other = read_scores(judge)
        check_apart(table, other)
        return sample, sample_of(other, pack, spec, judge)
    if sample.fold is None:
        raise Permanent(
            f"{path} holds scores of one set of patients, without folds: name another "
            "set by --judge, because nothing is judged on what chose it"
        )
    return sample, None


def _of_data(
    pack: Pack, spec: FindingSpec, labels: Path, embeddings: Path
) -> tuple[Sample, Sample]:
    cohort, vectors = read_cohort(labels), read_embeddings(embeddings)
    check_encoder(vectors, pack.encoder_key, pack.name)
    examples = join(cohort, vectors, need=[spec.key])
    table = score_studies(pack, _heads(pack, spec), examples, data=cohort.digest)
    tune, test = (
        sample_of(_in_role(table, cohort, role), pack, spec, labels)
        for role in (Role.TUNE, Role.TEST)
    )
    return tune, test


def _in_role(table: ScoreTable, cohort: Cohort, role: Role) -> ScoreTable:
    """Return the studies of patients with a role."""
    has = np.array([one is role for one in cohort.roles], dtype=np.bool_)
    rows = np.flatnonzero(has[table.patient])
    if not rows.size:
        raise Permanent(
            f"{cohort.origin} has no patient with the role {role}: `pacsight data split` "
            "assigns roles, or name --scores"
        )
    return replace(
        table,
        scores=table.scores[rows],
        truth=table.truth[rows],
        values=table.values[rows],
        patient=table.patient[rows],
        units=tuple(table.units[row] for row in rows),
        fold=table.fold[rows],
    )


def _heads(pack: Pack, spec: FindingSpec) -> Heads:
    """Return the pack's heads; without prompts no model is needed."""
    if not asks_prompts(spec.head):
        return pack.heads
    from workers.encoder import open_encoder  # torch takes its time

    return heads_of(pack, open_encoder(pack, device="cpu"))
