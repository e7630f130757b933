"""What a fitted finding is called, and which images it is for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dicom_node.domain import Urgency
from dicom_node.errors import Permanent
from workers.accepting import Accepts
from workers.asked import Prompts
from workers.pack import Pack

Triple = tuple[str, str, str]

_PARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A finding that is to be fitted.

    Parameters
    ----------
    label
        What the table of labels calls it.
    key, code, site, urgency, accepts, aggregation, prompts
        As in a pack.
    """

    label: str
    key: str
    code: Triple
    site: Triple | None
    urgency: Urgency
    accepts: Accepts | None
    aggregation: str
    prompts: Prompts | None

    def to_json(self) -> dict[str, Any]:
        """Return its part of a pack's entry."""
        entry: dict[str, Any] = {
            "key": self.key,
            "meaning": self.code[2],
            "code": list(self.code),
            "urgency": str(self.urgency),
            "aggregation": self.aggregation,
        }
        if self.site is not None:
            entry["site"] = list(self.site)
        if self.accepts is not None:
            entry["accepts"] = asdict(self.accepts)
        if self.prompts is not None:
            entry["prompts"] = asdict(self.prompts)
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What somebody says of a finding; what they leave open is as in the pack."""

    code: Triple | None = None
    site: Triple | None = None
    urgency: Urgency | None = None
    accepts: Accepts | None = None
    aggregation: str | None = None
    prompts: Prompts | None = None


def asked(pack: Pack, label: str, wishes: Wishes) -> Asked:
    """Return what is to be fitted: a finding that the pack has, or a new one.

    Raises
    ------
    Permanent
        If it is new and nobody says what it is called.
    """
    key = label.strip().casefold().replace(" ", "-")
    known = {spec.key.casefold(): spec for spec in pack.findings}
    spec = known.get(key) or known.get(label.casefold())
    code = wishes.code or (spec.code if spec else None)
    if code is None:
        raise Permanent(
            f"{label!r} is no finding of pack {pack.name}: "
            "say what it is called with --code 'VALUE|SCHEME|MEANING'"
        )
    return Asked(
        label=label,
        key=spec.key if spec else key,
        code=code,
        site=wishes.site or (spec.site if spec else None),
        urgency=wishes.urgency or (spec.urgency if spec else Urgency.ROUTINE),
        accepts=wishes.accepts or (spec.accepts if spec else None),
        aggregation=wishes.aggregation or (spec.aggregation if spec else "max"),
        prompts=wishes.prompts or (spec.prompts if spec else None),
    )


def wishes(
    *,
    code: str | None,
    site: str | None,
    urgency: Urgency | None,
    accept: str | None,
    aggregation: str | None,
    texts: tuple[tuple[str, ...], tuple[str, ...]],
) -> Wishes:
    """Return what the options of a command say; None: they leave it open.

    Parameters
    ----------
    texts
        Of studies with the finding, and of those without it.

    Raises
    ------
    Permanent
        If one of them cannot be read.
    """
    if bool(texts[0]) != bool(texts[1]):
        raise Permanent("texts are needed of studies with the finding, and without it")
    return Wishes(
        code=triple(code) if code else None,
        site=triple(site) if site else None,
        urgency=urgency,
        accepts=accepts(accept) if accept else None,
        aggregation=aggregation,
        prompts=Prompts(positive=texts[0], negative=texts[1]) if texts[0] else None,
    )


def triple(text: str) -> Triple:
    """Return a coded concept of ``VALUE|SCHEME|MEANING``.

    Raises
    ------
    Permanent
        If it is another text.
    """
    parts = tuple(part.strip() for part in text.split("|"))
    if len(parts) != _PARTS or not all(parts):
        raise Permanent(f"{text!r} is no code: write 'VALUE|SCHEME|MEANING'")
    return parts[0], parts[1], parts[2]


def accepts(text: str) -> Accepts:
    """Return the images of ``DX|CR:CHEST``: modalities, and body parts after a colon.

    Raises
    ------
    Permanent
        If no modality is named.
    """
    modality, _, body_part = text.partition(":")
    try:
        return Accepts(
            modality=_listed(modality),
            body_part=_listed(body_part) if body_part else (),
        )
    except ValueError as error:
        raise Permanent(f"{text!r} is no rule: write 'DX|CR:CHEST'") from error


def _listed(text: str) -> tuple[str, ...]:
    names: Sequence[str] = [name.strip().upper() for name in text.split("|")]
    return tuple(name for name in names if name)
