"""Tries block templates as the relay would use them: in both languages, every kind of text, character set and encoding.

A sample letter in each form is spliced with the rendered block and read again. The outcome says how the block came in;
where it did not, the relay would send the original mail, and the outcome says why.
"""

from __future__ import annotations

import base64
import quopri
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from relay_mta.core import charset, link
from relay_mta.core.block import Block, BlockTemplates
from relay_mta.core.company import Company
from relay_mta.core.edit import apply
from relay_mta.core.errors import SpliceError
from relay_mta.core.message import index
from relay_mta.core.splice import plan
from relay_mta.core.verdict import Language

LANGUAGES: tuple[Language, ...] = ("ja", "en")
CHARSETS = ("UTF-8", "ISO-2022-JP", "Shift_JIS", "EUC-JP", "ISO-8859-1", "US-ASCII")
ENCODINGS = ("7bit", "8bit", "quoted-printable", "base64")
KINDS: tuple[Literal["plain", "html"], ...] = ("plain", "html")
SAMPLE_BASE_URL = "https://relay.example.jp"
_TOKEN = link.token(bytes(range(16)))
# What a letter in these has to hold, so that it is one in this character set.
_LETTERS: dict[Language, str] = {
    "ja": "山田様\r\n\r\nこのたびはご応募いただき、ありがとうございました。\r\n\r\n株式会社サンプル\r\n",
    "en": "Dear Ms Yamada,\r\n\r\nThank you for applying.\r\n\r\nSample Ltd\r\n",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One form of a letter: how the block came in (`way`), or why it did not (`failure`)."""

    language: Language
    kind: Literal["plain", "html"]
    charset: str
    encoding: str
    way: str = ""
    failure: str = ""


def sample(
    templates: BlockTemplates,
    language: Language,
    company: Company,
    base_url: str = SAMPLE_BASE_URL,
    candidate: str = "",
) -> Block:
    """The company's block in one language, with a link that opens nothing. Raises `SpliceError`."""
    return templates.render(
        language,
        company=company.name,
        agency=company.agency.name,
        link=link.url(base_url, _TOKEN),
        opt_out=link.opt_out_url(base_url, _TOKEN),
        candidate=candidate,
    )


def trials(templates: BlockTemplates, company: Company, base_url: str = SAMPLE_BASE_URL) -> Iterator[Trial]:
    """Every form of a letter with the company's block in it; forms that no letter can have are left out."""
    for language in LANGUAGES:
        for kind in KINDS:
            for label in CHARSETS:
                for encoding in ENCODINGS:
                    yield from _trial(templates, company, base_url, Trial(language, kind, label, encoding))


def _trial(templates: BlockTemplates, company: Company, base_url: str, form: Trial) -> Iterator[Trial]:
    raw = _letter(form)
    if raw is None:
        return
    try:
        block = sample(templates, form.language, company, base_url, candidate="山田 太郎")
        before = index(raw)
        after = index(b"".join(apply(raw, plan(before, block))))
        way = _way(before.texts[0].text, after.texts[0].text, block, converted=after.fields != before.fields)
    except SpliceError as error:
        yield replace(form, failure=str(error))
    else:
        yield replace(form, way=way)


def _letter(form: Trial) -> bytes | None:
    text = _LETTERS[form.language]
    try:
        payload = charset.encode(
            text if form.kind == "plain" else "<p>" + text.replace("\r\n", "<br>\r\n") + "</p>\r\n",
            charset.find(form.charset, b""),
        )
    except ValueError:
        # A letter whose text the character set does not have: an English one that gets a Japanese block.
        payload = _LETTERS["en"].encode() if form.kind == "plain" else b"<p>Thank you for applying.</p>\r\n"
    if form.encoding == "7bit" and not payload.isascii():
        return None
    if form.encoding == "base64":
        payload = base64.encodebytes(payload).replace(b"\n", b"\r\n")
    elif form.encoding == "quoted-printable":
        payload = quopri.encodestring(payload.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    head = (
        "From: hr@sample.example\r\nTo: taro@mail.example\r\nSubject: sample\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/{form.kind}; charset={form.charset}\r\nContent-Transfer-Encoding: {form.encoding}\r\n\r\n"
    )
    return head.encode() + payload


def _way(before: str, after: str, block: Block, *, converted: bool) -> str:
    """How the block came in, in words for an admin."""
    if converted:
        return "text converted to UTF-8"
    put_in = after.replace("\r\n", "\n")
    if block.html in put_in or block.text in put_in:
        return "as written"
    if block.plain in put_in:
        return "plain variant"
    return "numeric references" if "&#x" in put_in and "&#x" not in before else "look-alike characters"
