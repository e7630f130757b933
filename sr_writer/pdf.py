"""The page as an encapsulated PDF, for sites whose viewers show nothing else.

Encapsulated PDF Storage (PS3.3 A.45.1). The document is made by `sr_writer.printing`;
what it may reveal is inherited from the images, as in the capture.
"""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.domain import EncodedObject, ImageRef, ObjectKind
from sr_writer import codes
from sr_writer.document import Basis, begin, code_item_of, finish
from sr_writer.inherited import burned_in, recognizable
from sr_writer.page import Page
from sr_writer.printing import print_page
from sr_writer.references import instance_reference


def encode_pdf(
    basis: Basis,
    page: Page,
    shown: Sequence[ImageRef],
    sources: Sequence[Dataset],
) -> EncodedObject:
    """Return the page of a result as a document.

    Parameters
    ----------
    shown
        The images that the page rests on.
    sources
        Headers of images of the study: what may be burned into them is inherited.
    """
    title = codes.pydicom_code(basis.options.title)
    content = print_page(page, title=title.meaning)
    kind = ObjectKind.DOCUMENT
    document = begin(basis, kind, sop_class=EncapsulatedPDFStorage, modality="DOC")
    document.ConversionType = "WSD"
    document.AcquisitionDateTime = None
    document.DocumentTitle = title.meaning
    document.ConceptNameCodeSequence = [code_item_of(title)]
    document.VerificationFlag = "UNVERIFIED"
    # Type 1, unlike the capture's: what nobody denies may be there
    document.BurnedInAnnotation = burned_in(sources) or "YES"
    document.RecognizableVisualFeatures = recognizable(sources)
    document.SourceInstanceSequence = [
        instance_reference(image) for image in dict.fromkeys(shown)
    ]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return finish(document, basis, kind)
