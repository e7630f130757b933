"""Whose a service token is, and new ones. RFC 6750: bearer tokens.

The node holds SHA-256 digests alone: its settings, backups and memory give no token
away.
"""

import hmac
import secrets
from collections.abc import Sequence

from dicom_node.access import TOKEN_PREFIX, Identity, ServiceToken, digest_of

TOKEN_BYTES = 32


def new_token() -> str:
    """Return a token that nobody has seen: 256 bits at random behind our prefix."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def identify(token: str, known: Sequence[ServiceToken]) -> Identity | None:
    """Return whose token it is, or None.

    Every digest is compared, in a time that does not depend on where they differ.
    """
    digest = digest_of(token)
    found = None
    for one in known:
        if hmac.compare_digest(digest, one.sha256):
            found = Identity(name=one.name, roles=one.roles)
    return found
