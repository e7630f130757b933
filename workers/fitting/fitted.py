"""A head that was fitted: its numbers as a pack keeps them, and the scores it gives.

Nothing is computed here: the numbers are read as those of a pack are
(`workers.trained`), and the scores are the runtime's (`workers.heads`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workers.heads import (
    AnyHead,
    Embeddings,
    MixtureWeights,
    Scores,
    ZeroShotWeights,
    score_frames,
)
from workers.headspecs import (
    Head,
    KnnHead,
    LinearHead,
    MixtureHead,
    MlpHead,
    SvmHead,
    ZeroShotHead,
    fitted_part,
)
from workers.trained import fitted

Kind = Literal["linear", "mlp", "svm", "knn", "zero-shot", "mixture"]

_SHARED = "embeddings"
"""The tensor that heads of one file have in common."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A head.

    Parameters
    ----------
    tensors
        By the part of their names after the head's key, see `workers.headspecs`. Of
        neighbours, ``embeddings`` has no key.
    options
        Of its spec: k, temperature, class weights; the text's weight of a mixture,
        whose other numbers are those of its neighbours.
    prompts
        Of a zero-shot head and a mixture.
    """

    kind: Kind
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    prompts: ZeroShotWeights | None = None

    def scores(self, vectors: Embeddings) -> Scores:
        """Return the score of each item (N, D), in [0, 1]: the runtime's."""
        return score_frames(self._weights(vectors.shape[1]), vectors)

    def spec(self, *, file: str, key: str) -> Head:
        """Return it as a pack has it, whose numbers lie in `file`."""
        if self.kind == "zero-shot":
            return ZeroShotHead()
        if self.kind == "linear":
            return LinearHead(weights=file, key=key)
        if self.kind == "svm":
            return SvmHead(weights=file, key=key)
        if self.kind == "mlp":
            return MlpHead(weights=file, key=key)
        options = dict(self.options)
        text_weight = options.pop("text_weight", None)
        neighbours = KnnHead(references=file, key=key, **options)
        if text_weight is None:
            return neighbours
        return MixtureHead(text_weight=text_weight, parts=(ZeroShotHead(), neighbours))

    def named(self, key: str) -> dict[str, NDArray[Any]]:
        """Return the tensors under the names that they have in a pack's file."""
        return {
            part if part == _SHARED else f"{key}.{part}": np.ascontiguousarray(values)
            for part, values in self.tensors.items()
        }

    def _weights(self, dimension: int) -> AnyHead:
        """Return it as it is when a pack has been opened."""
        key = "fitted"
        spec = self.spec(file="what was fitted", key=key)
        part = fitted_part(spec)
        if part is None:
            return self._text
        other = fitted(part, self.named(key), dimension)
        if not isinstance(spec, MixtureHead):
            return other
        return MixtureWeights(
            text=self._text, other=other, text_weight=spec.text_weight
        )

    @property
    def _text(self) -> ZeroShotWeights:
        assert self.prompts is not None  # noqa: S101 - made with them
        return self.prompts
