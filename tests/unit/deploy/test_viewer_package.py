"""OHIF is what its makers published, or there is no viewer."""

import importlib
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the script's module."""
    monkeypatch.syspath_prepend(str(DEPLOY))
    return importlib.import_module("viewer_package")


@pytest.fixture
def sandbox_error(package: Any) -> type[Exception]:
    """Return what says in one sentence why there is no viewer."""
    error: type[Exception] = package.SandboxError
    return error


def an_npm(folder: Path, script: str) -> None:
    """Put a program called npm there, that does what a broken registry makes npm do."""
    npm = folder / "npm"
    npm.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    npm.chmod(0o755)


def test_without_npm_it_says_so(
    package: Any,
    sandbox_error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is missing, and how it is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sandbox_error, match="apt-get install npm"):
        package.fetch(tmp_path / "work", tmp_path)


def test_without_a_network_it_says_so(
    package: Any,
    sandbox_error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What npm said last, and nothing is left behind."""
    an_npm(tmp_path, "echo 'npm error network' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sandbox_error, match=r"could not fetch .*\(npm error network\)"):
        package.fetch(tmp_path / "work", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["npm"]


def test_another_package_under_the_name_is_refused(
    package: Any,
    sandbox_error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A digest that differs ends it before anything is unpacked."""
    page = tmp_path / "index.html"
    page.write_text("<html>")
    with tarfile.open(tmp_path / "other", "w:gz") as tar:
        tar.add(page, "package/dist/index.html")
    an_npm(tmp_path, f"{shutil.which('cp')} {tmp_path}/other ohif-app.tgz")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sandbox_error, match="another sha512 digest"):
        package.fetch(tmp_path / "work", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_is_there_is_not_fetched_again(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run needs neither npm nor network."""
    there = tmp_path / f"ohif-{package.VERSION}"
    there.mkdir()
    monkeypatch.setenv("PATH", "")
    assert package.fetch(tmp_path / "work", tmp_path) == there
    assert package.is_there(tmp_path)
