"""Who is a candidate, and what exempts a mail; each reason word once."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Sequence
from typing import Any

import pytest

from relay_mta import shipped
from relay_mta.core import header
from relay_mta.core.company import Agency, Company
from relay_mta.core.disposition import Disposition, decide, named
from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.message import index
from relay_mta.core.rules import RuleSet
from tests.rulesets import parsed_once

RULES = parsed_once(shipped.rules())
STRICT = parsed_once([*shipped.rules(), ("99_strict.toml", b"[scoring]\nthreshold = 1000\n")])
BASE = "https://relay.example.jp"
TOKEN = "abcdefghijklmnopqrstuvwxyz"[:26]
HR, TARO, HANAKO = "hr@acme.example.jp", "taro@mail.example", "hanako@mail.example"

REJECTION = (
    "山田太郎 様\r\n\r\n先日は当社の採用選考にご応募いただき、ありがとうございました。\r\n"
    "慎重に選考を進めました結果、誠に残念ながら、今回は採用を見送らせていただくことになりました。\r\n"
    "末筆ながら、山田様の今後のご活躍をお祈り申し上げます。\r\n\r\n株式会社アクメ 採用担当\r\n"
)


def company(**changes: object) -> Company:
    values: dict[str, object] = {
        "id": "acme",
        "name": "株式会社アクメ",
        "domains": ("acme.example.jp",),
        "partners": ("agent.example", "vendor@free.example"),
        "agency": Agency("サンプル人材紹介", "https://agency.example/"),
        "mode": "relay",
    }
    return Company(**{**values, **changes})  # type: ignore[arg-type]


def mail(*fields: str, to: str = TARO, body: str = REJECTION, kind: str = "text/plain; charset=utf-8") -> bytes:
    head = [
        "From: <hr@acme.example.jp>",
        f"To: {to}",
        "Subject: =?utf-8?B?6YG46ICD57WQ5p6c44Gu44GK55+l44KJ44Gb?=",
        *fields,
    ]
    head += ["MIME-Version: 1.0", f"Content-Type: {kind}", "Content-Transfer-Encoding: 8bit"]
    return "\r\n".join([*head, "", body]).encode()


def judged(
    raw: bytes,
    *recipients: str,
    sender: str = HR,
    house: Company | None = None,
    normalised: bool = False,
    params: Sequence[str] = (),
    rules: RuleSet = RULES,
) -> Disposition:
    envelope = Envelope(sender, tuple(Recipient(path) for path in recipients or (TARO,)), tuple(params))
    return decide(index(raw), envelope, company=house or company(), rules=rules, base_url=BASE, normalised=normalised)


def test_a_rejection_to_a_candidate_is_relayed() -> None:
    found = judged(mail())
    assert (found.kind, found.candidates, found.roles) == ("relay", (0,), ("candidate",))
    assert found.verdict is not None
    assert found.verdict.score >= found.verdict.threshold


def test_anything_else_passes() -> None:
    found = judged(mail(body="山田様\r\n\r\n来週の打ち合わせの件、承知しました。\r\n"))
    assert (found.kind, found.candidates) == ("pass", ())


def test_roles() -> None:
    raw = mail(f"Cc: <boss@mail.example>, {HR}")
    found = judged(raw, HR, TARO, "boss@mail.example", "x@Tokyo.Agent.Example", "Vendor@free.example", HANAKO)
    assert found.roles == ("own", "candidate", "cc", "partner", "partner", "candidate")
    assert found.candidates == (1, 5)  # the last one is a Bcc


def test_a_candidate_in_to_and_cc_is_a_candidate() -> None:
    assert judged(mail(f"Cc: {TARO}")).candidates == (0,)


def test_one_index_for_each_forward_path() -> None:
    assert judged(mail(), TARO, "taro@MAIL.example", TARO).candidates == (0,)


def test_undisclosed_recipients_name_nobody() -> None:
    assert judged(mail(to="undisclosed-recipients:;"), TARO, HANAKO).candidates == (0, 1)


def test_a_display_name_that_decodes_to_commas_is_no_ambiguity() -> None:
    assert judged(mail(to=f"=?utf-8?B?5bGx55SwLCDlpKrpg44=?= <{TARO}>")).kind == "relay"


P7S = 'multipart/signed; protocol="application/pkcs7-signature"; boundary="b"'
SIGNED = (
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    + REJECTION
    + "\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\r\nx\r\n--b--\r\n"
)
CALENDAR = SIGNED.replace("application/pkcs7-signature", "text/calendar")
REPORT = SIGNED.replace("application/pkcs7-signature", "message/disposition-notification")


@pytest.mark.parametrize(
    ("reason", "raw"),
    [
        ("switched-off", mail("X-Career-Relay: OFF")),
        ("mailing-list", mail("List-Id: <x.example>")),
        ("mailing-list", mail("List-Post: <mailto:x@y.example>")),
        ("resent", mail("Resent-From: <x@y.example>")),
        ("auto-reply", mail("Auto-Submitted: auto-replied")),
        ("signed", mail(kind=P7S, body=SIGNED)),
        ("encrypted", mail(kind="application/pkcs7-mime; smime-type=enveloped-data")),
        ("calendar", mail(kind='multipart/mixed; boundary="b"', body=CALENDAR)),
        ("report", mail(kind='multipart/report; boundary="b"', body=REPORT)),
        ("tnef", mail(kind="application/ms-tnef")),
        ("own-link", mail(body=REJECTION + f"\r\n{BASE}/r/{TOKEN}\r\n")),
        ("pgp-inline", mail(body="-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\n" + REJECTION)),
        ("dkim-own", mail("DKIM-Signature: v=1; a=rsa-sha256; d=mail.acme.example.jp; s=a; h=from; bh=x; b=y")),
        ("dkim-other", mail("DKIM-Signature: v=1; a=rsa-sha256; d=esp.example; s=a; h=from; bh=x; b=y")),
        ("several-to", mail(to=f"{TARO}, {HANAKO}")),
        ("ambiguous:recipients", mail(to=f"All: {TARO};")),
    ],
)
def test_each_exemption(reason: str, raw: bytes) -> None:
    found = judged(raw)
    assert (found.kind, found.reason, found.candidates) == ("exempt", reason, ())


@pytest.mark.parametrize(
    ("house", "fields", "reason"),
    [
        ({"exempt_senders": ("sales.acme.example.jp",)}, ["From: X <x@sales.acme.example.jp>"], "sender-exempt"),
        ({"exempt_senders": ("x@acme.example.jp",)}, ["From: X <X@ACME.example.jp>"], "sender-exempt"),
        ({"exempt_senders": ("x@acme.example.jp",)}, ["From: y@acme.example.jp", "Sender: x@acme.example.jp"], None),
        ({"exempt_senders": ("x@acme.example.jp",)}, ["Sender: x@acme.example.jp"], "sender-exempt"),
        ({"exempt_senders": (HR,)}, [], "sender-exempt"),  # nothing but the reverse-path
        ({"exempt_senders": (HR,)}, ["From: y@acme.example.jp"], None),
        ({"only_senders": ("saiyo@acme.example.jp",)}, ["From: saiyo@acme.example.jp"], None),
        ({"only_senders": ("saiyo@acme.example.jp",)}, ["From: x@acme.example.jp"], "sender-not-listed"),
        ({"only_senders": ("saiyo@acme.example.jp",)}, [], "sender-not-listed"),
        (
            {"only_senders": ("saiyo@acme.example.jp",)},
            ["From: saiyo@acme.example.jp, x@acme.example.jp"],
            "sender-not-listed",
        ),
        ({"exempt_senders": ("x@acme.example.jp",)}, ["From: <x@acme.example.jp"], "ambiguous:sender"),
        ({"only_senders": (HR,)}, ["From: <saiyo@acme.example.jp"], "ambiguous:sender"),
        ({"exempt_senders": ("x@acme.example.jp",)}, ["From: y@acme.example.jp", "Sender: <x@"], "ambiguous:sender"),
        ({"exempt_senders": (HR,)}, ["From: <>"], "ambiguous:sender"),
        ({}, ["From: <x@acme.example.jp"], None),  # no list, no question
    ],
)
def test_a_companys_lists_of_senders(house: dict[str, Any], fields: list[str], reason: str | None) -> None:
    raw = re.sub(rb"(?m)^From: [^\r\n]*\r\n", b"", mail())
    raw = "".join(f"{field}\r\n" for field in fields).encode() + raw
    found = judged(raw, house=company(**house))
    assert found.reason == reason if reason else found.kind == "relay"


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ("選考結果 [no-relay]", "subject-keyword"),
        ("［ＮＯ－ＲＥＬＡＹ］選考結果", "subject-keyword"),  # in whichever width and case
        ("選考結果【リレー不要】", "subject-keyword"),
        ("Re: 選考結果【ﾘﾚｰ不要】", "subject-keyword"),
        ("【リレー 不要】 選考結果", "subject-keyword"),  # with or without blanks
        ("選考結果 no relay", "relay"),
    ],
)
def test_a_keyword_in_the_subject_switches_the_relay_off(subject: str, reason: str) -> None:
    encoded = f"Subject: =?utf-8?B?{base64.b64encode(subject.encode()).decode()}?="
    raw = re.sub(rb"(?m)^Subject: [^\r\n]*", encoded.encode(), mail())
    found = judged(raw, house=company(off_keywords=("[no-relay]", "【リレー不要】")))
    assert reason in (found.reason, found.kind)


def test_a_sender_may_ask_for_a_link_only_where_the_company_allows_it() -> None:
    """`on` lowers the threshold; an exemption and another sender's `off` stand."""
    allows = company(allow_force=True)
    asked = mail("X-Career-Relay: On")
    assert judged(mail(), house=allows, rules=STRICT).reason == "below-threshold"
    assert judged(asked, rules=STRICT).reason == "below-threshold"
    assert judged(asked, house=allows, rules=STRICT).kind == "relay"
    assert judged(mail("X-Career-Relay: on", body="来週の件、承知しました。\r\n"), house=allows).reason == "no-decline"
    assert judged(mail("X-Career-Relay: on", "X-Career-Relay: off"), house=allows).reason == "switched-off"
    assert judged(mail("X-Career-Relay: on", "List-Id: <x.example>"), house=allows).reason == "mailing-list"


