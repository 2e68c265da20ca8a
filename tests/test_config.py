"""config.toml: the example holds to the schema, every mistake is named with its line, all of them at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from relay_mta.config import Config, LoginConfig, ProofConfig, UpstreamConfig, load, parse
from relay_mta.core.company import Agency, Company, CreditTerms
from relay_mta.core.errors import ConfigError
from relay_mta.core.ip import ClientNetwork
from relay_mta.schema import ConfigModel
from relay_mta.secretsource import SecretSource
from relay_mta.tomllines import KeyPath, key_lines, nearest_line

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "config.example.toml"
BROKEN = ROOT / "tests" / "broken_config"

SMALL = """\
hostname = "relay.example.jp"
[[listener]]
address = "127.0.0.1:2525"
[web]
base_url = "https://relay.example.jp"
[[company]]
id = "acme"
name = "Acme"
domains = ["acme.example.jp"]
clients = ["127.0.0.0/8"]
upstream = { host = "smtp.example.jp" }
agency = { name = "Agency", url = "https://agency.example" }
"""


def read(text: str, folder: Path = Path("/nonexistent")) -> Config:
    return parse(text, source=folder / "config.toml")


def problems(text: str, folder: Path = Path("/nonexistent")) -> list[str]:
    """The problems of a configuration as lines, without the file's folder."""
    with pytest.raises(ConfigError) as caught:
        read(text, folder)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


# --- the example ----------------------------------------------------------------------------------------------------


def test_the_example_loads() -> None:
    config = load(EXAMPLE)
    assert config.hostname == "relay.example.jp"
    assert config.data_dir == ROOT / "var"
    assert [(each.host, each.port, each.tls) for each in config.listeners] == [("127.0.0.1", 2525, "none")]
    assert (config.web.host, config.web.port, config.web.base_url) == ("127.0.0.1", 8080, "https://relay.example.jp")
    (company,) = config.companies
    assert company.company == Company(
        id="acme",
        name="株式会社アクメ",
        domains=("acme.example.jp",),
        agency=Agency("サンプル人材紹介株式会社", "https://agency.example/register"),
        partners=("agent.example",),
        mode="relay",
        off_keywords=("[no-relay]", "【リレー不要】"),
        credits=(CreditTerms(date(2026, 1, 1), 10, "relayed", 365),),
    )
    assert company.clients == (ClientNetwork(ip_network("127.0.0.0/8"), shared=False),)
    assert company.upstream == UpstreamConfig("127.0.0.1", 2600, "none")
    assert config.source == EXAMPLE


def test_the_example_sets_the_public_names() -> None:
    data = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    assert set(data) >= {"hostname", "data_dir", "ledger", "bare_newline", "listener", "web", "rules", "company"}
    assert set(data["listener"][0]) == {"address", "tls"}
    assert set(data["web"]) == {"address", "base_url"}
    assert set(data["rules"]) == {"directory"}
    company = data["company"][0]
    names = {"id", "name", "domains", "partners", "mode", "clients", "upstream", "agency", "credits"}
    assert set(company) == names
    assert set(company["upstream"]) == {"host", "port", "tls"}
    assert set(company["agency"]) == {"name", "url"}
    assert set(company["credits"][0]) == {"from", "relays_per_credit", "earn_on"}


def schema_keys(model: type[BaseModel] = ConfigModel) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from schema_keys(inner)


