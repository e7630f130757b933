"""The folders: whether they can be written, and how much room is left."""

import os
from pathlib import Path

from dicom_node.doctor.finding import Ailment, Finding, Hop

GIB = 1024**3
FILLING = 2.0
"""So many times the room that has to be left is little."""


def look_at_folder(who: str, folder: Path, *, min_free_bytes: int) -> list[Finding]:
    """Return whether a folder can be used, and whether its disk has room.

    Parameters
    ----------
    min_free_bytes
        Below it the node refuses instances.
    """

    def told(said: str, ailment: Ailment | None = None) -> list[Finding]:
        return [Finding(hop=Hop.FOLDERS, who=who, said=said, ailment=ailment)]

    if not folder.is_dir():
        return told(f"there is no folder {folder}", Ailment.FOLDER)
    if not os.access(folder, os.W_OK | os.X_OK):
        return told(f"{folder} cannot be written by this user", Ailment.FOLDER)
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    room = f"{_size(free)} free on the disk of {folder}"
    if free < min_free_bytes:
        said = f"only {room}, {_size(min_free_bytes)} have to be"
        return told(said, Ailment.DISK_NEARLY_FULL)
    if free < FILLING * min_free_bytes:
        return told(f"only {room}", Ailment.DISK_FILLING)
    return told(room)


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
