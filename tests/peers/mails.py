"""The mails of these tests, and what may have become of them on the way. Every mail has addresses of its own."""

from __future__ import annotations

import email
import email.policy
import itertools
import re
import tomllib
from email.message import EmailMessage

from tests.e2e.process import ROOT, without_received

SAMPLES = ROOT / "relay_mta" / "samples"
OWN_LINK = re.compile(r"https://relay\.example\.jp/r/([a-z2-7]{26})(?![a-z2-7])")

_count = itertools.count(1)
_samples = tomllib.loads((SAMPLES / "samples.toml").read_text("utf-8"))["sample"]


def fresh_address(domain: str = "mail.example.net") -> str:
    """An address that no other mail of this process has."""
    return f"c{next(_count)}.kouho@{domain}"


def sample(name: str) -> tuple[bytes, str]:
    """A shipped sample with a fresh recipient in place of its own: (raw, recipient)."""
    (told,) = [each for each in _samples if each["file"] == f"{name}.eml"]
    old, new = told["recipients"][0], fresh_address()
    raw = (SAMPLES / told["file"]).read_bytes()
    assert old.encode() in raw
    return raw.replace(old.encode(), new.encode()), new


def letter(*to: str, subject: str = "=?utf-8?b?44GU6YCj57Wh?=", body: bytes) -> bytes:
    """A mail from the company with exactly this body."""
    header = (
        "Date: Tue, 10 Nov 2026 09:00:00 +0900\r\n"
        "From: =?utf-8?b?5Lq65LqL6YOo?= <saiyo@acme.example.jp>\r\n"
        f"To: {', '.join(f'<{each}>' for each in to)}\r\n"
        f"Subject: {subject}\r\n"
        f"Message-ID: <20261110.{next(_count)}@acme.example.jp>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return header.encode() + body


REJECTION = """\
株式会社アクメ 人事部の小野寺です。
先日はお忙しいなか、面接のお時間をいただきありがとうございました。

慎重に選考を重ねました結果、誠に残念ながら、今回は採用を見送らせて
いただくこととなりました。
ご期待に沿えず申し訳ございませんが、何卒ご了承くださいますよう
お願い申し上げます。

今後のご活躍を心よりお祈り申し上げます。
"""
INVOICE = """\
お世話になっております。株式会社アクメの小野寺です。

十月分のご請求書を拝受いたしました。お支払いは月末を予定しております。
引き続きよろしくお願いいたします。
"""


def text(body: str) -> bytes:
    """Lines as they go over the wire, in UTF-8."""
    return body.replace("\n", "\r\n").encode()


# What has to survive a chain of servers.
AWKWARD = {
    "8-bit": text(INVOICE),
    "dots": b".\r\n..\r\n...\r\n.x\r\nx.\r\n.\r\n",
    "long": b"a" * 998 + b"\r\n" + b"b" * 1500 + b"\r\n" + text("あ" * 500 + "\n"),
    "white space": b" \r\n\t\r\n\r\nx  \r\n\r\n\r\n",
    "mbox": b"From here on\r\n\r\nFrom saiyo Tue Nov 10\r\n>From\r\n",
    "empty": b"",
    "big": b"0123456789abcdef" * 4 + b"\r\n" + b"Zg==\r\n" * 40_000,
}


def tokens(raw: bytes) -> set[str]:
    """The link tokens that a mail's reader sees, in all of its text parts."""
    return set().union(*(OWN_LINK.findall(each) for each in texts(raw)))


def texts(raw: bytes) -> list[str]:
    """The decoded text parts."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return [part.get_content() for part in message.walk() if part.get_content_maintype() == "text"]


def token_put_in(arrived: bytes, original: bytes) -> str:
    """`arrived` is the original with one link put in, once in each text part, and is the same otherwise: its token."""
    raw = without_received(arrived)
    assert _header(raw) == _header(original)
    before, after = texts(original), texts(raw)
    assert len(before) == len(after)
    for was, now in zip(before, after, strict=True):
        kept = next((i for i, (x, y) in enumerate(zip(was, now, strict=False)) if x != y), len(was))
        assert len(now) > len(was) and now.endswith(was[kept:]), "more than one stretch was put in"
    (token,) = tokens(raw)
    return token


_CONTENT_FIELDS = re.compile(rb"(?im)^Content-(?:Type|Transfer-Encoding):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


def _header(raw: bytes) -> bytes:
    """The header without the two fields that change if a text has to be converted for the block."""
    return _CONTENT_FIELDS.sub(b"", raw[: raw.index(b"\r\n\r\n") + 2])
