"""The packs in use, with the thresholds that this site has put in force over them.

One place for node, worker and `pacsight analyze`, so that all of them mean the same by
the same pack: its device UID follows from its thresholds. Without torch.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from dicom_node.config import Settings
from dicom_node.errors import Permanent
from workers.pack import Pack, locate, open_pack
from workers.thresholds.store import Activation, Store, stamp

IN_FORCE: Final = "in-force"
"""In the place of a set's label: whatever was activated last."""


def packs_in_force(settings: Settings) -> tuple[Pack, ...]:
    """Return the packs that the settings name, verified, at the thresholds in force.

    Raises
    ------
    Permanent
        If a pack is missing or does not verify, or its thresholds do not, or they are
        those of another version of it.
    """
    store = threshold_store(settings)
    return tuple(_at_thresholds(open_pack(locate(n)), store) for n in settings.packs)


def at_thresholds(pack: Pack, wanted: str, settings: Settings) -> Pack:
    """Return a pack at the thresholds of a set, or at those that are in force here.

    Parameters
    ----------
    wanted
        The set's label, or `IN_FORCE`: where nothing was activated, that is what the
        pack ships.

    Raises
    ------
    Permanent
        If there is no such set, or it is of another version of the pack.
    """
    store = threshold_store(settings)
    if wanted == IN_FORCE:
        return _at_thresholds(pack, store)
    return pack.with_thresholds(store.read(pack.name, wanted).set)


def threshold_store(settings: Settings) -> Store:
    """Return the site's threshold sets."""
    return Store(settings.data_dir, settings.thresholds.trusted_keys)


def put_in_force(
    name_or_path: str, label: str | None, shadow: Sequence[str], settings: Settings
) -> Activation:
    """Return the decision that a set counts from now on; it is in the log.

    Parameters
    ----------
    label
        Of the set; None for the thresholds that the pack ships.
    shadow
        Findings that flag nothing, besides those that the set names so.

    Raises
    ------
    Permanent
        If pack or set do not verify, or do not belong together.
    """
    store = threshold_store(settings)
    pack = open_pack(locate(name_or_path))
    digest = None
    if label is not None:
        found = store.read(pack.name, label).set
        pack.with_thresholds(found, shadow=shadow)  # raises where it does not fit
        digest = found.digest
    return store.decide(
        Activation(
            at=stamp(datetime.now(UTC)),
            pack=pack.name,
            pack_version=pack.version,
            pack_digest=pack.digest,
            set=label,
            set_digest=digest,
            shadow=tuple(sorted(set(shadow))),
        )
    )


def pack_name(name_or_path: str, settings: Settings) -> str:
    """Return the name that a pack's sets are kept under: its own, or its folder's.

    Sets can be looked at where the pack itself is gone.

    Raises
    ------
    Permanent
        If there is neither a set of this name nor a pack.
    """
    if name_or_path in threshold_store(settings).packs():
        return name_or_path
    try:
        return open_pack(locate(name_or_path)).name
    except Permanent as error:
        raise Permanent(
            f"there is no threshold set of {name_or_path!r}, and no pack to have one: "
            f"{error}"
        ) from error


def _at_thresholds(pack: Pack, store: Store) -> Pack:
    found = store.in_force(pack.name, pack.version, pack.digest)
    if found is None:
        return pack
    return pack.with_thresholds(found.set, shadow=found.shadow)
