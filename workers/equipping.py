"""A pack made ready to conclude: its model, its heads, its gate and its atlas.

Whatever a manifest names has to be there, verified, or the pack is not equipped at all:
a study is never concluded with half of a pack.
"""

from dicom_node.errors import Permanent
from workers.encoder import open_encoder
from workers.heads import heads_of, labels_of
from workers.pack import Pack
from workers.pipeline import Equipped
from workers.similar import Atlas
from workers.study import Gate


def equip(pack: Pack, *, device: str, threads: int | None = None) -> Equipped:
    """Return the pack with all that it needs.

    Raises
    ------
    Permanent
        If its model cannot be made, or a gate or an atlas that it names is not to be had.
    """
    encoder = open_encoder(pack, device=device, threads=threads)
    return Equipped(
        pack=pack,
        encoder=encoder,
        heads=heads_of(pack, encoder),
        labels=labels_of(pack, encoder),
        gate=_gate(pack),
        atlas=_atlas(pack),
    )


def _gate(pack: Pack) -> Gate | None:
    """Return the gate that the pack names; its file was verified with the pack."""
    spec = pack.manifest.gate
    if spec is None:
        return None
    raise Permanent(f"pack {pack.name} has a gate of an unknown kind: {spec.kind}")


def _atlas(pack: Pack) -> Atlas | None:
    """Return the atlas that the pack names, if it is that one."""
    spec = pack.manifest.atlas
    if spec is None:
        return None
    raise Permanent(
        f"pack {pack.name} names an atlas that cannot be opened: {spec.name}"
    )
