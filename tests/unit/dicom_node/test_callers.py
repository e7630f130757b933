"""Who may call under a title: addresses and certificates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.callers import (
    Identity,
    Shown,
    certificate_mark,
    identities,
    names_of,
    network,
)
from dicom_node.errors import SettingsError
from dicom_node.peers import Peer

DIGITS = "ab" * 32
COLONS = ":".join(["AB"] * 32)
ELSEWHERE = "it calls from an address that is not among this peer's addresses"
CT = Shown(fingerprint=DIGITS, names=frozenset({"ct.example"}))


def identity(*addresses: str, certificates: tuple[str, ...] = ()) -> Identity:
    """Return what a caller has to have."""
    return Identity(
        networks=tuple(map(network, addresses)),
        certificates=frozenset(map(certificate_mark, certificates)),
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.1.2.3", ""),
        ("10.1.3.3", ELSEWHERE),
        ("::ffff:10.1.2.3", ""),
        ("2001:db8::7", ""),
        ("2001:db8::8", ELSEWHERE),
        ("fe80::1%eth0", ELSEWHERE),
        ("nonsense", ELSEWHERE),
    ],
)
def test_a_caller_comes_from_its_addresses(address: str, said: str) -> None:
    """Single ones and networks, of both families, and IPv4 inside IPv6."""
    assert identity("10.1.2.0/24", "2001:db8::7").objection(address, None) == said


@pytest.mark.parametrize("mark", [DIGITS, COLONS, f"sha256:{COLONS}", "CT.example"])
def test_a_caller_shows_its_certificate(mark: str) -> None:
    """By fingerprint, as OpenSSL writes it or without colons, or by name."""
    one = identity(certificates=(mark,))
    other = Shown(fingerprint="cd" * 32, names=frozenset({"mr.example"}))
    assert one.objection("10.0.0.1", CT) == ""
    assert "not among" in one.objection("10.0.0.1", other)
    assert "has to show a certificate" in one.objection("10.0.0.1", None)


def test_nothing_asked_is_nothing_wanted() -> None:
    """An empty identity is everybody's."""
    assert Identity().objection("10.0.0.1", None) == ""


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_an_address_lies_in_every_network_around_it(address: int, length: int) -> None:
    """Whatever the prefix's length."""
    text = ".".join(str(byte) for byte in address.to_bytes(4, "big"))
    base = address >> (32 - length) << (32 - length)
    around = ".".join(str(byte) for byte in base.to_bytes(4, "big"))
    assert identity(f"{around}/{length}").objection(text, None) == ""


def test_a_title_of_two_peers_is_not_opened_by_the_laxer_one() -> None:
    """The sender's addresses count, though the destination of that title has none."""
    strict = identity("10.0.0.1")
    assert identities([("PACS", strict), ("PACS", Identity())]) == {"PACS": (strict,)}


def test_names_of_a_certificate() -> None:
    """DNS names of the Subject Alternative Name, and the Common Name."""
    told = {
        "subject": ((("countryName", "AT"),), (("commonName", "CT1"),)),
        "subjectAltName": (("DNS", "ct.Example"), ("IP Address", "10.0.0.1")),
    }
    assert names_of(told) == {"ct1", "ct.example"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"addresses": {"10.0.0.256"}}, "neither an IP address nor a network"),
        ({"addresses": {"10.0.0.1/24"}}, "neither an IP address nor a network"),
        ({"certificates": {"AB:CD"}}, "neither a SHA-256 fingerprint nor a name"),
    ],
)
def test_what_is_no_address_or_certificate_is_refused(
    keys: dict[str, frozenset[str]], message: str
) -> None:
    """In a sentence that names the peer."""
    with pytest.raises(SettingsError, match=rf"peer .ct.: \w+: .* is {message}"):
        Peer(name="ct", aet="CT", **keys)  # type: ignore[arg-type]
