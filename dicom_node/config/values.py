"""What stands in the tables of ``pacsight.toml``: how each kind of value is read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)
from pydantic_settings import NoDecode

from dicom_node.domain import Priority
from dicom_node.peers import Peer, Tls

MIB = 1024 * 1024
GIB = 1024 * MIB
DAY_S = 86_400.0

Port = Annotated[int, Field(ge=0, le=65535)]


def parsed_priority(value: object) -> object:
    """Return the `Priority` of that name; one that is made already stays as it is."""
    if isinstance(value, Priority):
        return value
    if isinstance(value, str) and value.upper() in Priority.__members__:
        return Priority[value.upper()]
    raise ValueError("priority has to be stat, routine or backfill")


def parsed_peer(value: object) -> object:
    """Return the table with its priority made from a name, its paths absolute."""
    if not isinstance(value, dict):
        return value
    table = dict(value)
    if table.get("priority") is not None:
        table["priority"] = parsed_priority(table["priority"])
    table = _absolute(table, ["folder"])
    if isinstance(table.get("tls"), dict):
        table["tls"] = _absolute(table["tls"], Tls.__dataclass_fields__)
    return table


def parsed_tls(value: object) -> object:
    """Return the table with its paths absolute."""
    fields = Tls.__dataclass_fields__
    return _absolute(value, fields) if isinstance(value, dict) else value


def _absolute(table: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the table with these keys as absolute paths, where they are texts."""
    paths = {
        key: Path(table[key]).expanduser().absolute()
        for key in keys
        if isinstance(table.get(key), str)
    }
    return {**table, **paths}


def split(value: object) -> object:
    """Return ``a, b`` as a list: the environment writes short lists so."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


NamedPriority = Annotated[Priority, BeforeValidator(parsed_priority)]
PeerTable = Annotated[Peer, BeforeValidator(parsed_peer)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split)]


class Table(BaseModel):
    """A table of ``pacsight.toml``: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True
    )


def _absolute_path(value: Path) -> Path:
    return value.expanduser().absolute()


File = Annotated[Path, AfterValidator(_absolute_path)]
