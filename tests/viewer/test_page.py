"""The node's own page in a real browser: its forms work, what senders wrote does not."""

from pathlib import Path

from playwright.sync_api import BrowserContext
from sqlalchemy import update

from dicom_node.access import Role
from dicom_node.ledger.tables import study, version
from tests.arrivals import received, study_uid
from tests.ledgers import record
from tests.viewer.conftest import SHOTS
from tests.websites import SERVICE_TOKENS, TOKENS, website

SCRIPT = (
    "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
)


def test_the_page_in_a_browser(tmp_path: Path, browser: BrowserContext) -> None:
    """Log in, press a button, log out; script in the ledger is text, nothing is loaded."""
    with website(tmp_path, service_tokens=SERVICE_TOKENS) as site:
        record(site.ledger, received(1), received(2))
        with site.ledger.write() as tx:
            tx.execute(update(study).values(detail=SCRIPT))
            tx.execute(update(version).values(modality=SCRIPT))
        tab = browser.new_page()
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(site.url)
        tab.fill("#token", TOKENS[Role.OPERATE])
        tab.click("text=Log in")
        tab.wait_for_selector("table")
        assert tab.title() == "pacsight"
        assert tab.locator("text=<script>").count() >= 2
        assert (
            tab.evaluate("getComputedStyle(document.body).backgroundColor")
            == "rgb(255, 255, 255)"
        )
        SHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SHOTS / "node-page.png")
        tab.click("text=Complete >> nth=0")
        tab.wait_for_selector("table")
        with site.ledger.read() as tx:
            marked = study.select().where(study.c.asked)
            assert len(tx.execute(marked).all()) == 1
        tab.click("text=Log out")
        tab.wait_for_selector("#token")
        assert study_uid() not in tab.content()
        assert [url for url in asked if not url.startswith(site.url)] == []
        tab.close()
