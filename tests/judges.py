"""The judges: checkers that others wrote, and the warnings that we answer for.

No single one sees every fault: dciodvfy misses wrong relationships and a missing
procedure reported, DCMTK misses absent attributes. The tests assert those.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ALLOWED_WARNINGS = {
    r"CodingSchemeDesignator.*Unrecognized defined term": (
        "dciodvfy: a scheme of ours, a pack or the source, named in Coding Scheme"
        " Identification Sequence"
    ),
    r"CodingSchemeUID.*Unrecognized defined term = <2\.25\.\d+>": (
        "dciodvfy: the UID of our private scheme"
    ),
    r"ContributingEquipmentSequence.*DeviceUID.*not present in standard DICOM IOD": (
        "dciodvfy: a false positive of the 2022 release"
    ),
    r"(StudyDate|StudyTime|StudyID|PatientID).*needed to build DICOMDIR": (
        "dciodvfy: the source has none either, Type 2"
    ),
    r"Laterality.*only permitted to be empty when actually unknown": (
        "dciodvfy: it is unknown, the source says neither body part nor side"
    ),
    r"BodyPartExamined.*Unrecognized defined term": ("dciodvfy: what the source wrote"),
    r"Name\(.*Retired Person Name form": (
        "dciodvfy: the source's name has one component"
    ),
    r"VR checker does not support this Specific Character Set": (
        "dsrdump: it reads the text, and does not check it"
    ),
    r"Reading unknown/unsupported SpecificCharacterSet \(\\*ISO 2022": (
        "dsrdump: it knows no code extensions; only names of the source are in them"
    ),
    r"Check for template constraints not yet supported": (
        "dsrdump: it reads key objects, and does not check TID 2010"
    ),
    r"AccessionNumber.* IE <(Study> versus <Series|Series> versus <Study)>": (
        "dcentvfy: it knows the order's number of an SR in the series, not the study"
    ),
    r'\(\w+,99PACSIGHT,"[^"]*"\)(/\w+ \([^)]*\))*: Content Item not in template': (
        "DicomSRValidator: an item of ours, where the template may be extended"
    ),
    r'"Measurement Group"\)/CODE \([^)]*\): Content Item not in template': (
        "DicomSRValidator: a coded evaluation; TID 1501 may be extended"
    ),
    r"Error: Template 300 .*\[Row (9|10)\] NUM \*.* uncertainty.*found HAS PROPERTIES": (
        "DicomSRValidator: a false positive, it takes an interval of TID 310 for the"
        " numbers that rows 9 and 10 of TID 300 infer from"
    ),
    r"Attribute present in one instance but not the other.*source\.dcm": (
        "dcentvfy: the source lacks a Type 2 attribute, ours have it empty"
    ),
}
"""Warnings that our objects may raise, each with its reason.

A pattern that begins with ``Error`` is for a checker's error that is its own.
"""


def ask(judge: str, *arguments: str | Path) -> str:
    """Return what a checker says."""
    path = tool(judge)
    done = subprocess.run(
        [path, *arguments], capture_output=True, check=False, timeout=60
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode not in {0, 1}:
        pytest.fail(f"{judge} gave up ({done.returncode}): {output}")
    return output


def tool(name: str) -> str:
    """Return where a program that judges lies.

    Where it is not installed the test is skipped, or fails where ``CI=true``. It is
    looked for in /usr/bin: a virtual environment has commands of the same names.
    """
    path = shutil.which(name, path="/usr/bin")
    if path is None:
        reason = f"{name} is not installed (packages dcmtk, dicom3tools, pixelmed-apps)"
        if os.environ.get("CI") == "true":  # noqa: TID251 - a matter of tests only
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a checker found: errors, warnings that nobody has explained, and others.

    Parameters
    ----------
    explained
        The pattern in `ALLOWED_WARNINGS` of each warning that has a reason.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    explained: tuple[str, ...] = ()


def verdict(output: str) -> Verdict:
    """Return what the output of a checker amounts to."""
    errors: list[str] = []
    warnings: list[str] = []
    explained: list[str] = []
    for line in output.splitlines():
        error = line.startswith(("Error", "Abort", "E:", "F:"))
        if not error and not line.startswith(("Warning", "W:")):
            continue
        known = next((p for p in ALLOWED_WARNINGS if re.search(p, line)), None)
        if known is not None and error == known.startswith("Error"):
            explained.append(known)
        else:
            (errors if error else warnings).append(line)
    return Verdict(
        errors=tuple(errors), warnings=tuple(warnings), explained=tuple(explained)
    )


def complaints(output: str) -> list[str]:
    """Return errors, and warnings that nobody has explained."""
    found = verdict(output)
    return [*found.errors, *found.warnings]
