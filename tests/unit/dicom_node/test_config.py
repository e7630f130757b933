"""Settings: where they come from, what is refused, and that all are documented."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from dicom_node.access import ServiceToken
from dicom_node.config import Settings, load_settings, masked, setting_names
from dicom_node.config.rules import PackRuleTable, PriorityRuleTable
from dicom_node.config.values import Table
from dicom_node.domain import ObjectKind, Priority
from dicom_node.domain.audited import Alarm, AuditEvent, SecurityAlert
from dicom_node.errors import SettingsError
from dicom_node.exposure import check_exposure
from dicom_node.peers import (
    Credentials,
    Inquiry,
    Peer,
    RetryPolicy,
    Right,
    Tls,
    Verify,
    Via,
)
from dicom_node.wiring import exposed, exposed_http
from tests.certificates import Authority

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"

FILE = """
site = "north"
packs = ["phantoms", "/packs/cxr"]

[dicom]
aet = "AINODE"
host = "0.0.0.0"

[study]
quiet_period_s = 10

[[peers]]
name = "pacs"
aet = "PACS"
host = "pacs.example"
port = 104
dicomweb = "https://pacs.example/dicom-web"
rights = ["send", "destination"]
priority = "backfill"
via = "stow"
objects = ["SR"]
expected = "qido"
called_aets = ["AINODE"]
credentials = { username = "node", password = "hunter2" }
retry = { first_s = 1, cap_s = 60, max_attempts = 100 }

[[priority_rules]]
priority = "stat"
called_aet = "AISTAT"

[[priority_rules]]
priority = "stat"
attributes = { StationName = "ED1" }
"""


def load(tmp_path: Path, text: str = "", **environ: str) -> Settings:
    """Return what this file and this environment say."""
    path = tmp_path / "pacsight.toml"
    path.write_text(text)
    return load_settings(path, environ)


def fault(tmp_path: Path, text: str = "", **environ: str) -> str:
    """Return what is said of this file and this environment."""
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, **environ)
    return str(caught.value)


# ── where they come from ────────────────────────────────────────────────────


def test_without_anything_the_node_stays_on_this_machine(tmp_path: Path) -> None:
    """Loopback alone, everybody on it may send, the ledger lies in the data folder."""
    settings = load(tmp_path)
    assert (settings.dicom.host, settings.dicom.port) == ("127.0.0.1", 11112)
    assert settings.http.host == "127.0.0.1"
    assert settings.dicom.accept_unknown_peers
    assert settings.data_dir.is_absolute()
    assert settings.ledger_address == f"sqlite:///{settings.data_dir}/ledger.sqlite"
    assert settings.spool_dir == settings.data_dir / "spool"
    assert settings.broker_url is None


def test_the_file_is_read(tmp_path: Path) -> None:
    """Tables, peers and rules become frozen values."""
    settings = load(tmp_path, FILE)
    (pacs,) = settings.peers
    assert settings.site == "north"
    assert settings.packs == ("phantoms", "/packs/cxr")
    assert settings.study.quiet_period_s == 10
    assert pacs.rights == {Right.SEND, Right.DESTINATION}
    assert (pacs.via, pacs.expected) == (Via.STOW, Inquiry.QIDO)
    assert pacs.priority is Priority.BACKFILL
    assert pacs.objects == {ObjectKind.REPORT}
    assert pacs.retry == RetryPolicy(first_s=1, cap_s=60, max_attempts=100)
    assert pacs.credentials is not None
    assert pacs.credentials.password is not None
    assert pacs.credentials.password.get_secret_value() == "hunter2"
    stat, emergency = (rule.rule for rule in settings.priority_rules)
    assert (stat.priority, stat.called_aet) == (Priority.STAT, "AISTAT")
    assert emergency.attributes == {"StationName": frozenset({"ED1"})}
    assert settings.called_aets == {"AINODE", "AISTAT"}
    assert settings.caller.aet == "AINODE"


def test_the_files_of_tls_are_looked_at_when_settings_are_read(tmp_path: Path) -> None:
    """A file that is missing or holds something else is named, with its peer."""
    own = Authority.found(tmp_path / "ca").own
    lines = {"ca": own.path, "certificate": own.path, "key": own.key}
    peer = '[[peers]]\nname = "pacs"\naet = "PACS"\n[peers.tls]\n'

    def settings(**changes: Path) -> Settings:
        table = [f'{key} = "{path}"' for key, path in (lines | changes).items()]
        return load(tmp_path, peer + "\n".join(table))

    (pacs,) = settings().peers
    assert pacs.tls == Tls(**lines)
    gone = tmp_path / "gone.pem"
    with pytest.raises(SettingsError, match=r"peer 'pacs': tls.ca: there is no file"):
        settings(ca=gone)
    with pytest.raises(SettingsError, match=r"tls.key: there is no file"):
        settings(key=gone)
    with pytest.raises(SettingsError, match=r"tls.ca: .* holds no certificate"):
        settings(ca=own.key)
    with pytest.raises(SettingsError, match="no PEM certificate with its key"):
        settings(key=own.path)


def test_tls_is_on_with_an_empty_table(tmp_path: Path) -> None:
    """The system's authorities are trusted then; a misspelt key is no setting."""
    peer = '[[peers]]\nname = "pacs"\naet = "PACS"\n'
    assert load(tmp_path, peer + "tls = {}").peers[0].tls == Tls()
    with pytest.raises(SettingsError, match=r"did you mean peers\[0\].tls.ca"):
        load(tmp_path, peer + 'tls = { caa = "x" }')


