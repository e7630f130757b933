"""OHIF as a reader uses it, in a headless Chromium: what is listed, opened and seen.

The selectors are those that hold in OHIF 3.13. Drawing is done by software (WebGL by
SwiftShader), so no graphics card is needed.
"""

import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, Request

FLAGS = (
    "--no-sandbox",  # tests run as root in a container
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH, HEIGHT = 1600, 900
PATIENCE_S = 30.0
DRAWN = 50_000
"""Fewer pixels than an image has that are not black; the tools around it have less."""
NEAR = 24
"""How far a colour may be off in each channel: windowing and scaling blur it."""


@dataclass(kw_only=True)
class Ohif:
    """One tab of a browser.

    Parameters
    ----------
    url
        Where OHIF is served.
    shots
        Where screenshots are put.
    """

    browser: BrowserContext
    url: str
    shots: Path
    outside: list[str] = field(default_factory=list, init=False)
    """Requests to anywhere else."""
    page: Page = field(init=False)

    def __post_init__(self) -> None:
        self.page = self.browser.new_page()
        self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.on("request", self._watch)

    def close(self) -> None:
        """Close the tab."""
        self.page.close()

    # ── where to look ───────────────────────────────────────────────────────

    def list_studies(self) -> None:
        """Open the list of all studies."""
        self.page.goto(self.url)
        self.page.get_by_role("cell").first.wait_for()

    def open_study(self, study_uid: str, **query: str) -> None:
        """Open a study, and wait until its first image is drawn."""
        more = "".join(f"&{name}={value}" for name, value in query.items())
        self.page.goto(f"{self.url}/viewer?StudyInstanceUIDs={study_uid}{more}")
        self.page.locator('[data-cy="viewport-pane"]').first.wait_for()
        self.until(lambda: self.lit_pixels(pane=0) > DRAWN, "the first image")

    def open_image(self, description: str) -> None:
        """Open the image series of that description, as a reader does."""
        thumbnail = self.page.locator('[data-cy="study-browser-thumbnail"]')
        thumbnail.filter(has_text=description[:12]).dblclick()

    def open_row(self, modality: str) -> None:
        """Open the series of that modality that has no picture."""
        self._rows().filter(has=self._label(modality)).dblclick()

    # ── what is there ───────────────────────────────────────────────────────

    def pictures(self) -> int:
        """Return how many series are listed with a picture."""
        return int(self.page.locator('[data-cy="study-browser-thumbnail"]').count())

    def rows(self) -> list[str]:
        """Return the modalities of the series that are listed without a picture."""
        labels = self._rows().locator('[data-cy="series-modality-label"]')
        return list(labels.all_inner_texts())

    def text(self) -> str:
        """Return the text in the viewports."""
        return str(self.page.locator('[data-cy="viewport-grid"]').inner_text())

    def positions(self) -> list[str]:
        """Return which image each viewport shows: Instance Number, and place."""
        corners = self.page.locator('[data-cy="viewport-overlay-bottom-right"]')
        return list(corners.all_inner_texts())

    def errors(self) -> list[str]:
        """Return the error messages that are shown."""
        return list(self.page.locator("[data-sonner-toast]").all_inner_texts())

    def documents(self) -> int:
        """Return how many PDF documents are shown."""
        grid = self.page.locator('[data-cy="viewport-grid"]')
        return int(grid.locator('object[type="application/pdf"]').count())

    def pixels_near(self, colour: tuple[int, int, int], *, pane: int = -1) -> int:
        """Return how many pixels of a viewport, by default the last, look like this."""
        near = np.abs(self._pixels(pane) - np.array(colour, np.int16)) <= NEAR
        return int(near.all(axis=-1).sum())

    def lit_pixels(self, *, pane: int) -> int:
        """Return how many pixels of a viewport are not black."""
        return int((self._pixels(pane) > NEAR).all(axis=-1).sum())

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                self.shoot("waited-in-vain")
                raise AssertionError(f"waited in vain for {what}: {self.shots}")
            self.page.wait_for_timeout(100)

    def shoot(self, name: str) -> None:
        """Keep what is to be seen now."""
        self.shots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self.shots / f"{name}.png")

    def _pixels(self, pane: int) -> NDArray[np.int16]:
        """(H, W, 3) RGB of a viewport."""
        shown = self.page.locator('[data-cy="viewport-pane"]').nth(pane).screenshot()
        return np.asarray(Image.open(io.BytesIO(shown)).convert("RGB"), dtype=np.int16)

    def _rows(self) -> Locator:
        return self.page.locator('[data-cy="study-browser-thumbnail-no-image"]')

    def _label(self, modality: str) -> Locator:
        label = self.page.locator('[data-cy="series-modality-label"]')
        return label.filter(has_text=re.compile(rf"^\s*{modality}\s*$"))

    def _watch(self, request: Request) -> None:
        elsewhere = not request.url.startswith(self.url)
        if elsewhere and request.url.startswith(("http", "ws")):
            self.outside.append(request.url)