@pytest.mark.parametrize("file", ["config.example.toml", "docs/config.md", "docs/config.ja.md"])
def test_every_key_is_shown(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    missing = [key for key in schema_keys() if not re.search(rf"\b{key}\b", text)]
    assert not missing


def test_the_defaults_in_the_example_are_the_defaults() -> None:
    """Uncommenting every `# key = value` of a scalar changes nothing."""
    text = EXAMPLE.read_text(encoding="utf-8")
    names = "memory_budget|max_size|max_received|max_connections|drain"
    names += "|several_to|max_copies|split_deadline|hide_client|count_window_days"
    live, count = re.subn(rf"(?m)^# (({names}) = )", r"\1", text)
    assert count == 10
    assert parse(live, source=EXAMPLE) == load(EXAMPLE)


# --- values ---------------------------------------------------------------------------------------------------------


def test_the_smallest_configuration() -> None:
    config = read(SMALL)
    assert (config.ledger, config.data_dir) == ("tinydb:", Path("/nonexistent/var"))
    assert config.rules_directory is None
    assert (config.memory_budget, config.max_size, config.max_received) == (1 << 30, 50 << 20, 50)
    assert (config.max_connections, config.drain_seconds) == (500, 30.0)
    (company,) = config.companies
    assert company.company.mode == "observe" and company.company.credits == () and not company.hide_client
    assert company.upstream == UpstreamConfig("smtp.example.jp", 25, "opportunistic")


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ('"127.0.0.1:2525"', '"[::1]:0"', lambda c: (c.listeners[0].host, c.listeners[0].port) == ("::1", 0)),
        ('"127.0.0.1:2525"', '"LocalHost:25"', lambda c: c.listeners[0].host == "localhost"),
        ('"https://relay.example.jp"', '"https://x.example/"', lambda c: c.web.base_url == "https://x.example"),
        ('"https://relay.example.jp"', '"http://X.example:81/a/"', lambda c: c.web.base_url == "http://x.example:81/a"),
        ('"https://relay.example.jp"', '"https://例え.jp"', lambda c: c.web.base_url == "https://xn--r8jz45g.jp"),
        (
            '["acme.example.jp"]',
            '["Acme.Example.JP"]',
            lambda c: c.companies[0].company.domains == ("acme.example.jp",),
        ),
        ('["acme.example.jp"]', '["例え.jp"]', lambda c: c.companies[0].company.domains == ("xn--r8jz45g.jp",)),
        ('["127.0.0.0/8"]', '["::1", "10.1.2.3"]', lambda c: len(c.companies[0].clients) == 2),
        ('"smtp.example.jp"', '"::1"', lambda c: c.companies[0].upstream.host == "::1"),
        ("[web]", "[limits]\ndrain = 5\n[web]", lambda c: c.drain_seconds == 5.0),
        ("[web]", '[limits]\ndrain = "2min"\n[web]', lambda c: c.drain_seconds == 120.0),
        ("[web]", '[limits]\nmax_size = "1 MiB"\n[web]', lambda c: c.max_size == 1 << 20),
        ("[web]", "[limits]\nmax_size = 5000\n[web]", lambda c: c.max_size == 5000),
    ],
)
def test_what_values_become(old: str, new: str, seen: Any) -> None:
    assert seen(read(SMALL.replace(old, new)))


def test_who_may_send_and_as_whom_the_relay_sends(tmp_path: Path) -> None:
    text = SMALL.replace('"127.0.0.1:2525"', '"127.0.0.1:2525"\nauth_in_clear = true\ncompanies = ["acme"]')
    clients = '["::1", { network = "40.92.0.0/15", shared = true }, { network = "10.0.0.1" }]'
    login = '{ user = "relay", mechanism = "cram-md5", password = { credential = "smtp.pw" } }'
    upstream = f'{{ host = "localhost", forward = "xclient", wait = 0, login = {login} }}'
    text = text.replace('["127.0.0.0/8"]', clients).replace('{ host = "smtp.example.jp" }', upstream)
    text += 'auth = "users"\nloop_mark = true\nproof_header = "X-ACME-Relay"\nproof_value = { env = "PROOF" }\n'
    config = read(text, tmp_path)
    (listener,), (company,) = config.listeners, config.companies
    assert (listener.auth_in_clear, listener.companies) == (True, ("acme",))
    assert [(str(each.network), each.shared) for each in company.clients] == [
        ("::1/128", False), ("40.92.0.0/15", True), ("10.0.0.1/32", False),
    ]  # fmt: skip
    assert (company.auth, company.users, company.loop_mark) == ("users", tmp_path / "users-acme", True)
    assert company.proof == ProofConfig("x-acme-relay", SecretSource("env", "PROOF"))
    assert (company.upstream.forward, company.upstream.wait) == ("xclient", 0.0)
    assert company.upstream.login == LoginConfig("relay", SecretSource("credential", "smtp.pw"), "CRAM-MD5")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('{ file = "secret" }', SecretSource("file", "/nonexistent/secret")),
        ('{ file = "/etc/secret" }', SecretSource("file", "/etc/secret")),
        ('{ env = "_A9" }', SecretSource("env", "_A9")),
        ('{ credential = "a.b-C_1" }', SecretSource("credential", "a.b-C_1")),
        ('{ env = "A B" }', None),
        ('{ env = "9A" }', None),
        ('{ env = "A=B" }', None),
        ('{ env = "A\\u0000" }', None),
        ('{ credential = ".." }', None),
        ('{ credential = "../key" }', None),
        ('{ file = "a\\u0000b" }', None),
    ],
)
def test_places_of_secrets(source: str, expected: SecretSource | None) -> None:
    text = SMALL + f'proof_header = "X-A"\nproof_value = {source}\n'
    if expected is None:
        (line,) = problems(text)
        assert line.startswith("config.toml:14: company[1].proof_value: ") and "expected where it is kept" in line
    else:
        proof = read(text).companies[0].proof
        assert proof is not None and proof.value == expected