def test_open_to_the_network_it_hears_only_those_it_knows(tmp_path: Path) -> None:
    """Unknown peers are welcome on loopback alone, unless somebody says so."""
    assert not load(tmp_path, FILE).dicom.accept_unknown_peers
    assert load(tmp_path, '[dicom]\nhost = "localhost"').dicom.accept_unknown_peers
    said = '[dicom]\nhost = "::"\naccept_unknown_peers = true'
    assert load(tmp_path, said).dicom.accept_unknown_peers


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """Key by key: what it does not name stays as the file says."""
    settings = load(
        tmp_path,
        FILE,
        PACSIGHT_SITE="south",
        PACSIGHT_DICOM__PORT="104",
        PACSIGHT_DICOM__ALSO_CALLED="AISTAT, AIFAST",
        PACSIGHT_PACKS="phantoms",
        PACSIGHT_BROKER_URL="redis://broker/0",
        PACSIGHT_PEERS='[{"name": "ct", "aet": "CT1", "priority": "stat"}]',
        UNRELATED="x",
    )
    assert settings.site == "south"
    assert (settings.dicom.port, settings.dicom.aet) == (104, "AINODE")
    assert settings.dicom.also_called == ("AISTAT", "AIFAST")
    assert settings.packs == ("phantoms",)
    assert settings.broker_url == "redis://broker/0"
    assert [(p.name, p.priority) for p in settings.peers] == [("ct", Priority.STAT)]


