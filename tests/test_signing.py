"""Signing again: what was signed before us and is spliced verifies behind us, and everything else keeps what it had."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dkim
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay_mta import rulefolder, templatefolder
from relay_mta.cli.root import root
from relay_mta.core import dkim as signatures
from relay_mta.core.company import Agency, Company
from relay_mta.core.edit import Edit, apply
from relay_mta.core.errors import RelayError, SpliceError
from relay_mta.core.message import index
from relay_mta.examine import Examination, Examiner
from relay_mta.signing import Signer, generate
from tests.golden import readers
from tests.test_config import SMALL

pytestmark = pytest.mark.usefixtures("rules_parsed_once")

COMPANY = Company("acme", "Acme", ("acme.example",), Agency("A", "https://a.example/"), mode="relay")
BODY = (
    "山田様\r\n\r\nこのたびは弊社の採用選考にご応募いただき、ありがとうございました。\r\n"
    "慎重に選考を進めました結果、誠に残念ながら、今回は採用を見送らせていただくことになりました。\r\n\r\n"
    "末筆ながら、今後のご活躍をお祈り申し上げます。\r\n"
)
HARMLESS = "山田様\r\n\r\n来週の打ち合わせの件、承知しました。\r\n"


def mail(body: str = BODY) -> bytes:
    head = (
        "From: HR <hr@acme.example>\r\nTo: taro@mail.example\r\nSubject: =?utf-8?B?6YG46ICD57WQ5p6c?=\r\n"
        "Date: Mon, 2 Nov 2026 10:00:00 +0900\r\nMessage-ID: <1@acme.example>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return (head + body).encode()


class Zone:
    """The DNS as a verifier would see it, and keys to sign with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: dict[str, str] = {}

    def signer(self, domain: str, selector: str = "s1") -> Signer:
        path = self.folder / f"{domain}.{selector}.pem"
        if not path.exists():
            generate(path)
        made = Signer(path, domain=domain, selector=selector)
        name, _, strings = made.record().partition(" IN TXT ")
        self.records[name] = "".join(re.findall(r'"([^"]*)"', strings))
        return made

    def signed(self, raw: bytes, domain: str, selector: str = "s1") -> bytes:
        return b"".join(self.signer(domain, selector).signed((raw,)))

    def verified(self, raw: bytes) -> list[bool]:
        """Of each signature, from the top, whether it holds."""
        verifier = dkim.DKIM(raw)
        count = len(re.findall(rb"(?mi)^dkim-signature:", raw.partition(b"\r\n\r\n")[0]))
        found = []
        for number in range(count):
            try:
                found.append(verifier.verify(number, dnsfunc=self.look_up))
            except dkim.DKIMException:
                found.append(False)
        return found

    def look_up(self, name: bytes | str, timeout: int = 5) -> str | None:
        return self.records.get(name if isinstance(name, str) else name.decode())


@pytest.fixture
def zone(tmp_path: Path) -> Zone:
    return Zone(tmp_path)


@pytest.fixture
def examine(zone: Zone) -> Callable[..., Examination]:
    """Examines a mail as a company with this `dkim`, which has the key "relay" of its domain."""
    rules, templates = rulefolder.load(), templatefolder.load()

    def of(raw: bytes, mode: str) -> Examination:
        company = replace(COMPANY, dkim=mode)
        signing = {"acme": zone.signer("acme.example", "relay")} if mode == "resign" else {}
        return Examiner(rules, templates, [company], signing=signing).examine(raw)

    return of


def copy(examination: Examination) -> bytes:
    return b"".join(examination.copies[0])


def test_what_signer_and_verifier_agree_on(zone: Zone) -> None:
    raw = zone.signed(mail(), "acme.example")
    assert zone.verified(raw) == [True]
    assert zone.verified(raw.replace(b"taro@", b"jiro@")) == [False]
    assert zone.verified(raw.replace(b"\r\nFrom:", b"\r\nFrom: x@evil.example\r\nFrom:")) == [False]


def test_exempt_is_the_default(zone: Zone, examine: Callable[..., Examination]) -> None:
    for domain, reason in (
        ("acme.example", "dkim-own"),
        ("news.acme.example", "dkim-own"),
        ("other.example", "dkim-other"),
    ):
        raw = zone.signed(mail(), domain)
        found = examine(raw, "exempt")
        assert (found.verdict, found.reason) == ("exempt", reason)
        assert copy(found) == raw and zone.verified(copy(found)) == [True]


def test_resign_takes_out_ones_own_and_signs_again(zone: Zone, examine: Callable[..., Examination]) -> None:
    raw = zone.signed(zone.signed(mail(), "other.example"), "acme.example")
    out = copy(examine(raw, "resign"))
    assert b"/r/" in out
    fields = index(out).values("dkim-signature")
    assert ["s=relay" in field and "d=acme.example" in field for field in fields] == [True, False]
    assert zone.verified(out) == [True, False], "ours holds; the other domain's is broken, and stays"
    # Through a hop that adds its trace fields and signs for itself.
    hop = zone.signed(b"Received: from a by b; Mon, 2 Nov 2026 10:00:01 +0900\r\n" + out, "hop.example")
    assert zone.verified(hop) == [True, True, False]


