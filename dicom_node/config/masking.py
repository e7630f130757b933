"""The settings as somebody may see them who must not see a secret."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from dicom_node.config.settings import Settings

USERINFO = re.compile(r"(?<=://)[^/\s]*@")
"""RFC 3986 3.2.1: what stands before the host, a password perhaps."""


def masked(settings: Settings) -> Mapping[str, object]:
    """Return the settings in effect as JSON has them, without any secret.

    Secrets are ``**********``; of the addresses of ledger and broker only scheme, host
    and path are left.
    """
    told = settings.model_dump(mode="json")
    for key in ("ledger_url", "broker_url"):
        if told[key]:
            told[key] = _address(told[key])
    return {key: _without_userinfo(value) for key, value in told.items()}


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "set"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _without_userinfo(value: Any) -> object:
    if isinstance(value, str):
        return USERINFO.sub("", value)
    if isinstance(value, list):
        return [_without_userinfo(one) for one in value]
    if isinstance(value, dict):
        return {key: _without_userinfo(one) for key, one in value.items()}
    return value