def test_the_file_is_found_by_its_variable_or_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PACSIGHT_CONFIG first, else pacsight.toml of the current folder, else none."""
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).site == "pacsight"
    (tmp_path / "pacsight.toml").write_text('site = "here"')
    (tmp_path / "other.toml").write_text('site = "there"')
    assert load_settings(None, {}).site == "here"
    there = {"PACSIGHT_CONFIG": str(tmp_path / "other.toml")}
    assert load_settings(None, there).site == "there"


def test_the_process_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a mapping the real environment is read, and only when asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PACSIGHT_SITE", "real")
    assert load_settings().site == "real"
    assert Settings().site == "pacsight"


def test_data_lies_where_the_desktop_says(tmp_path: Path) -> None:
    """XDG_DATA_HOME moves the data folder; the setting itself wins; ~ is expanded."""
    assert load(tmp_path, XDG_DATA_HOME="/xdg").data_dir == Path("/xdg/pacsight")
    said = load(tmp_path, 'data_dir = "~/here"', XDG_DATA_HOME="/xdg")
    assert said.data_dir == Path.home() / "here"


def test_settings_are_frozen_and_keep_secrets(tmp_path: Path) -> None:
    """Nobody changes them later, and neither repr nor a URL shows a password."""
    settings = load(
        tmp_path,
        FILE,
        PACSIGHT_LEDGER_URL="postgresql://u:s3cret@db/x",
        PACSIGHT_BROKER_URL="redis://:s3cret@broker",
    )
    with pytest.raises(ValidationError):
        settings.site = "other"
    with pytest.raises(ValidationError):
        settings.dicom.port = 1
    assert "hunter2" not in repr(settings)
    assert "s3cret" not in repr(settings)


# ── what is refused ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dicm = 1", "dicm is no setting; did you mean dicom?"),
        ("[dicom]\nprot = 1", "dicom.prot is no setting; did you mean dicom.port?"),
        ("zzz = 1", "zzz is no setting; see docs/settings.md"),
        (
            '[[peers]]\nname = "a"\naet = "A"\nrigths = []',
            "peers[0].rigths is no setting; did you mean peers[0].rights?",
        ),
        (
            '[[peers]]\nname = "a"\naet = "A"\nretry = { frist_s = 1 }',
            "peers[0].retry.frist_s is no setting; did you mean peers[0].retry.first_s?",
        ),
        (
            '[[priority_rules]]\npriority = "stat"\ncaled_aet = "X"',
            (
                "priority_rules[0].caled_aet is no setting;"
                " did you mean priority_rules[0].called_aet?"
            ),
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_nearest(
    tmp_path: Path, text: str, message: str
) -> None:
    """A slip of the pen is an error, not a default that surprises later."""
    assert fault(tmp_path, text) == message


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (
            "PACSIGHT_DICM__PORT",
            "PACSIGHT_DICM__PORT is no setting; did you mean PACSIGHT_DICOM__PORT?",
        ),
        (
            "PACSIGHT_DICOM__PROT",
            "dicom.prot is no setting; did you mean dicom.port?",
        ),
        ("PACSIGHT_SITTE", "PACSIGHT_SITTE is no setting; did you mean PACSIGHT_SITE?"),
    ],
)
def test_an_unknown_variable_is_named_with_its_nearest(
    tmp_path: Path, variable: str, message: str
) -> None:
    """The same for the environment; the tests' own variable is none of it."""
    assert fault(tmp_path, **{variable: "1"}) == message
    load(tmp_path, PACSIGHT_SHARED="/corpus")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dicom]\nport = 70000", "dicom.port: input should be less than or equal"),
        ('[dicom]\nport = "x"', "dicom.port: input should be a valid integer"),
        ('[dicom]\naet = "SEVENTEEN_LETTERS"', "'SEVENTEEN_LETTERS' in dicom.aet"),
        ('[dicom]\nalso_called = [""]', "'' in dicom.also_called"),
        ('[report]\npurpose = ["109102", "DCM"]', "report.purpose: needs value"),
        ('[report]\npurpose = ["a", "", "b"]', "report.purpose: needs value"),
        (
            "[study]\nquiet_period_s = 0",
            "study.quiet_period_s: input should be greater",
        ),
        (
            "[study]\nquiet_period_s = 2\nexpected_quiet_period_s = 3",
            "study.expected_quiet_period_s is above study.quiet_period_s",
        ),
        ('[worker]\ndevice = "tpu"', "worker.device: input should be 'auto'"),
        ('[report]\ntimezone = "CET"', "report.timezone: string should match pattern"),
        ('site = ""', "site: string should have at least 1 character"),
        (
            '[[peers]]\nname = "a"\naet = "A"\npriority = "urgent"',
            "peers[0]: priority has to be stat, routine or backfill",
        ),
        (
            '[[peers]]\nname = "a"\naet = "A"\nrights = ["sned"]',
            "peers[0].rights[0]: input should be 'send', 'query' or 'destination'",
        ),
        (
            '[[peers]]\nname = "a"\nrights = ["destination"]',
            "peer 'a': via = \"dimse\" needs aet",
        ),
        (
            '[[peers]]\nname = "a"\naet = "A"\n[[peers]]\nname = "a"\naet = "B"',
            "two peers are called 'a'",
        ),
        (
            '[[priority_rules]]\npriority = "stat"\nattributes = { Staion = "x" }',
            "'Staion' is not a DICOM keyword",
        ),
        ("a = [", "is not TOML"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    tmp_path: Path, text: str, message: str
) -> None:
    """The error says which key, and what would fit."""
    assert message in fault(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that was asked for has to be there."""
    with pytest.raises(SettingsError, match=r"there is no settings file .*none\.toml"):
        load_settings(tmp_path / "none.toml", {})


def test_a_variable_that_is_no_json_is_named(tmp_path: Path) -> None:
    """Lists and tables are JSON in the environment."""
    said = fault(tmp_path, PACSIGHT_PEERS="pacs")
    assert said == "PACSIGHT_PEERS has to be JSON: it is a list or table"


def test_a_fault_never_repeats_a_secret(tmp_path: Path) -> None:
    """An error about credentials does not show them."""
    text = '[[peers]]\nname = "a"\naet = "A"\ncredentials = { password = "hunter2" }'
    assert "hunter2" not in fault(tmp_path, text)
    text = '[[peers]]\nname = "a"\naet = "A"\ncredentials = "hunter2"'
    assert "hunter2" not in fault(tmp_path, text)


# ── secrets ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["broker_url", "ledger_url"])
@pytest.mark.parametrize("password", ["hunt@er", "hunt/er@x", "hunt#er@x", "hunt/er"])
def test_a_password_that_a_url_cannot_hold_is_not_repeated(
    tmp_path: Path, key: str, password: str
) -> None:
    """Libraries would misread the URL and quote parts of it: it ends here."""
    said = fault(tmp_path, f'{key} = "redis://user:{password}@host:6379/0"')
    assert said.startswith(f"{key}: ")
    assert "percent-encoded" in said
    assert "hunt" not in said


def test_a_password_can_lie_in_a_file(tmp_path: Path) -> None:
    """It stands in the URL's place for it, percent-encoded, and in no representation."""
    secret = tmp_path / "secret"
    secret.write_text("p@ss/word\n")
    settings = load(
        tmp_path,
        f'broker_password_file = "{secret}"\nledger_password_file = "{secret}"\n'
        'broker_url = "rediss://redis.example:6380/0"\n'
        'ledger_url = "postgresql+psycopg://node@db.example/pacsight?sslmode=verify-full"',
    )
    broker = "rediss://:p%40ss%2Fword@redis.example:6380/0"
    assert settings.broker_address == broker
    ledger = "postgresql+psycopg://node:p%40ss%2Fword@db.example/pacsight"
    assert settings.ledger_address == f"{ledger}?sslmode=verify-full"
    assert "p%40ss" not in repr(settings)


def test_a_password_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """In a sentence, when the password is needed."""
    settings = load(
        tmp_path, 'broker_url = "redis://h/0"\nbroker_password_file = "/nowhere"'
    )
    with pytest.raises(SettingsError, match="password file /nowhere cannot be read"):
        _ = settings.broker_address


# ── who comes in ────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("dicom", "message"),
    [
        ('host = "127.0.0.1"', ""),
        (
            'host = "0.0.0.0"',
            (
                "dicom.host = '0.0.0.0' lets the network in without TLS and client"
                " certificates: set dicom.tls.certificate, dicom.tls.key and dicom.tls.ca"
                " and dicom.plain = false; or, where the network itself is protected,"
                " dicom.insecure = true"
            ),
        ),
        ('host = "0.0.0.0"\ninsecure = true', ""),
        ('host = "0.0.0.0"\nplain = false\n[dicom.tls]\ncertificate="c"\nca="a"', ""),
        ('[dicom.tls]\nhost = "0.0.0.0"\ncertificate = "c"\nca = "a"', ""),
        (
            '[dicom.tls]\nhost = "10.0.0.1"\ncertificate = "c"',
            (
                "dicom.tls.host = '10.0.0.1' lets the network in without client"
                ' certificates: set dicom.tls.ca and dicom.tls.client = "required"; or,'
                " where the network itself is protected, dicom.insecure = true"
            ),
        ),
    ],
)
def test_beyond_loopback_callers_are_identified(
    tmp_path: Path, dicom: str, message: str
) -> None:
    """Or an explicit word lets anybody in; the error says what to set."""
    doors = exposed(load(tmp_path, f"[dicom]\n{dicom}"))
    said = ""
    try:
        check_exposure(doors, lambda _: None)
    except SettingsError as error:
        said = str(error)
    assert said == message


