"""The story of ``pacsight evaluate``: read, measure, compare, write both files."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dicom_node.errors import Permanent
from workers.cohort import Cohort, read_cohort
from workers.encoder import open_encoder
from workers.evaluating.asjson import as_json
from workers.evaluating.asked import Groups
from workers.evaluating.attributes import groups_of, read_attributes
from workers.evaluating.beside import seen_beside, with_headers
from workers.evaluating.comparing import compare
from workers.evaluating.figures import Evaluation
from workers.evaluating.measuring import Progress, evaluate
from workers.evaluating.page import as_html
from workers.evaluating.probed import probed
from workers.evaluating.retrieving import retrieve
from workers.evaluating.rules import PREVALENCES
from workers.evaluating.sources import Source, from_pack, from_scores, on_the_same_rows
from workers.heads import Heads, heads_of
from workers.headspecs import asks_prompts
from workers.pack import Pack, locate, open_pack

REPORT, FIGURES = "report.html", "evaluation.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for.

    Parameters
    ----------
    pack
        Name or folder; "" where only scores are there.
    compare
        Two packs, or two files of scores: the first is evaluated.
    images
        Files and folders, for probes for shortcuts; empty: none are made.
    prevalences
        Empty: those of the rules.
    repoint
        Puts a pack at the thresholds that are asked for; None: at its own.
    """

    pack: str = ""
    scores: Path | None = None
    data: Path | None = None
    embeddings: tuple[Path, ...] = ()
    groups: Path | None = None
    images: tuple[Path, ...] = ()
    compare: tuple[str, str] | None = None
    prevalences: tuple[float, ...] = ()
    seed: int = 0
    repoint: Callable[[Pack], Pack] | None = None

    def __post_init__(self) -> None:
        if any(not 0 < share < 1 for share in self.prevalences):
            raise Permanent("a prevalence lies between 0 and 1")
        if self.compare and (self.pack or self.scores):
            raise Permanent("--compare A B names both packs: name no other")
        if not (self.pack or self.scores or self.compare):
            raise Permanent("name a pack, --scores, or --compare A B")
        if self.repoint and not (self.pack or self.compare):
            raise Permanent("a threshold set is of a pack: name the pack, too")

    def at(self, pack: Pack) -> Pack | None:
        """Return a pack at the thresholds that are asked for; None: at its own."""
        return self.repoint(pack) if self.repoint else None


def told(order: Order, folder: Path, *, version: str, progress: Progress) -> Evaluation:
    """Return the evaluation whose report and figures were written into `folder`.

    Raises
    ------
    Permanent
        If what is asked for cannot be read, or does not go together.
    """
    made = evaluated(order, progress=progress)
    page = as_html(made, version=version, progress=progress)
    (folder / FIGURES).write_text(as_json(made), encoding="utf-8")
    (folder / REPORT).write_text(page, encoding="utf-8")
    return made


def evaluated(order: Order, *, progress: Progress) -> Evaluation:
    """Return what was measured.

    Raises
    ------
    Permanent
        If what is asked for cannot be read, or does not go together.
    """
    cohort = read_cohort(order.data) if order.data else None
    first, second = order.compare or (order.pack, "")
    source = _source(first, order, cohort)
    cases, groups = source.cases, _groups(order, source)
    beside = None
    if order.images:
        beside = seen_beside(source, order.images, order.groups, progress=progress)
        groups = with_headers(groups, beside.attributes)
    made = evaluate(
        cases,
        groups,
        prevalences=order.prevalences or PREVALENCES,
        progress=progress,
    )
    if source.library is not None:
        found = retrieve(
            source.library, cases.questions, seed=order.seed, progress=progress
        )
        made = replace(made, retrieval=found)
    if beside is not None:
        made = replace(
            made,
            shortcuts=probed(
                cases, source.fold, beside, seed=order.seed, progress=progress
            ),
        )
    if second:
        other = _source(second, order, cohort)
        pair = on_the_same_rows(source, other)
        names = (cases.pack, other.cases.pack)
        made = replace(made, comparison=compare(*pair, names=names))
    return made


def _source(name: str, order: Order, cohort: Cohort | None) -> Source:
    if order.scores is not None:
        if not name:
            return from_scores(order.scores, None)
        pack = open_pack(locate(name))
        return from_scores(order.scores, pack, at=order.at(pack))
    if Path(name).is_file():
        if order.repoint:
            raise Permanent(f"{name} is no pack: it has no threshold set")
        return from_scores(Path(name), None)
    if cohort is None or not order.embeddings:
        raise Permanent(
            "a pack is evaluated on --data and --embeddings, or on --scores"
        )
    pack = open_pack(locate(name))
    heads = _heads(pack)
    return from_pack(pack, heads, cohort, order.embeddings, at=order.at(pack))


def _heads(pack: Pack) -> Heads:
    """Return the heads; the encoder is only opened where prompts have to be embedded."""
    if any(asks_prompts(spec.head) for spec in pack.findings):
        return heads_of(pack, open_encoder(pack))
    return pack.heads


def _groups(order: Order, source: Source) -> Groups:
    if order.groups is None:
        return {}
    return groups_of(read_attributes(order.groups), source)
