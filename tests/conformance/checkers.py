"""The checkers of the matrix: programs and libraries that others wrote, and our rules.

Each takes the objects of a case and gives a verdict on every one of them.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from highdicom import imread
from highdicom.ko import KeyObjectSelectionDocument
from highdicom.sr import srread
from orthanc_api_client import OrthancApiClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.domain import EncodedObject, ObjectKind, Result
from dicom_node.peers import Inquiry, Peer, Right
from dicom_node.query import Level, archive
from dicom_node.retrieve import retrieve
from sr_writer.codes import IMAGING_MEASUREMENT_REPORT
from sr_writer.compose import compose
from tests.composed import reread
from tests.conformance.rules import DOCUMENTS, breaches
from tests.integration.conftest import Orthanc
from tests.judges import Verdict, ask, verdict
from tests.peers import QUICK


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """The objects of a case, in memory and as files, and what they were made of.

    Parameters
    ----------
    source
        The source as a file; None where ours rightly differ from it.
    by_template
        The kinds that are validated by template, which takes seconds each.
    """

    made_from: Result
    header: Dataset
    source: Path | None
    objects: Mapping[Path, EncodedObject]
    orthanc: Orthanc | None
    by_template: AbstractSet[ObjectKind] = frozenset()


GAVE_UP = "gave up"
PIXELMED = (
    *("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),  # half the time, of 4 s each
    # its templates are larger than Java's limits for XSLT
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathTotalOpLimit=0",
    "-Djdk.xml.xpathExprGrpLimit=0",
    *("-cp", "/usr/share/java/pixelmed.jar", "com.pixelmed.validate.DicomSRValidator"),
)

Checker = Callable[[Exhibit], Iterator[Verdict]]


def dciodvfy(exhibit: Exhibit) -> Iterator[Verdict]:
    """IOD conformance (dicom3tools)."""
    for path in exhibit.objects:
        yield verdict(_asked("dciodvfy", "-new", path))


def dcentvfy(exhibit: Exhibit) -> Iterator[Verdict]:
    """Agreement of all objects with each other and the source (dicom3tools)."""
    source = [] if exhibit.source is None else [exhibit.source]
    yield verdict(_asked("dcentvfy", *source, *exhibit.objects))


def dsrdump(exhibit: Exhibit) -> Iterator[Verdict]:
    """The content tree, as another vendor reads it (DCMTK)."""
    for path in _documents(exhibit):
        yield verdict(_asked("dsrdump", "-Ec", path))


def dsr2html(exhibit: Exhibit) -> Iterator[Verdict]:
    """The document as a page (DCMTK)."""
    for path, obj in _documents(exhibit).items():
        page = _asked("dsr2html", path)
        if GAVE_UP in page:  # G1 sets in code extensions: it has to convert them
            page = _asked("dsr2html", "+U8", path)
        found = verdict(page)
        title = reread(obj).ConceptNameCodeSequence[0].CodeMeaning
        if f"<title>{title}" not in page and str(title) not in page:
            found = Verdict(errors=("Error - the page lacks the title", *found.errors))
        yield found


def dicomsrvalidator(exhibit: Exhibit) -> Iterator[Verdict]:
    """TID 1500 and 2010, row by row (PixelMed); it exits with 0 whatever it finds.

    It knows TID 1500 by its standard title alone, so the report gets that one.
    """
    with tempfile.TemporaryDirectory(prefix="pacsight-template-") as folder:
        titled = Path(folder) / "SR.dcm"
        (report,) = compose(
            exhibit.made_from,
            [exhibit.header],
            kinds=[ObjectKind.REPORT],
            title=IMAGING_MEASUREMENT_REPORT,
        )
        titled.write_bytes(report.content)
        for path, obj in _documents(exhibit).items():
            if obj.kind not in exhibit.by_template:
                continue
            judged = titled if obj.kind is ObjectKind.REPORT else path
            said = ask("java", *PIXELMED, judged)
            whole = "Root Template Validation Complete" in said
            yield verdict(said if whole else f"Error - {GAVE_UP}: {said}")


def highdicom(exhibit: Exhibit) -> Iterator[Verdict]:
    """Its readers: documents as what they are, the capture as an image."""
    for obj in exhibit.objects.values():
        if obj.kind is not ObjectKind.DOCUMENT:
            yield _judged(_read_by_highdicom, obj, exhibit.made_from)


def pydicom(exhibit: Exhibit) -> Iterator[Verdict]:
    """Written again: the same bytes; in Implicit VR: the same values."""
    for obj in exhibit.objects.values():
        yield _judged(_written_again, obj, exhibit.made_from)


def rules(exhibit: Exhibit) -> Iterator[Verdict]:
    """What no checker sees: `tests.conformance.rules`."""
    ours = {obj.sop_instance_uid for obj in exhibit.objects.values()}
    for obj in exhibit.objects.values():
        found = breaches(obj, exhibit.made_from, exhibit.header, set(ours))
        yield Verdict(errors=tuple(f"{obj.kind}: {breach}" for breach in found))


def orthanc(exhibit: Exhibit) -> Iterator[Verdict]:
    """Stored, found by QIDO-RS and C-FIND, given back by WADO-RS, byte for byte."""
    pacs = exhibit.orthanc
    if pacs is None:
        return
    client = OrthancApiClient(pacs.url)
    objects = list(exhibit.objects.values())
    ids = [client.upload(obj.content)[0] for obj in objects]
    try:
        found = _found(pacs, exhibit.made_from.study_uid)
        for obj, identifier in zip(objects, ids, strict=True):
            faults = [
                f"{obj.kind}: not found by {how}"
                for how, uids in found.items()
                if obj.sop_instance_uid not in uids
            ]
            if client.instances.get_file(identifier) != obj.content:
                faults.append(f"{obj.kind}: other bytes")
            if _wado(pacs, exhibit.made_from.study_uid, obj) != reread(obj):
                faults.append(f"{obj.kind}: other values by WADO-RS")
            yield Verdict(errors=tuple(faults))
    finally:
        client.delete_all_content()


CHECKERS: Sequence[Checker] = (
    *(dciodvfy, dcentvfy, dsrdump, dsr2html, dicomsrvalidator),
    *(highdicom, pydicom, rules, orthanc),
)


# ── how they are asked ──────────────────────────────────────────────────────


def _documents(exhibit: Exhibit) -> dict[Path, EncodedObject]:
    return {p: obj for p, obj in exhibit.objects.items() if obj.kind in DOCUMENTS}


def _asked(tool: str, *arguments: str | Path) -> str:
    """Return what a program says; that it gave up is an error like others."""
    try:
        return ask(tool, *arguments)
    except pytest.fail.Exception as error:
        return f"Error - {error}"


def _judged(
    check: Callable[[EncodedObject, Result], str], obj: EncodedObject, result: Result
) -> Verdict:
    """Return what a reader makes of an object: any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            fault = check(obj, result)
        except Exception as error:  # noqa: BLE001 - whatever a reader stumbles over
            fault = f"{type(error).__name__}: {error}"
    return Verdict(errors=(f"{obj.kind}: {fault}",) if fault else ())