HTTP_TLS = 'certificate = "c"\n'
TOKEN = f'[[http.tokens]]\nname = "r"\nsha256 = "{"a" * 64}"\nroles = ["send"]'
OIDC = '[http.oidc]\nissuer = "https://id.example"\naudience = "pacsight"'


@pytest.mark.parametrize(
    ("http", "lacks", "remedy"),
    [
        ("", "", ""),
        (f'host = "::1"\n{TOKEN}', "", ""),
        (
            'host = "0.0.0.0"',
            "TLS and authentication",
            "http.tls.certificate and http.tls.key, and http.tokens or http.oidc",
        ),
        (
            f'host = "node.example"\n[http.tls]\n{HTTP_TLS}',
            "authentication",
            "http.tokens or http.oidc",
        ),
        (
            f'host = "0.0.0.0"\n{TOKEN}',
            "TLS",
            "http.tls.certificate and http.tls.key",
        ),
        (f'host = "0.0.0.0"\n[http.tls]\n{HTTP_TLS}{TOKEN}', "", ""),
        (f'host = "0.0.0.0"\n[http.tls]\n{HTTP_TLS}{OIDC}', "", ""),
    ],
)
def test_beyond_loopback_http_needs_tls_and_tokens(
    tmp_path: Path, http: str, lacks: str, remedy: str
) -> None:
    """One of the two is not enough; the error says what is missing and what to set."""
    settings = load(tmp_path, f"[http]\n{http}")
    said = ""
    try:
        check_exposure(exposed_http(settings), lambda _: None)
    except SettingsError as error:
        said = str(error)
    host = settings.http.host
    expected = (
        f"http.host = {host!r} lets the network in without {lacks}: set {remedy}; or,"
        " where the network itself is protected, http.insecure = true"
    )
    assert said == (expected if lacks else "")


