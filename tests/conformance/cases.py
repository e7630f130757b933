"""The matrix: which results meet which sources."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from dicom_node.domain import EncodedObject, ObjectKind, Result
from dicom_node.domain.identity import patient_digest
from sr_writer.document import text_of
from tests.builders import digest
from tests.composed import every_object
from tests.conformance.results import RESULTS, on_images_of
from tests.conformance.sources import CHARACTER_SETS, MODALITIES, ODDITIES, Source
from tests.unit.sr_writer.test_compose import pictures_for

MOST = ("positive", "everything")
"""Results that meet every source."""
MEET_ALL = ("DX", "CT", "US, 60 frames")
"""Sources that meet every result; the other modalities meet one in `TURNS`, in turn."""
TURNS = 5
BY_TEMPLATE = ("modality", "CT")
"""Group and source whose documents are validated by template: it meets every result. The
validator's CID 100, of 2022, has no code for X-rays yet."""
GROUPS = {
    "modality": MODALITIES,
    "character set": CHARACTER_SETS,
    "oddity": ODDITIES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A result about a source: both by name, so that a case can be sent to a process."""

    group: str
    source: str
    result: str

    @property
    def by_template(self) -> frozenset[ObjectKind]:
        """Return the kinds that are validated by template: each report once."""
        if (self.group, self.source) != BY_TEMPLATE:
            return frozenset()
        notes = {ObjectKind.KEY_OBJECTS, ObjectKind.REJECTION}
        return frozenset({ObjectKind.REPORT, *(notes if self.result in MOST else ())})

    @property
    def _source(self) -> Source:
        return GROUPS[self.group][self.source]

    def build(self) -> tuple[Result, Dataset]:
        """Return the result, and the header that it is about."""
        source = self._source
        made_from = on_images_of(source.sop_class, source.frames, RESULTS[self.result])
        header = source.header(made_from.images[0])
        patient = patient_digest(
            text_of(header, "PatientID"), text_of(header, "IssuerOfPatientID")
        )
        former = tuple(replace(p, patient=patient) for p in made_from.predecessors)
        case = digest(f"{self.group}/{self.source}/{self.result}")
        changed = replace(
            made_from, patient=patient, predecessors=former, attributes=case
        )
        return changed, header


def cases() -> Iterator[Case]:
    """Yield every case."""
    for group, sources in GROUPS.items():
        for number, source in enumerate(sources):
            some = {*MOST, *list(RESULTS)[number % TURNS :: TURNS]}
            wanted = some if group == "modality" else set(MOST)
            for result in RESULTS:
                if result in wanted or source in MEET_ALL:
                    yield Case(group=group, source=source, result=result)


def objects_of(made_from: Result, header: Dataset) -> tuple[EncodedObject, ...]:
    """Return every object that the result becomes, of every kind."""
    return every_object(made_from, header, pictures_for(made_from))