def _read_by_highdicom(obj: EncodedObject, result: Result) -> str:
    file = BytesIO(obj.content)
    match obj.kind:
        case ObjectKind.REPORT:
            evidence = srread(file).get_evidence()
            return "" if len(evidence) == len(result.images) else "evidence is lost"
        case ObjectKind.CAPTURE:
            frame = imread(file).get_frame(1)
            return "" if frame.ndim == 3 else "no colours"
        case _:
            document = KeyObjectSelectionDocument.from_dataset(dcmread(file))
            return "" if len(document.content) else "it selects nothing"


def _written_again(obj: EncodedObject, _: Result) -> str:
    dataset = reread(obj)
    with BytesIO() as file:
        dcmwrite(file, dataset, enforce_file_format=True)
        if file.getvalue() != obj.content:
            return "other bytes"
    values = {element.tag: element.value for element in dataset}
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    with BytesIO() as file:
        dcmwrite(file, dataset, implicit_vr=True, little_endian=True)
        again = dcmread(BytesIO(file.getvalue()), force=True)
    same = {element.tag: element.value for element in again} == values
    return "" if same else "other values in Implicit VR"


def _found(pacs: Orthanc, study_uid: str) -> dict[str, set[str]]:
    """Return the instances of a study that the archive knows, by how it was asked."""
    peer = Peer(
        name="orthanc",
        aet=pacs.aet,
        host=pacs.host,
        port=pacs.dicom_port,
        dicomweb=pacs.dicomweb,
        rights=frozenset({Right.DESTINATION}),
    )
    keys, fields = {"StudyInstanceUID": study_uid}, ["SOPInstanceUID"]
    known = {}
    for inquiry in Inquiry:
        with archive(peer, inquiry, QUICK) as asked:
            found = asked.find(Level.IMAGE, keys, fields)
        known[inquiry.value] = {str(one.SOPInstanceUID) for one in found}
    return known


def _wado(pacs: Orthanc, study_uid: str, obj: EncodedObject) -> Dataset:
    place = f"{pacs.dicomweb}/studies/{study_uid}/series/{obj.series_uid}"
    url = f"{place}/instances/{obj.sop_instance_uid}"
    return retrieve(url, timeout_s=30.0)