@pytest.mark.real("node")
@pytest.mark.real("tests/golden/readers/node_modules")
def test_another_verifier_agrees(zone: Zone, examine: Callable[..., Examination], tmp_path: Path) -> None:
    out = copy(examine(zone.signed(mail(), "acme.example"), "resign"))
    hop = zone.signed(b"Received: from a by b; Mon, 2 Nov 2026 10:00:01 +0900\r\n" + out, "hop.example")
    (tmp_path / "mail.eml").write_bytes(hop)
    (tmp_path / "zone.json").write_text(json.dumps(zone.records))
    command = ["node", str(readers.NODE / "verify.mjs"), str(tmp_path / "mail.eml"), str(tmp_path / "zone.json")]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert sorted(said) == [["acme.example", "relay", "pass"], ["hop.example", "s1", "pass"]]


def test_remove_takes_out_ones_own_and_the_upstreams_signature_holds(
    zone: Zone, examine: Callable[..., Examination]
) -> None:
    out = copy(examine(zone.signed(mail(), "acme.example"), "remove"))
    assert b"/r/" in out and index(out).values("dkim-signature") == ()
    assert zone.verified(zone.signed(out, "acme.example", "upstream")) == [True]


@pytest.mark.parametrize("mode", ["exempt", "resign", "remove"])
def test_an_untouched_mail_keeps_its_signatures(zone: Zone, examine: Callable[..., Examination], mode: str) -> None:
    raw = zone.signed(mail(HARMLESS), "acme.example")
    found = examine(raw, mode)
    assert found.verdict == "none" and copy(found) == raw and zone.verified(raw) == [True]


@pytest.mark.parametrize("mode", ["resign", "remove"])
def test_an_unsigned_mail_is_not_signed(examine: Callable[..., Examination], mode: str) -> None:
    out = copy(examine(mail(), mode))
    assert b"/r/" in out and b"dkim-signature" not in out.lower()


def test_a_signature_over_nothing_of_the_body_still_holds_and_stays(
    zone: Zone, examine: Callable[..., Examination]
) -> None:
    signer = zone.signer("acme.example")
    made = dkim.sign(mail(), b"s1", b"acme.example", signer._pem, canonicalize=(b"relaxed", b"relaxed"), length=True)
    whole = made + mail()
    company = replace(COMPANY, dkim="remove")
    assert len(signatures.broken(index(whole), company, ())) == 1
    nothing = re.sub(rb"l=\d+", b"l=0", made) + mail()
    assert signatures.broken(index(nothing), company, ()) == ()
    assert len(signatures.broken(index(nothing), company, [Edit(5, 5, b"")])) == 1, "the header is changed as well"


@pytest.mark.parametrize(
    "value", ["", "v=1; a=rsa-sha256", "d=", "d=;", "d=evil.example; x=d=acme.example", "\xff" * 9]
)
def test_a_signature_of_nobody_is_left(value: str) -> None:
    raw = f"DKIM-Signature: {value}\r\n".encode("latin-1") + mail()
    assert signatures.broken(index(raw), replace(COMPANY, dkim="resign"), ()) == ()
    assert signatures.exempts(index(raw), COMPANY) == "dkim-other"


def test_a_folded_signature_of_ones_own_is_found() -> None:
    raw = b"dkim-signature: v=1;\r\n\tD = x;\r\n\td=\r\n News.ACME.example ;\r\n b=\r\n" + mail()
    (edit,) = signatures.broken(index(raw), replace(COMPANY, dkim="resign"), ())
    assert b"".join(apply(raw, [edit])) == mail()


def test_a_mail_that_cannot_be_signed_goes_as_it_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path / "key.pem")
    signer = Signer(tmp_path / "key.pem", domain="acme.example", selector="s")

    def fails(*_: object, **__: object) -> bytes:
        raise dkim.ParameterError("no")

    monkeypatch.setattr(dkim, "sign", fails)
    with pytest.raises(SpliceError) as raised:
        signer.signed((mail(),))
    assert raised.value.reason == "dkim"


# --- the key --------------------------------------------------------------------------------------------------------


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no private key in PEM"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "is no private key in PEM"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "is no RSA key of 1024 bits or more"),
        (None, "the DKIM key cannot be read: No such file"),
    ],
)
def test_what_is_no_key_is_one_line(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "key.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RelayError, match=says) as raised:
        Signer(path, domain="acme.example", selector="s")
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_keygen_makes_a_key_once_and_prints_its_record(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(SMALL + 'dkim_selector = "relay1"\ndkim_key = "key.pem"\ndkim_domain = "mail.acme.example.jp"\n')
    first = CliRunner().invoke(root, ["dkim", "keygen", "acme", "--config", str(config)])
    assert first.exit_code == 0 and "a new key" in first.stderr
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert first.stdout.startswith('relay1._domainkey.mail.acme.example.jp. IN TXT ( "v=DKIM1; k=rsa; p=')
    assert all(len(string) <= 255 for string in re.findall(r'"([^"]*)"', first.stdout))
    again = CliRunner().invoke(root, ["dkim", "keygen", "acme", "--config", str(config)])
    assert again.stdout == first.stdout and again.stderr == ""
    with pytest.raises(RelayError, match="there is a file already; it is not replaced"):
        generate(tmp_path / "key.pem")


def test_keygen_without_a_company_or_a_key_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(SMALL)
    for company, says in (("beta", "there is no company 'beta'"), ("acme", "has no dkim_selector and dkim_key")):
        result = CliRunner().invoke(root, ["dkim", "keygen", company, "--config", str(config)])
        assert result.exit_code == 1 and says in result.stderr and len(result.stderr.splitlines()) == 1
