"""A part of CLIP's tokenizer: all bytes, and the merges that some words need.

The pack's ``tokenizer`` folder was made by this once, from OpenAI's files (MIT). A
word of the list becomes the same pieces as in the full vocabulary; any other text can
still be written, in smaller pieces.
"""

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

_START, _END, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
_BYTES = 512  # CLIP's first ids: every byte, within a word and at its end


def write_subset(full: Path, words: Iterable[str], folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt`` that know `words`, out of those in `full`.

    Tokens keep their order; the end token gets the highest id.
    """
    vocabulary = json.loads((full / "vocab.json").read_text("utf-8"))
    lines = (full / "merges.txt").read_text("utf-8").splitlines()
    merges = [(a, b) for a, b in (line.split() for line in lines[1:] if line.strip())]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    needed: set[int] = set()
    for word in words:
        needed |= _merges_of(word, ranks)
    kept = [merges[rank] for rank in sorted(needed)]
    tokens = {token for token, index in vocabulary.items() if index < _BYTES}
    tokens |= {left + right for left, right in kept}
    ordered = [*sorted(tokens, key=vocabulary.__getitem__), _START, _END]
    folder.mkdir(parents=True, exist_ok=True)
    ids = {token: index for index, token in enumerate(ordered)}
    text = json.dumps(ids, ensure_ascii=False, indent=0) + "\n"
    (folder / "vocab.json").write_text(text, "utf-8")
    pairs = [lines[0], *(f"{left} {right}" for left, right in kept)]
    (folder / "merges.txt").write_text("\n".join(pairs) + "\n", "utf-8")


def _merges_of(word: str, ranks: dict[tuple[str, str], int]) -> set[int]:
    """Return the ranks of the merges that byte-pair encoding makes in an ASCII word."""
    pieces = [*word[:-1], word[-1] + _WORD_END]
    used: set[int] = set()
    while True:
        pairs = [
            (ranks.get(pair, len(ranks)), at)
            for at, pair in enumerate(pairwise(pieces))
        ]
        rank, at = min(pairs, default=(len(ranks), 0))
        if rank == len(ranks):
            return used
        used.add(rank)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
