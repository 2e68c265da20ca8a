"""Splicing for strict readers: what could be read before by the letter of its label can still be."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path

import pytest

import relay_mta
from relay_mta.core import block, charset, link
from relay_mta.core.edit import apply
from relay_mta.core.message import index
from relay_mta.core.splice import plan

BASE = "https://relay.example.jp"
URL = link.url(BASE, link.token(bytes(range(16))))
STOP = link.opt_out_url(BASE, link.token(bytes(range(16))))
_TEMPLATES = Path(relay_mta.__file__).parent / "templates"
TEMPLATES = block.BlockTemplates.parse({name: (_TEMPLATES / name).read_text(encoding="utf-8") for name in block.NAMES})
LETTER = "山田様\r\n\r\nこのたびはご応募いただきありがとうございました。\r\n残念ながら見送りとなりました。\r\n"
ENGLISH = "Dear Ms Yamada,\r\n\r\nThank you for applying. We are sorry.\r\n"


def single(text: str, label: str, encoding: str, codec: str, kind: str = "plain") -> bytes:
    head = f"From: hr@acme.example.jp\r\nMIME-Version: 1.0\r\nContent-Type: text/{kind}; charset={label}\r\n"
    return f"{head}Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + text.encode(codec)


def spliced(raw: bytes, company: str, language: block.Language = "ja") -> bytes:
    made = TEMPLATES.render(language, company=company, agency="Sample Agency", link=URL, opt_out=STOP)
    return b"".join(apply(raw, plan(index(raw), made)))


def strictly_read(raw: bytes) -> str:
    """As Python's own reader decodes it, by nothing but the label."""
    part = email.message_from_bytes(raw, policy=email.policy.default)
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode(str(part.get_content_charset()))


@pytest.mark.parametrize(
    ("label", "codec", "encoding"),
    [("iso-2022-jp", "iso2022_jp", "7bit"), ("shift_jis", "shift_jis", "8bit"), ("euc-jp", "euc_jp", "8bit")],
)
def test_a_vendors_kanji_in_the_companys_name_leaves_a_strict_text_readable(
    label: str, codec: str, encoding: str
) -> None:
    raw = single(LETTER, label, encoding, codec)
    assert "見送り" in strictly_read(raw)
    text = strictly_read(spliced(raw, "株式会社髙島﨑"))
    assert text.count(URL) == 1 and "髙島﨑" in text
    # A name without one stays in the part's charset, byte for byte around it.
    assert raw.rstrip() in spliced(raw, "株式会社アクメ")


@pytest.mark.parametrize("label", ["iso-2022-jp", "shift_jis", "euc-jp"])
def test_a_text_with_vendors_kanji_of_its_own_is_not_converted_for_ours(label: str) -> None:
    head = single("", label, "7bit" if label == "iso-2022-jp" else "8bit", "ascii")
    raw = head + charset.encode("髙橋様\r\n" + LETTER, label)
    out = spliced(raw, "株式会社髙島")
    assert index(out).texts[0].codec == label
    assert "株式会社髙島" in index(out).texts[0].text


def test_a_text_labelled_as_microsofts_takes_microsofts_characters() -> None:
    raw = single(LETTER, "windows-31j", "8bit", "cp932")
    assert "株式会社髙島" in spliced(raw, "株式会社髙島").decode("cp932")


@pytest.mark.parametrize("kind", ["plain", "html"])
def test_gb2312_stays_gb2312(kind: str) -> None:
    """栃 and 辻 are in GB 18030 only, which others read where we read gb2312."""
    raw = single(ENGLISH, "gb2312", "8bit", "ascii", kind)
    assert URL in strictly_read(spliced(raw, "株式会社栃木辻"))


def test_a_seven_bit_mail_stays_seven_bit() -> None:
    """Its client had no need to say BODY=8BITMIME (RFC 6152 §3); the upstream may refuse what needs it."""
    for label in ("utf-8", "shift_jis", "iso-8859-1"):
        for kind in ("plain", "html"):
            for encoding in ("8bit", "binary", "7bit"):
                out = spliced(single(ENGLISH, label, encoding, "ascii", kind), "株式会社アクメ")
                assert out.isascii()
                assert "株式会社アクメ" in index(out).texts[0].layout.new
    assert not spliced(single(LETTER, "utf-8", "8bit", "utf-8"), "株式会社アクメ").isascii()


def test_an_encoding_that_hides_the_eighth_bit_needs_no_conversion() -> None:
    raw = single(ENGLISH, "utf-8", "quoted-printable", "ascii")
    out = spliced(raw, "株式会社アクメ")
    assert out.isascii() and raw.rstrip() in out
