"""The same words have the same verdict in every form in which a mail client may send them.

A form is a character set, a transfer encoding and a MIME structure. Each mail of the own corpus is sent in half of
them, each of the others' rounds in one, chosen by its id.
"""

from __future__ import annotations

import base64
import html
import quopri
import re
import zlib
from collections.abc import Callable, Iterator
from itertools import product

import pytest

from relay_mta.core.message import index
from relay_mta.core.rules import RuleSet
from tests.core.test_shipped_rules import ROOT, by_others, mails
from tests.rulesets import parsed_once

CHARSETS = {"utf-8": "utf-8", "iso-2022-jp": "iso2022_jp", "shift_jis": "cp932", "euc-jp": "euc_jp"}
ENCODINGS = ("8bit", "quoted-printable", "base64")


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return parsed_once([(path.name, path.read_bytes()) for path in sorted((ROOT / "rules").glob("*.toml"))])


def leaf(kind: str, text: str, charset: str, encoding: str, more: str = "") -> bytes:
    """One text part, its header included."""
    raw = text.replace("\n", "\r\n").encode(CHARSETS[charset])
    if encoding == "base64":
        raw = base64.encodebytes(raw).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        raw = quopri.encodestring(raw.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    encoding = "7bit" if charset == "iso-2022-jp" and encoding == "8bit" else encoding
    head = f"Content-Type: text/{kind}; charset={charset}{more}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + raw


def as_html(text: str) -> str:
    lines = "<br>\n".join(html.escape(line) for line in text.split("\n"))
    return f"<html><head><style>p {{ margin: 0 }}</style></head><body><div>{lines}</div></body></html>"


def as_paragraphs(text: str) -> str:
    def line(one: str) -> str:
        return f'<p class="MsoNormal"><span lang="JA">{html.escape(one) or "&nbsp;"}</span></p>'

    return f"<html><body>{''.join(line(one) for one in text.split(chr(10)))}</body></html>"


def multipart(kind: str, *children: bytes) -> bytes:
    inside = b"".join(b"--=_b\r\n" + child + b"\r\n" for child in children)
    return f'Content-Type: multipart/{kind}; boundary="=_b"\r\n\r\n'.encode() + inside + b"--=_b--\r\n"


def flowed(text: str) -> str:
    """RFC 3676: space-stuffed; nothing is wrapped, but a mailer might."""
    return "\n".join(f" {line}" if re.match(r"[ >]|From ", line) else line for line in text.split("\n"))


PDF = b"Content-Type: application/pdf; name=a.pdf\r\nContent-Disposition: attachment\r\n\r\n%PDF-1.4\r\n"
STRUCTURES: dict[str, Callable[[str, str, str], bytes]] = {
    "plain": lambda text, charset, encoding: leaf("plain", text, charset, encoding),
    "flowed": lambda text, charset, encoding: leaf("plain", flowed(text), charset, encoding, "; format=flowed"),
    "html": lambda text, charset, encoding: leaf("html", as_html(text), charset, encoding),
    "outlook": lambda text, charset, encoding: leaf("html", as_paragraphs(text), charset, encoding),
    "alternative": lambda text, charset, encoding: multipart(
        "alternative", leaf("plain", text, charset, encoding), leaf("html", as_html(text), charset, encoding)
    ),
    "mixed": lambda text, charset, encoding: multipart("mixed", leaf("plain", text, charset, encoding), PDF),
}
FORMS = tuple(product(STRUCTURES, CHARSETS, ENCODINGS))


def written(subject: str, text: str, form: tuple[str, str, str]) -> bytes | None:
    """A mail in one form; None where its character set lacks a character."""
    structure, charset, encoding = form
    try:
        part = STRUCTURES[structure](text, charset, encoding)
    except UnicodeEncodeError:
        return None
    word = base64.b64encode(subject.encode()).decode()
    head = f"From: a@acme.example\r\nTo: b@mail.example\r\nSubject: =?utf-8?B?{word}?=\r\nMIME-Version: 1.0\r\n"
    return head.encode() + part


def chosen() -> Iterator[tuple[str, str, str, tuple[tuple[str, str, str], ...]]]:
    others = {mail["id"] for mail in by_others()}
    for label in ("rejection", "other"):
        for name, subject, body in mails(label):
            text = re.sub(r"[\ud800-\udfff]", "", body).strip("\n") + "\n"
            # Columns made with blanks are what HTML does not keep: there the same words are other lines.
            if re.search(r"[^ ] {2,}[^ ]|\u3000{2,}|^[ \u3000]", text, re.M):
                continue
            turn = zlib.crc32(name.encode())
            forms = (FORMS[turn % len(FORMS)],) if name in others else FORMS[turn % 2 :: 2]
            yield name, subject, text, forms


def test_the_verdict_is_the_same_in_every_form(rules: RuleSet) -> None:
    different: list[tuple[object, ...]] = []
    tried = 0
    for name, subject, text, forms in chosen():
        plain = written(subject, text, ("plain", "utf-8", "8bit"))
        assert plain is not None
        expected = rules.judge(index(plain))
        for form in forms:
            raw = written(subject, text, form)
            if raw is None:
                continue
            tried += 1
            message = index(raw)
            found = rules.judge(message)
            if found.kind != expected.kind or message.trouble or message.text_trouble:
                different.append((name, form, expected.reason, expected.score, found.reason, found.score))
    assert tried > 10_000
    assert not different, (len(different), different[:10])
