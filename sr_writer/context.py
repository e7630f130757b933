"""What each of our content trees begins with: its language, and who observed.

TID 1204 "Language of Content Item and Descendants", TID 1004 "Device Observer
Identifying Attributes" (PS3.16).
"""

from highdicom.sr import (
    CodedConcept,
    ContentItem,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    ObservationContext,
    ObserverContext,
)

from dicom_node.domain import Algorithm
from sr_writer import codes
from sr_writer.document import MANUFACTURER, long_string


def context_items(algorithm: Algorithm) -> list[ContentItem]:
    """Return the language, and the pack as the device that observed."""
    device = DeviceObserverIdentifyingAttributes(
        uid=algorithm.device_uid,
        name=long_string(algorithm.title or algorithm.name),
        manufacturer_name=MANUFACTURER,
        model_name=long_string(f"{algorithm.name} {algorithm.version}"),
    )
    observer = ObserverContext(
        observer_type=CodedConcept.from_code(codes.DEVICE),
        observer_identifying_attributes=device,
    )
    return [
        *LanguageOfContentItemAndDescendants(CodedConcept.from_code(codes.ENGLISH)),
        *ObservationContext(observer_device_context=observer),
    ]