@pytest.mark.parametrize("value", ["off", "OFF", "off;", "no", "false", "0", "", "on, off", "one"])
def test_whatever_is_not_on_switches_the_relay_off(value: str) -> None:
    for house in (company(), company(allow_force=True)):
        assert judged(mail(f"X-Career-Relay: {value}"), house=house).reason == "switched-off"


def test_a_mail_that_takes_too_long_is_exempt() -> None:
    found = decide(
        index(mail(), lambda: True),
        Envelope(HR, (Recipient(TARO),)),
        company=company(),
        rules=RULES,
        base_url=BASE,
    )
    assert (found.kind, found.reason, found.verdict) == ("exempt", "limit:time", None)


def test_several_to_may_be_allowed() -> None:
    found = judged(mail(to=f"{TARO}, {HANAKO}"), TARO, HANAKO, house=company(several_to=True))
    assert found.candidates == (0, 1)


def test_own_people_in_to_do_not_make_several() -> None:
    assert judged(mail(to=f"{TARO}, {HR}, x@agent.example"), TARO, HR).candidates == (0,)


def test_exemptions_of_the_envelope() -> None:
    assert judged(mail(), sender="").reason == "null-sender"
    assert judged(mail(), HR).reason == "no-candidate"
    assert judged(mail(), "太郎@mail.example").reason == "smtputf8"
    assert judged(mail(to="x:;"), *(f"c{i}@mail.example" for i in range(21))).reason == "max-copies"
    assert judged(mail(), normalised=True).reason == "bare-newline"
    assert judged(mail(), house=company(mode="off")).reason == "mode-off"


