"""URLs of the broker and the ledger: checked without repeating them, and their secrets.

A password in a URL is percent-encoded (RFC 3986 3.2.1). One that is not makes a URL
that libraries misread, and quote in their errors: so it ends here, unquoted.
"""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

from dicom_node.errors import SettingsError

AUTHORITY = re.compile(r"^([a-z0-9+]+://)(?:([^/@:]*)(?::[^/@]*)?@)?(.*)$", re.DOTALL)
"""A URL's scheme, its user, and what follows the user's password."""


def address_fault(url: str) -> str:
    """Return in words why libraries would misread this URL, empty if they would not."""
    if not url or "://" not in url:
        return "" if not url else "it is no URL"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it raises if it is no number
    except ValueError:
        return "its port is no number: a password in a URL is percent-encoded"
    misplaced = "@" in parts.path or "@" in parts.query or "@" in parts.fragment
    if parts.netloc.count("@") > 1 or misplaced:
        return "a password in a URL is percent-encoded: @ is %40, / is %2F, # is %23"
    return ""


def with_password(url: str, file: Path | None) -> str:
    """Return the URL with the password that the file holds.

    Raises
    ------
    SettingsError
        If the file cannot be read.
    """
    if file is None or not url:
        return url
    try:
        password = file.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the password file {file} cannot be read") from error
    scheme, user, rest = AUTHORITY.fullmatch(url).groups()  # type: ignore[union-attr]
    return f"{scheme}{user or ''}:{quote(password, safe='')}@{rest}"
