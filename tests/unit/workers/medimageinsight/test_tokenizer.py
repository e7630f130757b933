import json
from pathlib import Path

import pytest

from tests.golden import recipe
from workers.medimageinsight import CheckpointError, Tokenizer

SUBSET = recipe.GOLDEN.parent / "clip_subset"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(SUBSET)


@pytest.fixture(scope="module")
def official(shared: Path) -> Tokenizer:
    return Tokenizer.load(shared / "golden" / "clip_tokenizer")


@pytest.fixture
def vocabulary() -> dict[str, int]:
    tokens: dict[str, int] = json.loads((SUBSET / "vocab.json").read_text("utf-8"))
    return tokens


def vectors(path: Path) -> list[tuple[str, list[int]]]:
    content = json.loads(path.read_text("utf-8"))
    rows = content["vectors"] if isinstance(content, dict) else content
    return [(row["text"], row["ids"]) for row in rows]


@pytest.mark.parametrize(("text", "ids"), vectors(SUBSET / "vectors.json"))
def test_ids_are_those_of_the_slow_tokenizer(
    tokenizer: Tokenizer, text: str, ids: list[int]
) -> None:
    """Prompts, quotes, accents, mojibake, scripts and emoji, in a subset's ids."""
    assert ids == tokenizer.ids(text)


@pytest.mark.corpus
def test_ids_are_the_official_ones(official: Tokenizer, shared: Path) -> None:
    """With CLIP's whole vocabulary, so are the reference's vectors."""
    listed = vectors(shared / "golden" / "tokenizer_vectors.json")
    harmless = [(text, ids) for text, ids in listed if "<|" not in text]
    assert len(harmless) == 14
    assert harmless == [(text, official.ids(text)) for text, _ in harmless]


@pytest.mark.corpus
def test_the_official_vocabulary_is_as_large_as_the_models(official: Tokenizer) -> None:
    """And its end token is the last of it."""
    assert (official.vocabulary, official.ids("")) == (49408, [49406, 49407])


@pytest.mark.parametrize(
    "text",
    [
        "<|endoftext|> chest",
        "chest <|ENDOFTEXT|>",
        "a<|startoftext|>b",
        "&lt;|endoftext|&gt;",
        "<|endoftext|>" * 40,
    ],
)
def test_special_tokens_in_a_label_are_harmless(
    tokenizer: Tokenizer, text: str
) -> None:
    """No label starts or ends itself: special ids stand at its two ends only."""
    first, *body, last = tokenizer.ids(text)
    start, end = tokenizer.ids("")
    assert (start, end) == (first, last)
    assert {start, end}.isdisjoint(body)
    assert body


def test_rows_are_padded_with_the_end_token(tokenizer: Tokenizer) -> None:
    """A text's own tokens are attended to, with one end token; the rest is masked."""
    ids, mask = tokenizer.encode(["chest", ""])
    start, end = tokenizer.ids("")
    chest = tokenizer.ids("chest")
    assert [chest + [end] * 74, [start] + [end] * 76] == ids.tolist()
    assert mask.tolist() == [[1] * 3 + [0] * 74, [1] * 2 + [0] * 75]


def test_a_long_text_is_cut_and_still_ended() -> None:
    """The last of the context's places is the end token's."""
    tokenizer = Tokenizer.load(SUBSET, context=6)
    start, end = tokenizer.ids("")
    chest = tokenizer.ids("chest")[1]
    ids, mask = tokenizer.encode(["chest " * 9])
    assert [[start, chest, chest, chest, chest, end]] == ids.tolist()
    assert mask.tolist() == [[1] * 6]


def test_no_texts_are_no_rows(tokenizer: Tokenizer) -> None:
    """An empty batch keeps its width."""
    ids, mask = tokenizer.encode([])
    assert (tuple(ids.shape), tuple(mask.shape)) == ((0, 77), (0, 77))


def test_one_text_is_not_a_sequence_of_texts(tokenizer: Tokenizer) -> None:
    """A forgotten bracket would embed a label's letters, one by one."""
    with pytest.raises(TypeError, match="not one text"):
        tokenizer.encode("chest")


def test_a_context_must_have_room_for_both_ends(vocabulary: dict[str, int]) -> None:
    """Start and end token need a place each."""
    with pytest.raises(ValueError, match="context"):
        Tokenizer(vocabulary, [], context=1)


@pytest.mark.parametrize(
    ("token", "id_", "message"),
    [
        ("extra", 649, "count from 0"),
        ("extra", 9000, "count from 0"),
        ("extra", 651, "highest id"),
    ],
)
def test_ids_must_count_up_to_the_end_token(
    vocabulary: dict[str, int], token: str, id_: int, message: str
) -> None:
    """The model finds a text's end by its id, and has one embedding per id."""
    with pytest.raises(CheckpointError, match=message):
        Tokenizer({**vocabulary, token: id_}, [])


@pytest.mark.parametrize("token", ["!", "!</w>", "<|startoftext|>", "<|endoftext|>"])
def test_no_byte_and_no_end_may_be_lacking(
    vocabulary: dict[str, int], token: str
) -> None:
    """Letters that a vocabulary lacks would vanish from labels."""
    renamed = {("?!?" if t == token else t): i for t, i in vocabulary.items()}
    with pytest.raises(CheckpointError, match="lacks"):
        Tokenizer(renamed, [])


def test_merges_must_lead_to_tokens(vocabulary: dict[str, int]) -> None:
    """Merges and vocabulary of different tokenizers do not go together."""
    with pytest.raises(CheckpointError, match="no token for the merge q z"):
        Tokenizer(vocabulary, [("q", "z")])


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """The operator learns which file is missing."""
    with pytest.raises(CheckpointError, match=r"vocab\.json: No such file"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocab.json", b"{"),
        ("vocab.json", b"[1, 2]"),
        ("vocab.json", b'{"a": 0, "b": "1"}'),
        ("vocab.json", b"\xff"),
        ("merges.txt", b"#version\nc h e\n"),
        ("merges.txt", b"#version\nche\n"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """Whatever is wrong in a tokenizer's folder, there is one kind of error."""
    for path in (SUBSET / "vocab.json", SUBSET / "merges.txt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        Tokenizer.load(tmp_path)
