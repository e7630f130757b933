"""Kills the process that imports it at a named point: loaded by the chaos suite alone.

Python imports a module of this name at its start; the suite puts its folder on the
path of the processes it starts, and nobody else does. The code at the point is the
real one. To arm a point is to put a file of its name into the folder CHAOS_POINTS; the
process that next comes by renames it, which one process alone can do, and is gone.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = os.environ.get("CHAOS_POINTS", "")  # noqa: TID251 - set by the suite

POINTS: dict[str, list[tuple[str, str, bool]]] = {
    "dicom_node.spool": [("after-rename", "sync_folder", False)],
    "dicom_node.intake": [("before-response", "Intake.take", True)],
    "dicom_node.recorder": [
        ("before-row", "record", False),
        ("before-commit", "record", True),
    ],
    "dicom_node.dispatch": [("after-publishing", "CeleryDispatcher._send", True)],
    "dicom_node.settling": [("after-sending", "Settling.attempted", False)],
    "workers.pipeline": [
        ("after-composing", "_keep", True),
        ("after-result", "_conclude", True),
    ],
}
"""By module: the point's name, what is called there, and whether it has returned."""


def die_where_armed(point: str) -> None:
    """End this process as SIGKILL does, if that point is armed."""
    try:
        os.rename(f"{FOLDER}/{point}", f"{FOLDER}/{point}.{os.getpid()}")  # noqa: PTH104 - quick
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(
    called: Callable[..., Any], point: str, *, late: bool
) -> Callable[..., Any]:
    @wraps(called)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if not late and not _is_root(args):
            die_where_armed(point)
        value = called(*args, **kwargs)
        if late:
            die_where_armed(point)
        return value

    return wrapper


def _is_root(args: Sequence[Any]) -> bool:
    """Return whether it is the spool's folder that is synced, not one in it."""
    return bool(args) and isinstance(args[0], Path) and args[0].name == "spool"


def _arm(module: ModuleType) -> None:
    for point, name, late in POINTS[module.__name__]:
        *owner, attribute = name.split(".")
        holder: Any = getattr(module, owner[0]) if owner else module
        deadly = _deadly(getattr(holder, attribute), point, late=late)
        setattr(holder, attribute, deadly)


class _Arming(Loader):
    def __init__(self, real: Loader) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        _arm(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in POINTS:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Arming(spec.loader)
        return spec


if FOLDER:
    sys.meta_path.insert(0, _Finder())