def test_partners_are_domains_and_addresses() -> None:
    config = read(SMALL.replace("clients", 'partners = ["Agent.example", "HR@Vendor.Example"]\nclients'))
    assert config.companies[0].company.partners == ("agent.example", "hr@vendor.example")


def test_terms_are_sorted_by_their_date() -> None:
    text = (
        SMALL
        + "[[company.credits]]\nfrom = 2027-01-01\n[[company.credits]]\nfrom = 2026-01-01\nrelays_per_credit = 5\n"
    )
    terms = read(text).companies[0].company.credits
    assert [(each.start.year, each.relays_per_credit) for each in terms] == [(2026, 5), (2027, 10)]


def test_paths_count_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    for name in ("cert.pem", "key.pem", "ca.pem"):
        (tmp_path / "tls" / name).write_text("x")
    (tmp_path / "rules").mkdir()
    text = SMALL.replace("[web]", 'tls = "starttls"\ncert = "tls/cert.pem"\nkey = "tls/key.pem"\n[web]')
    text = text.replace('"smtp.example.jp"', '"smtp.example.jp", ca_file = "tls/ca.pem"')
    config = read(text, tmp_path)
    assert config.listeners[0].cert == tmp_path / "tls/cert.pem" and config.listeners[0].key == tmp_path / "tls/key.pem"
    assert config.companies[0].upstream.ca_file == tmp_path / "tls/ca.pem"
    assert config.rules_directory == tmp_path / "rules"
    assert config.data_dir == tmp_path / "var"


def test_a_company_may_have_a_rule_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "rules").mkdir()
    config = read(SMALL + 'rules = "acme"\n', tmp_path)
    (company,) = config.companies
    assert company.rules == tmp_path / "acme"
    assert config.rule_folders() == (tmp_path / "rules",)
    assert config.rule_folders(company) == (tmp_path / "rules", tmp_path / "acme")
    (company,) = read(SMALL, tmp_path).companies
    assert company.rules is None
    for value, told in (
        ('"gone"', '"gone" is not there'),
        ("5", "5 is not a string"),
        ('"config.toml"', "not a folder"),
    ):
        (line,) = problems(SMALL + f"rules = {value}\n", tmp_path)
        assert "company[1].rules: " in line and told in line and "expected a folder with rule files" in line


def test_the_default_rules_folder_written_out_may_be_missing(tmp_path: Path) -> None:
    assert read(SMALL.replace("[web]", '[rules]\ndirectory = "rules"\n[web]'), tmp_path).rules_directory is None
    (line,) = problems(SMALL.replace("[web]", '[rules]\ndirectory = "mine"\n[web]'), tmp_path)
    assert line.startswith('config.toml:5: rules.directory: "mine" is not there')


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load(path).hostname == "relay.example.jp"
    path.write_bytes(SMALL.replace('"Acme"', "1").replace("\n", "\r\n").encode())
    with pytest.raises(ConfigError, match=r"config\.toml:8: company\[1\]\.name: 1 is not a string"):
        load(path)


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", sorted(path.name for path in BROKEN.iterdir()))
def test_broken_configuration(folder: str) -> None:
    """Each folder holds a configuration and what must be said of it."""
    place = BROKEN / folder
    with pytest.raises(ConfigError) as caught:
        load(place / "config.toml")
    said = str(caught.value).replace(f"{place}/", "") + "\n"
    assert said == (place / "expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", ["command_timeout", "data_timeout"])
