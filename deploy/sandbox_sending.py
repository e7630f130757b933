"""Sending as a modality does: DCMTK's dcmsend, or pynetdicom's storescu without it."""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox_services import HOST, SandboxError

DCMSEND = Path("/usr/bin/dcmsend")
"""With its path: inside a venv, pynetdicom installs commands of DCMTK's names."""
AET = "MODALITY"
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Whom to send to."""

    aet: str
    port: int


def send(
    files: Sequence[Path], to: Receiver, *, report: Path, with_dcmsend: bool
) -> None:
    """Send the files over one association.

    Parameters
    ----------
    report
        Where to write what became of each file.

    Raises
    ------
    SandboxError
        Unless the receiver answered every file with success.
    """
    stored = (_dcmsend if with_dcmsend else _storescu)(files, to, report)
    if stored != len(files):
        raise SandboxError(
            f"{to.aet} took {stored} of {len(files)} files of"
            f" {files[0].parent.name}: see {report}"
        )


def _dcmsend(files: Sequence[Path], to: Receiver, report: Path) -> int:
    """Return how many files the report calls stored: the exit status does not say."""
    report.unlink(missing_ok=True)
    command = [
        str(DCMSEND),
        *("--aetitle", AET, "--call", to.aet),
        *("--create-report-file", str(report)),
        *(HOST, str(to.port)),
        *map(str, files),
    ]
    said = _run(command)
    if not report.exists():  # dcmsend writes none where it sent nothing
        report.write_text(said)
    text = report.read_text(errors="replace")
    return len(re.findall(r"^DIMSE Status +: 0x0000 ", text, re.MULTILINE))


def _storescu(files: Sequence[Path], to: Receiver, report: Path) -> int:
    command = [
        *(sys.executable, "-m", "pynetdicom", "storescu", "--verbose"),
        *("--required-contexts", "--recurse"),
        *("--calling-aet", AET, "--called-aet", to.aet),
        *(HOST, str(to.port)),
        str(files[0].parent),
    ]
    said = _run(command)
    report.write_text(said)
    return said.count("Store Response (Status: 0x0000")


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SandboxError(
            f"{command[0]} did not end within {TIMEOUT_S} s: is the receiver stuck?"
        ) from None
    return done.stdout.decode(errors="replace")
