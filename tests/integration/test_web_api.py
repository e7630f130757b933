"""The interface for scripts: what is answered, and that it is as it is described."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from sqlalchemy import update

from dicom_node.access import Role
from dicom_node.ledger.deliveries import deliveries
from dicom_node.ledger.overview import journal, studies
from dicom_node.ledger.tables import study
from dicom_node.lifecycle import State
from dicom_node.lines import delivery_json, journal_json, study_json
from dicom_node.logs import configure_logs
from dicom_node.web.doorman import Limits
from dicom_node.web.openapi import described
from dicom_node.web.rules import RULES
from tests.arrivals import received, study_uid
from tests.ledgers import concluded_study, record, state
from tests.websites import SERVICE_TOKENS, SETTINGS, TOKENS, Website, website

SCHEMA = schemathesis.openapi.from_dict(described())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    """Return a site with a study that was concluded, and one that is arriving."""
    folder = tmp_path_factory.mktemp("api")
    limits = Limits(requests_per_minute=10**6, failures_per_minute=10**6)
    with website(folder, service_tokens=SERVICE_TOKENS, limits=limits) as running:
        concluded_study(running.ledger, received(1))
        record(running.ledger, received(2))
        yield running


def ask(site: Website, method: str, path: str) -> httpx.Response:
    """Return the answer to somebody who may."""
    return site.ask(method, path, TOKENS[Role.ADMINISTER])


# ── what is answered ────────────────────────────────────────────────────────


def test_what_is_listed_is_what_the_commands_print(site: Website) -> None:
    """Studies, journal and deliveries: the same JSON as with ``--json``."""
    uid = study_uid(1)
    with site.ledger.read() as tx:
        expected = {
            "/api/studies": [study_json(line) for line in studies(tx)],
            f"/api/studies/{uid}/journal": [
                journal_json(line) for line in journal(tx, uid, limit=50)
            ],
            f"/api/deliveries?study={uid}": [
                delivery_json(line) for line in deliveries(tx, study_uid=uid)
            ],
        }
    answered = {path: ask(site, "GET", path).json() for path in expected}
    assert answered == json.loads(json.dumps(expected))
    assert all(answered.values())


def test_so_many_and_no_more(site: Website) -> None:
    """``limit`` is kept to, and has to be a number that can be."""
    assert len(ask(site, "GET", "/api/studies?limit=1").json()) == 1
    for said in ("0", "-1", "1001", "x", "", "1e2", "٣"):
        answer = ask(site, "GET", f"/api/studies?limit={said}")
        assert answer.status_code == 400
        assert answer.json()["detail"] == "limit is a whole number, 1 to 1000"
    for said in ("limti=5", "limit=1&limit=2", "limit=1&token=x"):
        answer = ask(site, "GET", f"/api/studies?{said}")
        assert answer.status_code == 400
        assert answer.json()["detail"] == "known parameters: limit; each once at most"


@pytest.mark.parametrize(
    "study", ["1.2.3", "77.1", "…", "x", "1" * 65, "%2e%2e", "%00"]
)
def test_a_study_is_named_in_full(site: Website, study: str) -> None:
    """404 for an ending of its UID, and for what is no UID."""
    for verb in ("complete", "retry", "conclude"):
        assert ask(site, "POST", f"/api/studies/{study}/{verb}").status_code == 404
    assert ask(site, "GET", f"/api/studies/{study}/journal").status_code == 404
    assert ask(site, "GET", f"/api/deliveries?study={study}").status_code == 404


def test_what_an_operator_does(tmp_path: Path) -> None:
    """Complete, retry and conclude do what the commands do, and tell the state."""
    with website(tmp_path, service_tokens=SERVICE_TOKENS) as site:
        concluded_study(site.ledger, received(1))
        path = f"/api/studies/{study_uid(1)}"
        with site.ledger.write() as tx:
            tx.execute(update(study).values(state=State.UNDELIVERED))
        tried = ask(site, "POST", f"{path}/retry")
        assert tried.json() == {"study_uid": study_uid(1), "state": "delivering"}
        with site.ledger.write() as tx:
            tx.execute(update(study).values(state=State.DONE))
        again = ask(site, "POST", f"{path}/conclude")
        assert again.json()["state"] == state(site.ledger) == "embedding"
        record(site.ledger, received(2))
        done = ask(site, "POST", f"/api/studies/{study_uid(2)}/complete")
        assert done.json() == {"study_uid": study_uid(2), "state": "receiving"}


def test_settings_are_those_that_are_given(site: Website) -> None:
    """Masked where they are made: see the tests of the settings."""
    assert ask(site, "GET", "/api/settings").json() == SETTINGS


def test_a_body_that_nobody_needs_is_limited(site: Website) -> None:
    """An operator's request is a line; more is 413 before it is read."""
    path = f"/api/studies/{study_uid(2)}/complete"
    token = TOKENS[Role.OPERATE]
    answer = site.ask("POST", path, token, content=b"x" * 100_000)
    assert answer.status_code == 413


def test_a_ledger_that_does_not_answer_is_a_503(tmp_path: Path) -> None:
    """With a time to come again, and in words."""
    with website(tmp_path, service_tokens=SERVICE_TOKENS) as site:
        (tmp_path / "ledger.sqlite").rename(tmp_path / "gone")
        (tmp_path / "ledger.sqlite").mkdir()
        site.ledger.close()  # connections that are open go on with the file
        answer = ask(site, "GET", "/api/studies")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["content-type"] == "application/problem+json"


# ── secrets ─────────────────────────────────────────────────────────────────


def test_no_token_is_written_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Good or wrong: not in logs, answers, the ledger or what the trail is told."""
    configure_logs(style="json", level="debug")
    wrong = "pacsight_hunter2-hunter2-hunter2"
    said = []
    with website(tmp_path, service_tokens=SERVICE_TOKENS) as site:
        for token in (wrong, *TOKENS.values()):
            said.append(repr(site.ask("GET", "/api/studies", token).headers))
            said.append(site.ask("GET", "/api/settings", token).text)
            said.append(site.ask("POST", "/login", data={"token": token}).text)
            said.append(site.ask("GET", f"/api/studies?token={token}").text)
        told = repr(site.told)
    captured = capsys.readouterr()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    everything = "\n".join([*said, told, captured.out, captured.err])
    everything += "".join(one.decode("latin-1") for one in written)
    assert "token_refused" in captured.err
    assert [t for t in (wrong, *TOKENS.values()) if t in everything] == []


# ── as it is described ──────────────────────────────────────────────────────


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(site: Website, case: Case[Any]) -> None:
    """Whatever is asked, well or badly: no failure inside, a status and a body as told.

    Schemathesis leaves the token out, too, and expects to be refused.
    """
    headers = {"Authorization": f"Bearer {TOKENS[Role.ADMINISTER]}"}
    case.call_and_validate(base_url=site.url, headers=headers)


def test_every_route_for_scripts_is_described() -> None:
    """No more and no less than the table of rights has."""
    told = {
        (method.upper(), path)
        for path, methods in described()["paths"].items()
        for method in methods
    }
    ours = {(r.method, r.path) for r in RULES if r.path.startswith(("/api", "/health"))}
    assert told == ours


def test_the_description_is_served(site: Website) -> None:
    """The same that these tests follow."""
    assert site.ask("GET", "/api/openapi.json", TOKENS[Role.VIEW]).json() == described()
