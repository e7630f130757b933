"""Labels that cannot be used: one sentence, exit code 2, and nothing is written."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.cohorts import KEY, drawn, embedded
from tests.packs import CONFIG, make_pack
from workers.cli import main
from workers.cohort import EmbeddingFile, write_cohort
from workers.pack import Pack

CHECK, SPLIT, FIT = "data check", "data split", "pack fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A pack, a table of labels that is in order, and embeddings that belong to it."""

    pack: Pack
    table: Path
    embeddings: EmbeddingFile

    def arguments(self, command: str, table: Path, embedded: Path) -> list[str]:
        """Return what is typed; what a command writes is ``out`` beside the table."""
        out = ["--out", str(table.with_name("out"))]
        if command == CHECK:
            return ["data", "check", str(table), "--embeddings", str(embedded)]
        if command == SPLIT:
            return ["data", "split", str(table), *out]
        data = ["--data", str(table), "--embeddings", str(embedded)]
        head = ["--finding", "effusion", "--head", "linear", *out]
        return ["pack", "fit", str(self.pack.folder), *data, *head]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """Return them, of nine patients."""
    folder = tmp_path_factory.mktemp("given")
    pack = make_pack(folder / "pack")
    some = drawn(
        patients=9,
        dimension=CONFIG.embedding,
        findings=("effusion",),
        key=pack.encoder_key,
    )
    write_cohort(some.cohort, folder / "labels.csv")
    return Given(pack=pack, table=folder / "labels.csv", embeddings=some.embeddings)


def cell(column: int, text: str) -> Callable[[list[str]], list[str]]:
    """Return what puts a text into a cell of the last line."""

    def changed(lines: list[str]) -> list[str]:
        cells = lines[-1].split(",")
        cells[column] = text
        return [*lines[:-1], ",".join(cells)]

    return changed


def both_sides(lines: list[str]) -> list[str]:
    """Let the last patient train with one image, and test with another."""
    cells = lines[-1].split(",")
    train, test = [*cells[:-1], "train"], [*cells[:2], "9.9", *cells[3:-1], "test"]
    return [*lines[:-1], ",".join(train), ",".join(test)]


def one_class(lines: list[str]) -> list[str]:
    """Say that everybody has the finding."""
    return [line.replace(",0,", ",1,") for line in lines]


def unnamed(lines: list[str]) -> list[str]:
    """Call a column of the header something else."""
    return [lines[0].replace("label", "verdict"), *lines[1:]]


@pytest.mark.parametrize("command", [CHECK, SPLIT, FIT])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (cell(4, "2"), "a label is one of 1, 0, uncertain, missing"),
        (cell(5, "tall"), "the value is no number"),
        (cell(5, "nan"), "the value is no number"),
        (cell(0, ""), "patient is empty"),
        (cell(3, " "), "finding is empty"),
        (cell(7, "judge"), "a role is one of train, tune, calibrate, test, atlas"),
        (cell(0, "P00000"), "belongs to another patient above"),
        (both_sides, "this patient has another role above"),
        (unnamed, "needs the columns patient, study, finding, label"),
        (lambda lines: lines[:1], "holds no label"),
        (lambda lines: [*lines, "P,1"], "has 2 columns, and the header has 8"),
    ],
)
def test_a_table_that_cannot_be_is_refused(  # noqa: PLR0913 - fixtures
    *,
    given: Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    change: Callable[[list[str]], list[str]],
    sentence: str,
) -> None:
    """Whatever is done with it: values that are missing or impossible, two sides."""
    table = tmp_path / "labels.csv"
    lines = given.table.read_text().splitlines()
    table.write_text("\n".join(change(lines)) + "\n")
    arguments = given.arguments(command, table, tmp_path / "e.safetensors")
    said = refused(arguments, given.embeddings, monkeypatch, capsys)
    assert sentence in said
    assert [path.name for path in tmp_path.iterdir() if path != table] in (
        [],
        ["e.safetensors"],
    )


@pytest.mark.parametrize(
    ("command", "change", "key", "sentence"),
    [
        (CHECK, cell(2, "9.9"), None, "labelled images have no embedding in"),
        (FIT, cell(2, "9.9"), None, "labelled images have no embedding in"),
        (FIT, cell(3, "nodule"), KEY, "its encoder is e, and that of pack test-pack"),
        (FIT, one_class, None, "the labels know no study without effusion"),
        (FIT, lambda lines: lines[:9], None, "too few"),
    ],
)
def test_labels_that_do_not_fit_are_refused(  # noqa: PLR0913 - fixtures
    *,
    given: Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    change: Callable[[list[str]], list[str]],
    key: object,
    sentence: str,
) -> None:
    """Images that nobody embedded, another encoder, one class only, too few patients."""
    table = tmp_path / "labels.csv"
    lines = given.table.read_text().splitlines()
    table.write_text("\n".join(change(lines)) + "\n")
    arguments = given.arguments(command, table, tmp_path / "e.safetensors")
    embeddings = given.embeddings
    if key is not None:
        embeddings = replace(embeddings, encoder_key=KEY)
    assert sentence in refused(arguments, embeddings, monkeypatch, capsys)
    assert not (tmp_path / "out").exists()


def refused(
    arguments: list[str],
    embeddings: EmbeddingFile,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Return the one sentence with which the command line ends."""
    if "--embeddings" in arguments:
        embedded(
            Path(arguments[arguments.index("--embeddings") + 1]),
            embeddings.vectors,
            studies=embeddings.studies,
            sop_instances=embeddings.sop_instances,
            key=embeddings.encoder_key,
        )
    monkeypatch.setattr(sys, "argv", ["pacsight", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("pacsight: ")
    return said[-1]