def test_a_client_is_given_some_time(key: str) -> None:
    """With none at all every session ended in 421 at its first command."""
    (line,) = problems(SMALL.replace("[web]", f"[limits]\n{key} = 0\n[web]"))
    assert line.startswith(f"config.toml:5: limits.{key}: 0 leaves nobody any time; expected a time from a second to")
    assert read(SMALL.replace("[web]", f'[limits]\n{key} = "1s"\n[web]'))


def test_a_secret_in_the_wrong_place_is_not_repeated() -> None:
    """What is said of a configuration ends in logs, and is mailed to people who help."""
    place = BROKEN / "proofs_and_secrets" / "config.toml"
    assert place.read_text(encoding="utf-8").count('"hunter2') == 3
    with pytest.raises(ConfigError) as caught:
        load(place)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"127.0.0.1:2525"', '"2525"', '3: listener[1].address: "2525" has no port'),
        ('"127.0.0.1:2525"', '":2525"', '3: listener[1].address: ":2525" has no host'),
        ('"127.0.0.1:2525"', '"::1:25"', '3: listener[1].address: "::1:25" is an IPv6 address without brackets'),
        ('"127.0.0.1:2525"', '"h:70000"', "3: listener[1].address: port 70000 is above 65535"),
        ('"127.0.0.1:2525"', '"h:２５"', '3: listener[1].address: "h:２５" has no port'),
        ('"127.0.0.1:2525"', '"a b:25"', '3: listener[1].address: "a b" is not a domain name'),
        ('"127.0.0.1:2525"', '"999.1.1.1:25"', '3: listener[1].address: "999.1.1.1" is not a domain name'),
        ('"127.0.0.1:2525"', "2525", "3: listener[1].address: 2525 is not a string"),
        (
            '"https://relay.example.jp"',
            '"ftp://x.example"',
            '5: web.base_url: "ftp://x.example" is not an http or https',
        ),
        ('"https://relay.example.jp"', '"https://"', '5: web.base_url: "https://" is not an http or https URL'),
        ('"https://relay.example.jp"', '"https://x.example/?a"', '5: web.base_url: "https://x.example/?a" has a query'),
        ('"https://relay.example.jp"', '"https://x.example/#a"', '5: web.base_url: "https://x.example/#a" has a query'),
        ('"https://relay.example.jp"', '"https://x.example/ a"', "5: web.base_url: "),
        ('"https://relay.example.jp"', '"https://[x"', '5: web.base_url: "https://[x" is not a URL'),
        ('"https://relay.example.jp"', '"https://h:99999"', '5: web.base_url: "https://h:99999" is not a URL'),
        ('"Acme"', '""', "8: company[1].name: is empty"),
        ('"Acme"', '"a\\u202eb"', "8: company[1].name: holds control or invisible characters"),
        ('"Acme"', f'"{"あ" * 101}"', "8: company[1].name: is 101 characters long"),
        ('"acme"', '"Acme!"', '7: company[1].id: "Acme!" cannot be an id'),
        ('["acme.example.jp"]', "[]", "9: company[1].domains: is empty"),
        ('["acme.example.jp"]', '["jp"]', '9: company[1].domains[1]: "jp" would take in a whole top-level domain'),
        ('["acme.example.jp"]', '["@a.jp"]', '9: company[1].domains[1]: "@a.jp" is an address'),
        ('["acme.example.jp"]', '[".a.jp"]', '9: company[1].domains[1]: ".a.jp" is not a domain name'),
        ('["acme.example.jp"]', '["a.jp."]', '9: company[1].domains[1]: "a.jp." is not a domain name'),
        ('["acme.example.jp"]', '"acme.example.jp"', '9: company[1].domains: "acme.example.jp" is not a list'),
        ('["127.0.0.0/8"]', '["localhost"]', '10: company[1].clients[1]: "localhost" is not an IP network'),
        (
            '["127.0.0.0/8"]',
            '["10.0.0.1/8"]',
            '10: company[1].clients[1]: "10.0.0.1/8" has host bits set: "10.0.0.0/8"?',
        ),
        ('["127.0.0.0/8"]', '["::/0"]', '10: company[1].clients[1]: "::/0" would let the whole Internet send'),
        ('"smtp.example.jp"', '"smtp.example.jp", port = 0', "11: company[1].upstream.port: 0 is too small"),
        ('"smtp.example.jp"', '"smtp.example.jp", port = true', "11: company[1].upstream.port: true is not a whole"),
        ('"smtp.example.jp"', '"smtp.example.jp", tls = "yes"', '11: company[1].upstream.tls: "yes" is none of them'),
        (
            '{ host = "smtp.example.jp" }',
            '"smtp.example.jp:25"',
            '11: company[1].upstream: "smtp.example.jp:25" is not a table',
        ),
        ('{ host = "smtp.example.jp" }', "{}", "11: company[1].upstream.host: is missing"),
        (
            'host = "smtp.example.jp"',
            'host = "127.0.0.1", port = 2525',
            "11: company[1].upstream.host: is this relay's own",
        ),
        (
            '"https://agency.example"',
            '"javascript:alert(1)"',
            '12: company[1].agency.url: "javascript:alert(1)" is not an http',
        ),
        ('"https://agency.example"', '"https://a@b.example"', "12: company[1].agency.url: names a user or a password"),
        (
            'id = "acme"',
            'id = "acme"\noff_keywords = ["ab"]',
            '8: company[1].off_keywords[1]: "ab" is too short',
        ),
        (
            'id = "acme"',
            'id = "acme"\noff_keywords = ["要  \u115f\u3164"]',
            "8: company[1].off_keywords[1]:",  # shows as one character
        ),
        (
            'id = "acme"',
            'id = "acme"\ndkim = "resign"\ndkim_key = "x"',
            "6: company[1].dkim_selector: is missing; expected",
        ),
        (
            'id = "acme"',
            'id = "acme"\ndkim = "resign"\ndkim_selector = "x"',
            "6: company[1].dkim_key: is missing; expected",
        ),
        (
            'id = "acme"',
            'id = "acme"\ndkim_selector = "a b"',
            '8: company[1].dkim_selector: "a b" cannot be a selector',
        ),
        (
            'id = "acme"',
            'id = "acme"\ndkim_domain = "acme.example"',
            """8: company[1].dkim_domain: "acme.example" is none of the company's domains""",
        ),
        ('id = "acme"', 'id = "acme"\nplacement = "top"', '8: company[1].placement: "top" is none of them'),
        ('id = "acme"', 'id = "acme"\ntemplates = "nowhere"', '8: company[1].templates: "nowhere" is not there'),
        ("[[company]]", '[templates]\ndirectory = "x"\n[[company]]', '7: templates.directory: "x" is not there'),
        ("[[company]]", '[limits]\ndrain = "30"\n[[company]]', '7: limits.drain: "30" cannot be read'),
        ("[[company]]", "[limits]\ndrain = -1\n[[company]]", "7: limits.drain: -1 is out of range"),
        ("[[company]]", "[limits]\nmax_size = true\n[[company]]", "7: limits.max_size: true cannot be read"),
        (
            "[[company]]",
            '[limits]\nmax_size = "2GiB"\n[[company]]',
            "7: limits.max_size: one mail of max_size does not fit",
        ),
        ("[web]", 'address = "127.0.0.1:8080"\n[web]', None),
    ],
)
def test_one_mistake_is_one_line(old: str, new: str, expected: str | None) -> None:
    if expected is None:
        old, new, expected = "[web]\n", '[web]\naddress = "127.0.0.1:2525"\n', "5: web.address: is listened on already"
    assert old in SMALL
    (line,) = problems(SMALL.replace(old, new))
    assert line.startswith(f"config.toml:{expected}"), line


