"""A site's own thresholds: chosen on its data, kept, signed, put in force in a step apart.

``rules`` and ``cuts``: which threshold reaches a target, pure. ``choosing``: chosen on
some patients, measured on others. ``sets``: the frozen, digested value. ``signing``:
Ed25519. ``store``: immutable files, and what is in force. ``drawing``: the ROC curve.

Knows nothing of packs: `workers.pack` puts a set over a pack.
"""