def test_an_exempt_rejection_keeps_its_verdict() -> None:
    """What is being missed can be counted."""
    found = judged(mail("DKIM-Signature: v=1; d=acme.example.jp; b=y"))
    assert found.verdict is not None
    assert found.verdict.kind == "rejection"


def test_list_unsubscribe_and_precedence_alone_exempt_nothing() -> None:
    """Every applicant tracking system adds those."""
    assert judged(mail("List-Unsubscribe: <mailto:x@y.example>", "Precedence: bulk")).kind == "relay"
    assert judged(mail("Auto-Submitted: auto-generated")).kind == "relay"


def test_an_own_link_in_the_quoted_history_exempts_nothing() -> None:
    body = (
        REJECTION + f"\r\n-----Original Message-----\r\nFrom: x@y.example\r\nSent: Monday\r\n\r\n{BASE}/r/{TOKEN}\r\n"
    )
    assert judged(mail(body=body)).kind == "relay"


def test_trouble_in_the_mime_structure_is_the_reason() -> None:
    raw = mail("Content-Type: text/html")
    assert judged(raw).reason.startswith("ambiguous:")


HOSTILE = [
    b"\x1b$B",
    b"\x1b$@x",
    b"\x1b(I",
    b"\x1b$B\x1b(I",
    b" ",
    b"\t",
    b":",
    b": ",
    b";",
    b"a:;",
    b"<",
    b"(",
    b'"',
    b"\\",
    b",",
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("tail", [b"", b"x", b"\x1b(B", b": ;x"])
def test_a_long_recipient_field_is_read_in_linear_time(piece: bytes, tail: bytes) -> None:
    """60 kB of To took eleven seconds of the event loop, 250 kB three minutes."""
    longest = piece * ((header.MAX_VALUE - 10) // len(piece)) + tail
    for value in (longest, piece * 80_000 + tail):
        message = index(b"From: <hr@acme.example.jp>\r\nTo: " + value + b"\r\n\r\nx\r\n")
        start = time.process_time()
        found = named(message, "to")
        assert time.process_time() - start < 0.2
        assert len(value) <= header.MAX_VALUE or found.odd


def test_a_long_list_of_recipients_is_not_read() -> None:
    many = ", ".join(f"candidate-number-{i}@mail.example" for i in range(1_000))
    found = judged(mail(to=many))
    assert (found.kind, found.reason) == ("exempt", "limit:header-value")
    assert named(index(mail(to=many)), "to").odd


def test_raw_jis_in_a_recipients_name_is_passed_over() -> None:
    """Its bytes look like commas and brackets."""
    for name in ("山田、太郎", "株式会社アクメ（採用）"):
        raw = mail().replace(f"To: {TARO}".encode(), b"To: " + name.encode("iso2022_jp") + f" <{TARO}>".encode())
        assert (named(index(raw), "to").paths, named(index(raw), "to").odd) == ((TARO,), False)


@pytest.mark.parametrize("piece", [b"\x1b$B;3ED", b"\x1b$B;3ED\x1b$)C", b"\x1b", b"\x1b(I1\x1b$B"])
def test_raw_jis_that_does_not_end_is_ambiguous(piece: bytes) -> None:
    raw = mail().replace(f"To: {TARO}".encode(), b"To: " + piece + f" <{TARO}>".encode())
    assert named(index(raw), "to").odd


def test_a_cc_is_told_even_where_the_mail_is_not_judged() -> None:
    raw = mail("Cc: boss@mail.example", "Content-Type: text/html")
    assert judged(raw, TARO, "boss@mail.example").roles == ("candidate", "cc")