def test_a_password_in_a_url_is_not_repeated() -> None:
    (line,) = problems(SMALL.replace("https://agency", "https://user:hunter2@agency"))
    assert "hunter2" not in line


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    missing, folder, latin, empty = (tmp_path / name for name in ("missing", "folder", "latin", "empty"))
    folder.mkdir()
    latin.write_bytes(b'# ok\nhostname = "caf\xe9"\n')
    empty.write_bytes(b"")
    cases = [
        (missing, r"missing: there is no such file; "),
        (folder, r"folder: is a folder; "),
        (latin, r"latin:2: is not UTF-8; "),
        (latin / "below", r"below: cannot be read: Not a directory"),
        (Path("nul\0"), r"cannot be read"),
        (empty, r"empty: hostname: is missing; "),
    ]
    for path, expected in cases:
        with pytest.raises(ConfigError, match=expected) as caught:
            load(path)
        assert path == empty or len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "a = 1\x00", "=", "[[a]\n", 'a = "'])
def test_hostile_toml_is_one_line(text: str) -> None:
    (line,) = problems(text)
    assert line.startswith("config.toml") and len(line) < 300


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_any_value_at_any_key_is_read_or_named(data: st.DataObject) -> None:
    """One value replaced by anything: a `Config` comes out, or a `ConfigError` of lines that have the promised form."""
    tree = tomllib.loads(SMALL)
    key = data.draw(
        st.sampled_from(["hostname", "listener", "web", "company", "rules", "limits", "ledger", "data_dir"])
    )
    target: dict[str, Any] = tree
    if key in ("web", "company", "listener") and data.draw(st.booleans()):
        target = tree[key] if key == "web" else tree[key][0]
        key = data.draw(st.sampled_from(sorted(target)))
    target[key] = data.draw(_VALUES)
    try:
        config = read(as_toml(tree))
    except ConfigError as error:
        for line in str(error).splitlines():
            assert re.match(r"/nonexistent/config\.toml(:\d+)?: .+", line), line
    else:
        assert config.companies and config.listeners


