"""The sandbox's ``pacsight.toml``: a small site, as an example of settings."""

import json
from pathlib import Path

from sandbox_services import Ports

SETTINGS = """\
# A small site, written by `make sandbox`. docs/settings.md has every setting.

site = "sandbox"
data_dir = {data_dir}    # spool, ledger and outbox
packs = ["phantoms"]     # what concludes studies: the demonstration pack

[dicom]
aet = "PACSIGHT"
host = "127.0.0.1"       # this machine alone; docs/access-dicom.md for a real site
port = {node_dicom}

[http]
host = "127.0.0.1"
port = {node_http}

[spool]
min_free_bytes = 268435456     # a laptop's disk: refuse below 256 MiB

[study]
quiet_period_s = 2.0           # complete when nothing has come for so long,
expected_quiet_period_s = 1.0  # or so long, once all that the PACS has is here

[[priority_rules]]       # whatever is sent to this title overtakes the rest
called_aet = "PACSIGHT_STAT"
priority = "stat"

[[peers]]                # who may send
name = "modality"
aet = "MODALITY"
rights = ["send"]
"""

TO_ORTHANC = """
[[peers]]                # where reports go, and who knows how many images there are
name = "orthanc"
aet = "ORTHANC"
host = "127.0.0.1"
port = {orthanc_dicom}
rights = ["send", "destination"]
via = "dimse"
dicomweb = "http://127.0.0.1:{orthanc_http}/dicom-web"
expected = "qido"
"""

TO_FOLDER = """
[[peers]]                # where reports go: without a PACS, into a folder
name = "results"
rights = ["destination"]
via = "folder"
folder = {results}
"""


def write_settings(folder: Path, ports: Ports, *, with_orthanc: bool) -> Path:
    """Return the settings file, written into the folder.

    Parameters
    ----------
    with_orthanc
        Whether reports go to Orthanc, or else into a folder.
    """
    text = (SETTINGS + (TO_ORTHANC if with_orthanc else TO_FOLDER)).format(
        data_dir=json.dumps(str(folder / "data")),
        results=json.dumps(str(folder / "results")),
        node_dicom=ports.node_dicom,
        node_http=ports.node_http,
        orthanc_dicom=ports.orthanc_dicom,
        orthanc_http=ports.orthanc_http,
    )
    path = folder / "pacsight.toml"
    path.write_text(text, encoding="utf-8")
    return path
