"""The documentation names everything that an operator can meet.

Settings are compared with their page in ``dicom_node/test_config.py``.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

import dicom_node
import sr_writer
import workers
from dicom_node.dispatch import CONCLUDE_STUDY, EMBED_BATCH, QUEUES
from dicom_node.errors import PacsightError
from dicom_node.ledger.tables import CANCELLED, DEAD, DELIVERED, IN_MOTION
from dicom_node.lifecycle import Event, State
from dicom_node.verification import How
from workers.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
STATES = DOCS / "states.md"
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "orthanc" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^ {4,}|`)(?:\S*/)?pacsight ([a-z][^`\n]*)", re.MULTILINE)
"""A command in an indented block, or between backticks."""
DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
OPTION = re.compile(r"(?<!\S)--[a-z-]+")


def test_every_test_that_shows_our_security_exists() -> None:
    """The page on security names them; ``-k`` finds none that was renamed."""
    named = set(re.findall(r"`(test_\w+)`", (DOCS / "security.md").read_text()))
    files = (REPOSITORY / "tests").rglob("test_*.py")
    there = {name for file in files for name in DEFINED.findall(file.read_text())}
    assert named - there == set()
    assert len(named) > 0


@pytest.mark.parametrize("state", State)
def test_every_state_is_documented(state: State) -> None:
    """A study's state, as ``pacsight studies`` shows it, stands in the table."""
    assert f"\n| `{state.value}` |" in STATES.read_text()


@pytest.mark.parametrize("state", [*IN_MOTION, DELIVERED, DEAD, CANCELLED])
def test_every_state_of_a_delivery_is_documented(state: str) -> None:
    """As ``pacsight deliveries`` shows it."""
    assert f"\n| `{state}` |" in _section("Deliveries")


@pytest.mark.parametrize("how", [how for how in How if how])
def test_every_proof_of_a_delivery_is_documented(how: How) -> None:
    """What the ledger says of how an object was seen to have arrived."""
    assert f"\n| `{how}` |" in _section("Deliveries")


@pytest.mark.parametrize("event", Event)
def test_every_event_is_documented(event: Event) -> None:
    """What can happen to a study stands in the table."""
    events = STATES.read_text().partition("## Events")[2].partition("\n## ")[0]
    assert f"\n| `{event.value}` |" in events


@pytest.mark.parametrize("name", [EMBED_BATCH, CONCLUDE_STUDY, *QUEUES])
def test_every_task_and_queue_is_documented(name: str) -> None:
    """What may lie on the queue, under the name that it has there."""
    tasks = STATES.read_text().partition("## Tasks")[2].partition("\n## ")[0]
    assert re.search(rf"`{re.escape(name)}[(`]", tasks)


def test_every_error_is_documented() -> None:
    """The tree of errors in the documentation is the tree in the code."""
    tree = STATES.read_text().partition("## Errors")[2].partition("\n## ")[0]
    documented = set(re.findall(r"[├└]── (\w+)", tree))
    assert documented == {error.__name__ for error in _errors()}


def test_every_command_is_documented() -> None:
    """The commands of ``pacsight --help``, no more and no less."""
    documented = re.findall(r"\n\| `pacsight ([\w-]+)` \|", STATES.read_text())
    assert set(documented) == set(_root().commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that is there."""
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text())]
    local = [link for link in links if link and "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_pages_exist(page: Path) -> None:
    """Every ``pacsight ...`` in the pages is a command with the options it has."""
    for line in COMMAND.findall(page.read_text()):
        command: Any = _root()
        for word in line.split():
            command = getattr(command, "commands", {}).get(word, command)
        options = {option for param in command.params for option in param.opts}
        assert command.name != "pacsight", f"no such command: {line}"
        assert set(OPTION.findall(line)) <= options | {"--help"}, line


def _section(title: str) -> str:
    return STATES.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def _root() -> TyperGroup:
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    return command


def _errors() -> Iterator[type[PacsightError]]:
    """Yield every error class, once all modules of the packages are imported."""
    for package in (dicom_node, sr_writer, workers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if (
                not module.name.endswith("__main__")
                and ".migrations" not in module.name
            ):
                importlib.import_module(module.name)
    waiting = PacsightError.__subclasses__()
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        yield error