def test_an_open_door_for_http_is_told_of_at_every_start(tmp_path: Path) -> None:
    """The explicit word lets the node start, and is said to the security officer."""
    told: list[AuditEvent] = []
    settings = load(tmp_path, '[http]\nhost = "0.0.0.0"\ninsecure = true')
    check_exposure(exposed_http(settings), told.append)
    (alert,) = told
    assert isinstance(alert, SecurityAlert)
    assert alert.alarm is Alarm.SECURITY_CONFIGURATION
    assert "http.insecure" in alert.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[http.tokens]]\nname = "r"\nsha256 = "hunter2"\nroles = ["send"]',
            "the token 'r' needs the 64 digits of its SHA-256",
        ),
        (f"{TOKEN}\n{TOKEN}", "two tokens are called 'r'"),
        (TOKEN.replace('["send"]', "[]"), "the token 'r' has no roles"),
        (TOKEN.replace("send", "root"), "http.tokens[0].roles[0]: input should be"),
        (TOKEN.replace('"r"', '""'), "a token's name has one to 64 plain characters"),
        (f"{TOKEN}\nrole = 1", "did you mean http.tokens[0].roles?"),
        (OIDC.replace("https", "http"), "http.oidc.issuer has to be an https address"),
        (OIDC.replace('"pacsight"', '""'), "http.oidc.audience must not be empty"),
        (f'{OIDC}\nalgorithms = ["HS256"]', "http.oidc.algorithms can be ES256,"),
        (f'{OIDC}\nalgorithms = ["none"]', "http.oidc.algorithms can be ES256,"),
        (f"{OIDC}\nleeway_s = 9999", "http.oidc.leeway_s is 0 to 300 seconds"),
        ('[http.tls]\nkey = "k"', "http.tls.key and http.tls.ca need a certificate"),
    ],
)
def test_what_http_refuses(tmp_path: Path, text: str, message: str) -> None:
    """In a sentence, and without what stands in the place of a digest."""
    said = fault(tmp_path, text)
    assert message in said
    assert "hunter2" not in said


def test_what_an_administrator_sees_of_the_settings(tmp_path: Path) -> None:
    """Everything in effect, as JSON; no password, no token, wherever it stands."""
    settings = load(
        tmp_path,
        FILE + f'[worker]\nmilvus_token = "hunter4"\n{TOKEN}',
        PACSIGHT_LEDGER_URL="postgresql://u:s3cret@db/x?password=s3cret",
        PACSIGHT_BROKER_URL="redis://:s3cret@broker:6379/0",
    )
    told = json.dumps(masked(settings))
    assert [w for w in ("hunter", "s3cret") if w in told] == []
    assert masked(settings)["broker_url"] == "redis://broker:6379/0"
    assert masked(settings)["ledger_url"] == "postgresql://db/x"
    assert masked(settings)["site"] == "north"


