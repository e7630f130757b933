"""What to do about each ailment, and the page that says more."""

from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node.doctor.finding import Ailment

OWN_PAGE = "docs/operate/doctor.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to do, in a sentence without its full stop, and where to read on."""

    do: str
    page: str = OWN_PAGE


ADVICE: Mapping[Ailment, Advice] = {
    Ailment.SETTINGS: Advice(do="correct the settings file", page="docs/settings.md"),
    Ailment.FOLDER: Advice(do="make it, or give it to the user that the node runs as"),
    Ailment.DISK_NEARLY_FULL: Advice(
        do="make room: the node refuses instances until then",
        page="docs/operate/full-spool.md",
    ),
    Ailment.DISK_FILLING: Advice(
        do="make room before the node refuses instances",
        page="docs/operate/full-spool.md",
    ),
    Ailment.LEDGER_MISSING: Advice(do="start the node once: it makes the ledger"),
    Ailment.LEDGER_GONE: Advice(do="start the database, or correct ledger_url"),
    Ailment.LEDGER_LOCKED: Advice(
        do="end what keeps it: a backup, a database shell, a hanging process"
    ),
    Ailment.LEDGER_OUTDATED: Advice(
        do="run one version everywhere, and start its node first"
    ),
    Ailment.BROKER_GONE: Advice(
        do="start Redis, or `pacsight up`, which starts a private one",
        page="docs/operate/worker-gone.md",
    ),
    Ailment.NO_WORKER: Advice(
        do="start `pacsight worker`, and read why the last one ended",
        page="docs/operate/worker-gone.md",
    ),
    Ailment.NO_GPU: Advice(
        do="see whether nvidia-smi lists the GPU; or set worker.device to auto"
    ),
    Ailment.PACK: Advice(
        do="install the pack again; nothing is concluded with a damaged one",
        page="docs/packs.md",
    ),
    Ailment.NODE_DOWN: Advice(do="start `pacsight up`, or `pacsight node`"),
    Ailment.PORT_CLOSED: Advice(
        do="start it there, or correct its host and port",
        page="docs/operate/pacs-down.md",
    ),
    Ailment.NO_ANSWER: Advice(
        do="look for a firewall between, and whether it hangs",
        page="docs/operate/pacs-down.md",
    ),
    Ailment.HOST_UNKNOWN: Advice(do="correct its host, or the name server"),
    Ailment.TLS_MISMATCH: Advice(
        do="let both sides agree on TLS: the port, the authority, the name",
        page="docs/operate/certificate.md",
    ),
    Ailment.TITLE_REJECTED: Advice(
        do="enter our AE title and address there, or correct aet and calling_aet",
        page="docs/operate/rejected-association.md",
    ),
    Ailment.BUSY: Advice(do="wait: everything is sent later by itself"),
    Ailment.NO_COMMON_SYNTAX: Advice(
        do="allow it there, or correct the peer's objects and transfer_syntaxes",
        page="docs/settings.md",
    ),
    Ailment.WRONG_TOKEN: Advice(
        do="renew the peer's credentials, or their rights there",
        page="docs/settings.md",
    ),
    Ailment.NOT_A_SERVICE: Advice(
        do="correct the peer's address", page="docs/settings.md"
    ),
    Ailment.LOSES_OBJECTS: Advice(
        do="look at its log and disk: what it lost is sent again",
        page="docs/operate/not-verified.md",
    ),
    Ailment.GIVEN_UP: Advice(
        do="mend the cause, then `pacsight retry --all`",
        page="docs/operate/dead-letter.md",
    ),
    Ailment.NOT_STORED: Advice(
        do="look there why it refuses what we send",
        page="docs/operate/pacs-down.md",
    ),
    Ailment.UNASKED: Advice(do="mend what is broken above, then ask again"),
    Ailment.SLOW: Advice(do="ask again; look whether its machine is overloaded"),
    Ailment.CHECK: Advice(do="report it: the question itself failed"),
}
