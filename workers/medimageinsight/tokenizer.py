"""Text to token ids: CLIP's lower-cased byte-level BPE.

The ids are those of Hugging Face's slow ``CLIPTokenizer`` with ftfy, which the
official release comes with, but for one exception: ``<|startoftext|>`` and
``<|endoftext|>`` within a text are plain characters here. There they become the real
tokens, and everything behind the first end token is lost to the model.

Source: OpenAI's CLIP, ``simple_tokenizer.py``, and the files of its tokenizer
(``vocab.json``, ``merges.txt``; MIT), or a subset of them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import ftfy
import torch
from tokenizers import Regex, models, pre_tokenizers
from tokenizers import Tokenizer as Bpe
from torch import Tensor

from workers.medimageinsight.errors import CheckpointError

START = "<|startoftext|>"
END = "<|endoftext|>"
WORD_END = "</w>"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+)"


class Tokens(NamedTuple):
    """Texts as the text tower takes them.

    Attributes
    ----------
    input_ids
        (B, context) int64; behind the end token come more of them as padding.
    attention_mask
        (B, context) int64, 1 up to and with the first end token.
    """

    input_ids: Tensor
    attention_mask: Tensor


class Tokenizer:
    """Texts to ids of one vocabulary, cut or padded to one length.

    Parameters
    ----------
    vocabulary
        Token to id: CLIP's, or a part of it with ids of its own. Every single byte
        must be in it, within a word and at its end, so that any text can be written;
        the end token must have the highest id, for that is how the model finds it.
    merges
        Pairs of tokens to be joined, the most urgent first.
    context
        Length of a row of ids.

    Raises
    ------
    CheckpointError
        If vocabulary and merges do not fit together.
    ValueError
        If the context is too short for a start and an end token.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        context: int = 77,
    ) -> None:
        if context < len((START, END)):
            raise ValueError(f"a context of {context} has no room for both ends")
        _check_vocabulary(vocabulary)
        _check_merges(merges, vocabulary)
        self.vocabulary = len(vocabulary)
        self.context = context
        self._start, self._end = vocabulary[START], vocabulary[END]
        self._bpe = _bpe(vocabulary, merges)

    @classmethod
    def load(cls, folder: Path, *, context: int = 77) -> Self:
        """Return the tokenizer of a folder with ``vocab.json`` and ``merges.txt``.

        Raises
        ------
        CheckpointError
            If a file cannot be read, or is malformed.
        """
        try:
            vocabulary = _parse_vocabulary((folder / "vocab.json").read_text("utf-8"))
            merges = _parse_merges((folder / "merges.txt").read_text("utf-8"))
        except OSError as error:
            raise CheckpointError(f"{error.filename}: {error.strerror}") from error
        except ValueError as error:
            raise CheckpointError(f"{folder}: not a tokenizer ({error})") from error
        return cls(vocabulary, merges, context=context)

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of texts; what exceeds the context is cut off."""
        if isinstance(texts, str):
            raise TypeError("expected a sequence of texts, not one text")
        rows = [self.ids(text) for text in texts]
        padding = [self.context - len(row) for row in rows]
        ids = [row + [self._end] * pad for row, pad in zip(rows, padding, strict=True)]
        mask = [
            [1] * len(row) + [0] * pad for row, pad in zip(rows, padding, strict=True)
        ]
        shape = (len(rows), self.context)
        return Tokens(
            torch.tensor(ids, dtype=torch.int64).view(shape),
            torch.tensor(mask, dtype=torch.int64).view(shape),
        )

    def ids(self, text: str) -> list[int]:
        """Return one text's ids, from the start to the end token, without padding."""
        body = self._bpe.encode(clean(text)).ids
        return [self._start, *body[: self.context - 2], self._end]


def clean(text: str) -> str:
    """Return a text repaired by ftfy, single-spaced and in lower case."""
    return re.sub(r"\s+", " ", ftfy.fix_text(text)).lower()


def _parse_vocabulary(text: str) -> dict[str, int]:
    vocabulary = json.loads(text)
    if not isinstance(vocabulary, dict) or {int} != set(map(type, vocabulary.values())):
        raise ValueError("the vocabulary does not map tokens to ids")
    return vocabulary


def _parse_merges(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.split("\n")[1:] if line]  # the first is a version
    for line in lines:
        if line.count(" ") != 1:
            raise ValueError(f"a merge joins two tokens, not {line!r}")
    return [(left, right) for left, right in (line.split(" ") for line in lines)]


def _bpe(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Bpe:
    # No special tokens are declared, so none can be written in a text.
    model = models.BPE(
        vocab=dict(vocabulary), merges=list(merges), end_of_word_suffix=WORD_END
    )
    bpe = Bpe(model)
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return bpe


def _check_vocabulary(vocabulary: Mapping[str, int]) -> None:
    ids = sorted(vocabulary.values())
    if ids != list(range(len(ids))):
        raise CheckpointError("the vocabulary's ids do not count from 0 upwards")
    letters = pre_tokenizers.ByteLevel.alphabet()
    needed = {START, END, *letters, *(letter + WORD_END for letter in letters)}
    if absent := needed - vocabulary.keys():
        raise CheckpointError(f"the vocabulary lacks {sorted(absent)[:3]}")
    if vocabulary[END] != ids[-1]:
        raise CheckpointError(f"{END} does not have the vocabulary's highest id")


def _check_merges(
    merges: Sequence[tuple[str, str]], vocabulary: Mapping[str, int]
) -> None:
    for left, right in merges:
        if not {left, right, left + right} <= vocabulary.keys():
            raise CheckpointError(f"no token for the merge {left} {right}")
