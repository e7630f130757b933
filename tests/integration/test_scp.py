"""The DIMSE front door, from the wire: DCMTK and pynetdicom as senders."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]

from dicom_node.domain import Analysis, FrontDoor, Origin
from dicom_node.errors import CANNOT_UNDERSTAND, DATASET_MISMATCH, OUT_OF_RESOURCES
from dicom_node.hearing import Listener
from dicom_node.scp import StorageScp
from tests.receiving import (
    STUDY,
    House,
    bundled,
    data_set_of,
    house,
    part10,
    running,
)

DCMTK = Path("/usr/bin")
PRIVATE_CLASS = UID("1.3.12.2.1107.5.9.1")
PRIVATE_SYNTAX = UID("1.2.840.113619.5.99")

pytestmark = pytest.mark.skipif(
    not (DCMTK / "dcmsend").exists(), reason="DCMTK is not installed"
)


@pytest.fixture
def home(tmp_path: Path) -> House:
    """Return an empty spool with an intake before it."""
    return house(tmp_path)


@pytest.fixture
def scp(home: House) -> Iterator[StorageScp]:
    """Return a running SCP before the intake that hears anybody."""
    with running(StorageScp(Listener(), home.intake)) as server:
        yield server


def dcmtk(
    tool: str, scp: StorageScp, *words: str, files: Sequence[Path] = ()
) -> subprocess.CompletedProcess[str]:
    """Return how one of DCMTK's tools went."""
    return subprocess.run(
        [DCMTK / tool, *words, "127.0.0.1", str(scp.port), *files],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def associate(scp: StorageScp, *contexts: tuple[str, list[str]]) -> Association:
    """Return an association that proposes these classes and syntaxes."""
    ae = AE(ae_title="MODALITY")
    for sop_class, syntaxes in contexts:
        ae.add_requested_context(sop_class, syntaxes)
    association = ae.associate("127.0.0.1", scp.port, ae_title="PACSIGHT")
    assert association.is_established
    return association


def store(association: Association, content: bytes) -> Dataset:
    """Return the response to a C-STORE of a file with this content."""
    return association.send_c_store(pydicom.dcmread(BytesIO(content)))


def store_bytes(scp: StorageScp, content: bytes, folder: Path) -> Dataset:
    """Return the response to a C-STORE of these bytes, as they are.

    The command takes its UIDs from the File Meta Information.
    """
    file = folder / "sent.dcm"
    file.write_bytes(content)
    association = associate(scp, (CTImageStorage, [ExplicitVRLittleEndian]))
    with pytest.MonkeyPatch.context() as settings:
        settings.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
        answer = association.send_c_store(file)
    association.release()
    return answer


def settled(condition: Callable[[], bool]) -> bool:
    """Return whether the condition comes true soon."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def test_echo(scp: StorageScp) -> None:
    """C-ECHO is answered with success."""
    assert dcmtk("echoscu", scp).returncode == 0


def test_a_folder_of_everything_arrives_byte_by_byte(
    home: House, scp: StorageScp
) -> None:
    """Compressed, multi-frame, SR, waveform: each data set lies there as it was sent."""
    names = [
        *("JPEG2000.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "test-SR.dcm"),
        *("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle_2frame.dcm"),
        *("CT_small.dcm", "rtdose.dcm"),
    ]
    files = [bundled(name) for name in names]
    words = ["-aet", "CT_ER", "--no-uid-checks", "--decompress-never"]
    sent = dcmtk("dcmsend", scp, *words, files=files)
    assert sent.returncode == 0, sent.stderr
    by_uid = {r.header.sop_instance_uid: r for r in home.books.received}
    assert len(by_uid) == len(names)
    for file in files:
        sent_data_set = pydicom.dcmread(file)
        received = by_uid[sent_data_set.SOPInstanceUID]
        kept = pydicom.dcmread(home.spool.path(received.path))
        syntax = sent_data_set.file_meta.TransferSyntaxUID
        accepted = received.header.transfer_syntax_uid
        assert accepted == kept.file_meta.TransferSyntaxUID
        if syntax.is_compressed:
            assert accepted == syntax
        assert sent_data_set.get("PixelData") == kept.get("PixelData")


def test_the_bytes_are_those_of_the_wire(home: House, scp: StorageScp) -> None:
    """What pynetdicom sends as it is, is what lies in the spool."""
    content = part10()
    association = associate(scp, (CTImageStorage, [ExplicitVRLittleEndian]))
    assert store(association, content).Status == 0x0000
    association.release()
    (received,) = home.books.received
    kept = home.spool.path(received.path).read_bytes()
    assert data_set_of(content) == data_set_of(kept)
    assert received.origin == Origin(
        door=FrontDoor.DIMSE,
        calling_aet="MODALITY",
        called_aet="PACSIGHT",
        address="127.0.0.1",
    )
    assert home.incoming == []


def test_an_unknown_class(home: House, scp: StorageScp) -> None:
    """A private storage class is taken in, and looked at if it has pixels."""
    association = associate(scp, (PRIVATE_CLASS, [ExplicitVRLittleEndian]))
    answer = store(association, part10(SOPClassUID=PRIVATE_CLASS))
    association.release()
    assert answer.Status == 0x0000
    assert home.books.received[0].header.analysis == Analysis.IMAGE


def test_an_unknown_syntax(home: House, scp: StorageScp, tmp_path: Path) -> None:
    """A private transfer syntax is taken in as it is, and not analysed."""
    file = tmp_path / "sent.dcm"
    file.write_bytes(part10())
    association = associate(scp, (CTImageStorage, [PRIVATE_SYNTAX]))
    (context,) = association.accepted_contexts
    assert context.transfer_syntax == [PRIVATE_SYNTAX]
    context.transfer_syntax = [ExplicitVRLittleEndian]  # what the sender has
    with pytest.MonkeyPatch.context() as settings:
        settings.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
        answer = association.send_c_store(file)
    association.release()
    assert answer.Status == 0x0000
    header = home.books.received[0].header
    assert header.transfer_syntax_uid == PRIVATE_SYNTAX
    assert header.reason == f"no decoder for transfer syntax {PRIVATE_SYNTAX}"


@pytest.mark.parametrize(
    ("proposed", "accepted"),
    [
        ([ImplicitVRLittleEndian, JPEG2000Lossless], JPEG2000Lossless),
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([JPEGBaseline8Bit, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([PRIVATE_SYNTAX, JPEGBaseline8Bit], PRIVATE_SYNTAX),
    ],
)
def test_the_best_proposed_syntax_is_accepted(
    scp: StorageScp, proposed: list[str], accepted: str
) -> None:
    """Lossless compression, then explicit VR; lossy only where nothing else is."""
    association = associate(scp, (CTImageStorage, proposed))
    (context,) = association.accepted_contexts
    assert context.transfer_syntax == [accepted]
    association.release()


def test_a_refused_instance_disturbs_nothing(home: House, scp: StorageScp) -> None:
    """A status and a comment for the one, success for those before and after."""
    association = associate(scp, (CTImageStorage, [ExplicitVRLittleEndian]))
    first = store(association, part10(1))
    refused = store(association, part10(2, StudyInstanceUID=None))
    third = store(association, part10(3))
    association.release()
    assert (first.Status, third.Status) == (0x0000, 0x0000)
    assert (refused.Status, refused.ErrorComment) == (CANNOT_UNDERSTAND, "no Study UID")
    assert home.books.statuses == [CANNOT_UNDERSTAND]
    assert len(home.kept) == 2


def test_other_uids_than_the_commands(
    home: House, scp: StorageScp, tmp_path: Path
) -> None:
    """0xA900 where command and data set disagree, about which instance is told."""
    content = part10().replace(f"{STUDY}.1.1".encode(), f"{STUDY}.1.9".encode(), 1)
    answer = store_bytes(scp, content, tmp_path)
    assert answer.Status == DATASET_MISMATCH
    assert answer.ErrorComment == "SOP Instance UID is not the command's"
    assert home.books.refused[0].sop_instance_uid == f"{STUDY}.1.1"


def test_a_truncated_data_set(home: House, scp: StorageScp, tmp_path: Path) -> None:
    """0xC000 where the pixel data are shorter than they say."""
    answer = store_bytes(scp, part10()[:-100], tmp_path)
    assert answer.Status == CANNOT_UNDERSTAND
    assert answer.ErrorComment == "truncated: it ends within an element"
    assert home.books.statuses == [CANNOT_UNDERSTAND]
    assert (home.kept, home.incoming) == ([], [])


def test_no_room(tmp_path: Path) -> None:
    """0xA700 where the disk is nearly full, and nothing is left behind."""
    home = house(tmp_path, min_free_bytes=1 << 60)
    with running(StorageScp(Listener(), home.intake)) as scp:
        association = associate(scp, (CTImageStorage, [ExplicitVRLittleEndian]))
        answer = store(association, part10())
        association.release()
    assert (answer.Status, answer.ErrorComment) == (
        OUT_OF_RESOURCES,
        "no room left in the spool",
    )
    assert (home.kept, home.incoming) == ([], [])


def test_a_sender_that_vanishes_leaves_nothing(home: House, scp: StorageScp) -> None:
    """An instance that breaks off with its connection is dropped, its study closed."""
    association = associate(scp, (CTImageStorage, [ExplicitVRLittleEndian]))
    assert store(association, part10()).Status == 0x0000
    assert home.intake.open_studies() == {STUDY}
    sock = association.dul.socket
    assert sock is not None
    assert sock.socket is not None
    context = association.accepted_contexts[0].context_id
    assert context is not None
    sock.socket.sendall(_half_a_store(context))
    assert settled(lambda: len(home.incoming) == 1)
    sock.close()
    assert settled(lambda: home.incoming == [])
    assert settled(lambda: home.intake.open_studies() == frozenset())
    association.abort()


def _half_a_store(context_id: int) -> bytes:
    """Return a C-STORE-RQ and the first part of its data set, as PDUs."""
    request = C_STORE()
    request.MessageID = 7
    request.AffectedSOPClassUID = CTImageStorage
    request.AffectedSOPInstanceUID = "1.2.3"
    request.Priority = 2
    request.DataSet = BytesIO(bytes(4096))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pdus = []
    for primitive in list(message.encode_msg(context_id, 1024))[:-1]:
        pdu = P_DATA_TF()
        pdu.from_primitive(primitive)
        pdus.append(pdu.encode())
    return b"".join(pdus)


@pytest.mark.parametrize(
    ("calling", "called", "heard"),
    [
        ("CT_ER", "PACSIGHT", True),
        ("CT_ER", "STAT", True),
        ("CT_ER", "OTHER", False),
        ("MR", "PACSIGHT", True),
        ("MR", "STAT", False),
        ("UNKNOWN", "PACSIGHT", False),
    ],
)
def test_who_is_heard(home: House, calling: str, called: str, heard: bool) -> None:  # noqa: FBT001
    """Unknown senders and titles are rejected; a sender may be held to some titles."""
    listener = Listener(
        called_aets=frozenset({"PACSIGHT", "STAT"}),
        callers={"CT_ER": frozenset(), "MR": frozenset({"PACSIGHT"})},
    )
    with running(StorageScp(listener, home.intake)) as scp:
        echo = dcmtk("echoscu", scp, "-aet", calling, "-aec", called)
    assert heard == (echo.returncode == 0)
    if not heard:
        unknown = "Calling" if calling == "UNKNOWN" else "Called"
        assert f"{unknown} AE Title Not Recognized" in echo.stderr


def test_too_many_associations(home: House) -> None:
    """One more than allowed is refused for now, not for good."""
    with running(StorageScp(Listener(max_associations=1), home.intake)) as scp:
        first = associate(scp, (Verification, [ImplicitVRLittleEndian]))
        echo = dcmtk("echoscu", scp)
        first.release()
    assert echo.returncode != 0
    assert "Rejected Transient" in echo.stderr


def test_stop_lets_associations_end(home: House) -> None:
    """After stop nobody is served, and the process is as it was."""
    scp = StorageScp(Listener(grace_s=0.2), home.intake)
    scp.start()
    port = scp.port
    association = associate(scp, (Verification, [ImplicitVRLittleEndian]))
    scp.stop()
    assert settled(lambda: not association.is_established)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    scp.stop()


def test_who_reports_calls_the_title_that_it_knows() -> None:
    """Besides those that it may call to send, where it may."""
    known = frozenset({"PACSIGHT"})
    listener = Listener(
        called_aets=frozenset({"PACSIGHT", "STAT"}),
        callers={"CT": frozenset(), "PACS": frozenset({"STAT"})},
        reporters={"PACS": known, "VNA": known},
    )
    titles = {aet: listener.titles_for(aet) for aet in ("CT", "PACS", "VNA")}
    assert titles == {
        "CT": {"PACSIGHT", "STAT"},
        "PACS": {"PACSIGHT", "STAT"},
        "VNA": {"PACSIGHT"},
    }
