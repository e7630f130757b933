"""A pack made ready to conclude: its model, its heads, its gate and its atlas.

Whatever a manifest names has to be there, verified, or the pack is not equipped at all:
a study is never concluded with half of a pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.domain import AtlasSearch, Exam, Sha256, StudyUid
from workers.atlas.link import Asker
from workers.atlas.places import open_reference
from workers.atlas.searchable import Searchable
from workers.encoder import open_encoder
from workers.heads import heads_of, labels_of
from workers.pack import Pack
from workers.pipeline import Equipped
from workers.similar import Atlas


def equip(
    pack: Pack, *, device: str, threads: int | None = None, milvus_token: str = ""
) -> Equipped:
    """Return the pack with all that it needs.

    Parameters
    ----------
    milvus_token
        For an atlas in Milvus: a token, or ``user:password``.

    Raises
    ------
    Permanent
        If its model cannot be made, or a gate or an atlas that it names is not to be had.
    Transient
        If Milvus does not answer, where its atlas lies there.
    """
    encoder = open_encoder(pack, device=device, threads=threads)
    return Equipped(
        pack=pack,
        encoder=encoder,
        heads=heads_of(pack, encoder),
        labels=labels_of(pack, encoder),
        gate=pack.gate,
        atlas=_atlas(pack, milvus_token),
    )


def _atlas(pack: Pack, token: str) -> Atlas | None:
    """Return the atlas that the pack names, if it is that one."""
    spec = pack.manifest.atlas
    if spec is None:
        return None
    opened = open_reference(
        spec.path,
        base=pack.folder,
        digest=spec.digest,
        link=pack.folder / spec.link if spec.link else None,
        token=token,
    )
    opened.check_encoder(pack.encoder_key, pack.name)
    return _Shelf(opened)


@dataclass(frozen=True, slots=True)
class _Shelf:
    """An open atlas that knows whose study asks."""

    opened: Searchable

    def nearest(
        self,
        runs: Sequence[NDArray[np.float32]],
        exam: Exam,
        k: int,
        *,
        study: StudyUid,
        patient: Sha256,
    ) -> AtlasSearch | None:
        """Return the `k` nearest cases of others, or None where there are none."""
        asker = Asker(studies=frozenset({study}), patients=frozenset({patient}))
        return self.opened.nearest(runs, exam, k, asker=asker)
