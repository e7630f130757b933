"""An atlas where a reference says it lies: a folder, or ``milvus+URI``."""

from pathlib import Path

from workers.atlas.opened import open_atlas
from workers.atlas.published import PREFIX, MilvusPlace, open_published
from workers.atlas.searchable import Searchable


def open_reference(
    reference: str,
    *,
    base: Path | None = None,
    digest: str = "",
    link: Path | None = None,
    token: str = "",
) -> Searchable:
    """Return the atlas that a reference names.

    Parameters
    ----------
    base
        What a path is relative to; None: where the process runs.
    digest
        Which one it has to be; empty for any.
    link
        Its link file; None: the one beside the folder, if there is one.
    token
        For Milvus: a token, or ``user:password``.

    Raises
    ------
    Permanent
        If it is not there, or another one.
    Transient
        If Milvus does not answer.
    """
    if reference.startswith(PREFIX):
        place = MilvusPlace.of(reference, base)
        return open_published(place, token, digest=digest, link=link)
    folder = (base or Path()) / reference
    return open_atlas(folder, digest=digest, link=link)