def test_an_open_door_is_told_of_at_every_start(tmp_path: Path) -> None:
    """As an alert about the security configuration: PS3.15 A.5.3.11."""
    told: list[AuditEvent] = []
    doors = exposed(load(tmp_path, '[dicom]\nhost = "0.0.0.0"\ninsecure = true'))
    check_exposure(doors, told.append)
    (alert,) = told
    assert isinstance(alert, SecurityAlert)
    assert alert.alarm is Alarm.SECURITY_CONFIGURATION


def test_certificates_of_a_peer_need_an_authority(tmp_path: Path) -> None:
    """Without one no caller shows a certificate, and the peer could never call."""
    peer = '[[peers]]\nname = "ct"\naet = "CT"\ncertificates = ["ct.example"]'
    assert fault(tmp_path, peer) == (
        "peer 'ct': certificates need dicom.tls.ca: without it no caller shows one"
    )


def test_unknown_peers_stay_out_where_tls_lets_the_network_in(tmp_path: Path) -> None:
    """The plain port on loopback does not open the other one to anybody."""
    text = '[dicom.tls]\nhost = "0.0.0.0"\ncertificate = "c"\nca = "a"'
    assert not load(tmp_path, text).dicom.accept_unknown_peers


# ── documentation ───────────────────────────────────────────────────────────


def row(key: str, field: FieldInfo) -> str:
    """Return the line of ``docs/settings.md`` that documents a setting."""
    return f"| `{key}` | {shown_default(field)} | {field.description} |"


def shown_default(field: FieldInfo) -> str:
    """Return the default as TOML writes it, or none."""
    value: Any = None if field.is_required() else field.default
    if value is None or field.default_factory is not None or value in ("", {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{chr(34)}{v}{chr(34)}' for v in value)}]`"
    if isinstance(value, int | float):
        return f"`{value}`"
    return f'`"{value}"`'


def documented_rows() -> set[str]:
    """Return the rows of every table that documents settings."""
    return {
        line
        for line in PAGE.read_text().splitlines()
        if re.match(r"\| `[a-z0-9_.]+` \|", line)
    }


def section(title: str) -> set[str]:
    """Return the keys that a section of the page documents."""
    text = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([a-z0-9_]+)` \|", text, flags=re.MULTILINE))


def expected_rows(
    fields: Mapping[str, FieldInfo] = Settings.model_fields, prefix: str = ""
) -> set[str]:
    """Return the row of every setting outside lists."""
    rows = set()
    for name, field in fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, Table):
            rows |= expected_rows(table.model_fields, f"{prefix}{name}.")
        else:
            rows.add(row(prefix + name, field))
    return rows


def test_every_setting_is_documented() -> None:
    """Each stands on the page with its default and what it does, and no other."""
    dotted = {r for r in documented_rows() if r.split("`")[1] in setting_names()}
    assert dotted == expected_rows()


def test_no_setting_is_documented_that_does_not_exist() -> None:
    """Every row of the page is a setting, or a key of one of the lists."""
    keys = {r.split("`")[1] for r in documented_rows()}
    rules = {*PriorityRuleTable.model_fields, *PackRuleTable.model_fields}
    lists = {*Peer.__dataclass_fields__, *rules}
    tables = (Credentials, RetryPolicy, ServiceToken, Tls)
    nested = {key for table in tables for key in table.__dataclass_fields__}
    assert keys <= {*setting_names(), *lists, *nested, *Verify}


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("Peers", Peer.__dataclass_fields__),
        ("Credentials of a peer", Credentials.__dataclass_fields__),
        ("TLS of a peer", Tls.__dataclass_fields__),
        ("Tokens of services", ServiceToken.__dataclass_fields__),
        ("Verification at a peer", dict.fromkeys(Verify)),
        ("Retries of a peer", RetryPolicy.__dataclass_fields__),
        ("Priority rules", PriorityRuleTable.model_fields),
        ("Pack rules", PackRuleTable.model_fields),
    ],
)
def test_every_key_of_a_list_is_documented(title: str, keys: dict[str, object]) -> None:
    """Each list has a section of its own, with all its keys."""
    assert section(title) == set(keys)


def test_the_example_on_the_page_works(tmp_path: Path) -> None:
    """The file that the page shows is one that the node starts with."""
    example = PAGE.read_text().partition("```toml\n")[2].partition("```")[0]
    settings = load(tmp_path, example)
    assert [peer.name for peer in settings.peers] == ["ct", "pacs", "archive"]
