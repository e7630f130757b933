"""Orthanc draws the capture as we drew it: its own preview, without a browser."""

import io

import httpx
import numpy as np
from orthanc_api_client import OrthancApiClient
from PIL import Image
from pydicom import dcmread

from dicom_node.domain import ObjectKind
from sr_writer.compose import compose
from sr_writer.ink import ORANGE
from tests.builders import finding, result, source_header
from tests.integration.conftest import Orthanc


def test_the_preview_is_the_page(orthanc: Orthanc) -> None:
    """Pixel for pixel, the orange banner among them."""
    (capture,) = compose(
        result([finding()]), [source_header()], kinds=[ObjectKind.CAPTURE]
    )
    (key,) = OrthancApiClient(orthanc.url).upload(capture.content)
    answer = httpx.get(f"{orthanc.url}/instances/{key}/preview").raise_for_status()
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert (shown == ORANGE).all(axis=-1).sum() > 10_000
    assert np.array_equal(shown, dcmread(io.BytesIO(capture.content)).pixel_array)
