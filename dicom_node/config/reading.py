"""Reading the settings: the file, the environment over it, faults in a sentence.

``PACSIGHT_DICOM__PORT`` is ``port`` of the table ``[dicom]``; lists and tables are
written in the environment as JSON.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Any

import pydantic_settings
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from dicom_node.access import ServiceToken
from dicom_node.config.rules import PackRuleTable, PriorityRuleTable
from dicom_node.config.settings import NESTED, PREFIX, Settings, setting_names
from dicom_node.errors import SettingsError
from dicom_node.peers import Credentials, Peer, RetryPolicy, Tls

FILE = Path("pacsight.toml")
FILE_VARIABLE = "PACSIGHT_CONFIG"
"""Names the file, where it is not ``pacsight.toml`` in the current folder."""
NOT_SETTINGS = frozenset({FILE_VARIABLE, "PACSIGHT_SHARED"})
"""Variables with our prefix that are no settings; the second one is for tests."""

Tables = dict[str, Any]
"""What file and environment say before it is checked."""


class _Environment(EnvSettingsSource):
    """The environment as a source; another mapping can be given in its place."""

    def __init__(self, environ: Mapping[str, str] | None) -> None:
        self._environ = environ
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        if self._environ is None:
            return super()._load_env_vars()
        return {name.lower(): value for name, value in self._environ.items()}


def load_settings(
    path: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings: the file's, with the environment's in their place.

    Parameters
    ----------
    path
        The file. None for the one that ``PACSIGHT_CONFIG`` names, else for
        ``pacsight.toml`` in the current folder, if there is one.
    environ
        The environment; None for the process's own.

    Raises
    ------
    SettingsError
        If the file cannot be read, a key is unknown or a value does not fit. The
        message names the key; it never repeats the value.
    """
    source = _Environment(environ)
    path = path or _named_file(source.env_vars)
    tables = _read_file(path)
    _check_variables(source.env_vars)
    try:
        tables = _merged(tables, source())
        if "data_dir" not in tables and source.env_vars.get("xdg_data_home"):
            tables["data_dir"] = f"{source.env_vars['xdg_data_home']}/pacsight"
        return Settings(**tables)
    except pydantic_settings.SettingsError as error:
        name = PREFIX + str(error).partition('"')[2].partition('"')[0].upper()
        raise SettingsError(f"{name} has to be JSON: it is a list or table") from None
    except ValidationError as error:
        faults = error.errors(include_input=False)
        # a default that could not be made follows from another fault
        own = [f for f in faults if f["type"] != "default_factory_not_called"]
        raise SettingsError("; ".join(map(_sentence, own))) from None


def _named_file(variables: Mapping[str, str | None]) -> Path | None:
    named = variables.get(FILE_VARIABLE.lower())
    if named:
        return Path(named)
    return FILE if FILE.is_file() else None


def _read_file(path: Path | None) -> Tables:
    if path is None:
        return {}
    if not path.is_file():
        raise SettingsError(f"there is no settings file {path}")
    try:
        return TomlConfigSettingsSource(Settings, path)()
    except RecursionError:
        raise SettingsError(f"{path} nests its values too deep") from None
    except TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error


def _check_variables(variables: Mapping[str, str | None]) -> None:
    """Raise if a variable with our prefix names no setting at the top."""
    for variable in sorted(variables):
        name = variable.upper()
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        top = name.removeprefix(PREFIX).split(NESTED)[0].lower()
        if top not in Settings.model_fields:
            known = [PREFIX + n.upper().replace(".", NESTED) for n in setting_names()]
            raise SettingsError(f"{name} is no setting{_nearest(name, known)}")


def _merged(below: Tables, above: Tables) -> Tables:
    """Return both, tables in depth; where both speak, ``above`` counts."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _sentence(error: ErrorDetails) -> str:
    """Return what is wrong with which key, without the value."""
    where = ""
    for part in error["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f".{part}"
    where = where.removeprefix(".")
    if error["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return f"{where} is no setting{_nearest(where, _known_beside(where))}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}"


def _known_beside(where: str) -> list[str]:
    """Return the names that could have been meant in the place of this one."""
    parent = where.rpartition(".")[0]
    entries: dict[str, Iterable[str]] = {
        "peers": Peer.__dataclass_fields__,
        "peers.retry": RetryPolicy.__dataclass_fields__,
        "peers.tls": Tls.__dataclass_fields__,
        "peers.credentials": Credentials.__dataclass_fields__,
        "http.tokens": ServiceToken.__dataclass_fields__,
        "priority_rules": PriorityRuleTable.model_fields,
        "pack_rules": PackRuleTable.model_fields,
    }
    beside = entries.get(re.sub(r"\[\d+\]", "", parent))
    if beside is not None:
        return [f"{parent}.{key}" for key in beside]
    return [*Settings.model_fields, *setting_names()]


def _nearest(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "; see docs/settings.md"