def as_toml(tree: Mapping[str, Any]) -> str:
    """A small writer: each top-level key as an inline value."""
    return "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in tree.items())


def _toml(value: Any) -> str:
    match value:
        case None:
            return '""'
        case bool():
            return str(value).lower()
        case str():
            safe = value.encode("utf-8", "replace").decode()
            return '"' + "".join(c if c.isalnum() or c in " .:/-_@" else f"\\U{ord(c):08x}" for c in safe) + '"'
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{_toml(key)} = {_toml(each)}" for key, each in value.items()) + "}"
        case _:
            return str(value)


# --- lines ----------------------------------------------------------------------------------------------------------

LINES = """\
top = 1 # = [not.a.table]
"quo.ted" = '''
[no]
a = 1
'''
x.y.z = { p = 1, "q" = [ { r = 2 }, 3 ] }

[ table . sub ]
key = \"\"\"
text with \\\"\"\" inside and ] }
\"\"\"
after = [ # comment ]
  "a, b", # two, three
  'c',
  [ 1,
    2 ],
]
[[list]]
a = 1
[list.inner]
b = 2
[[list.deep]]
c = 3
[[list]]
a = "x" # "
[[list.deep]]
c = 4
[[list.deep]]
c = 5
"""


def test_key_lines() -> None:
    tomllib.loads(LINES)
    lines = key_lines(LINES)
    expected: dict[KeyPath, int] = {
        ("top",): 1,
        ("quo.ted",): 2,
        ("x", "y", "z"): 6,
        ("x", "y", "z", "p"): 6,
        ("x", "y", "z", "q", 0, "r"): 6,
        ("table", "sub"): 8,
        ("table", "sub", "key"): 9,
        ("table", "sub", "after"): 12,
        ("table", "sub", "after", 0): 13,
        ("table", "sub", "after", 1): 14,
        ("table", "sub", "after", 2): 15,
        ("table", "sub", "after", 2, 1): 16,
        ("list", 0): 18,
        ("list", 0, "a"): 19,
        ("list", 0, "inner", "b"): 21,
        ("list", 0, "deep", 0, "c"): 23,
        ("list", 1): 24,
        ("list", 1, "a"): 25,
        ("list", 1, "deep", 0, "c"): 27,
        ("list", 1, "deep", 1, "c"): 29,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("no",) not in lines and ("quo.ted", "a") not in lines
    assert nearest_line(lines, ("list", 1, "deep", 1, "missing")) == 28
    assert nearest_line(lines, ("nowhere",)) is None


def paths_of(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


@given(st.dictionaries(st.text(max_size=8), _VALUES, max_size=4))
def test_every_key_that_tomllib_reads_has_its_line(tree: dict[str, Any]) -> None:
    text = as_toml(tree)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # two keys that only differ in what the writer cannot write
    lines = key_lines(text)
    assert set(paths_of(data)) == set(lines)
    for number, key in enumerate(data, start=1):
        assert lines[(key,)] == number


@given(st.text(alphabet="ab=.[]{}\"'#,\n \\1", max_size=60))
def test_any_text_is_scanned_without_harm(text: str) -> None:
    lines = key_lines(text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(paths_of(data)) <= set(lines)
