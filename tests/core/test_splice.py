"""Splicing: the block is in, and every other byte is where and what it was."""

from __future__ import annotations

import base64
import binascii
import email
import email.message
import email.policy
import itertools
from pathlib import Path
from typing import Any

import pytest

import relay_mta
from relay_mta.core import block, charset, link, message, splice
from relay_mta.core.edit import Edit, apply
from relay_mta.core.errors import SpliceError

BASE = "https://relay.example.jp"
TOKEN = link.token(bytes(range(16)))
STOP = link.opt_out_url(BASE, TOKEN)
_TEMPLATES = Path(relay_mta.__file__).parent / "templates"
TEMPLATES = block.BlockTemplates.parse({name: (_TEMPLATES / name).read_text(encoding="utf-8") for name in block.NAMES})
LINKS = {"link": link.url(BASE, TOKEN), "opt_out": STOP}
JA = TEMPLATES.render(
    "ja", company="株式会社アクメ", agency="サンプル人材紹介", link=link.url(BASE, TOKEN), opt_out=STOP
)
JA_ODD = TEMPLATES.render(
    "ja", company="㈱髙﨑①～－ｱｸﾒ", agency="Agence «Été»", link=link.url(BASE, TOKEN), opt_out=STOP
)
EN = TEMPLATES.render("en", company="Acme", agency="Sample Agency", **LINKS)
EN_NAMED = TEMPLATES.render("en", company="株式会社アクメ", agency="Sample", **LINKS)

JAPANESE = (
    "山田様\r\n\r\nこのたびは弊社の求人にご応募いただき、ありがとうございました。\r\n残念ながら見送りとなりました。\r\n"
)
ENGLISH = "Dear Ms Yamada,\r\n\r\nThank you for applying.\r\nWe are sorry to tell you = no.\r\n"
LATIN = "Dear Zoë,\r\n\r\nThank you for applying. It is 20 £.\r\n"
TAILS = {
    "bare": "",
    "signature": "\r\n-- \r\nAcme\r\n",
    "quote": "\r\n> I apply.\r\n> Yamada\r\n",
    "dots": "\r\n-- \r\n.Acme\r\n..\r\nFrom here\r\n",
}
CODECS = {"utf-8": "utf-8", "iso-2022-jp": "iso2022_jp", "shift_jis": "cp932", "euc-jp": "euc_jp"}
CODECS |= {"us-ascii": "ascii", "iso-8859-1": "latin-1"}
ENCODINGS = ("7bit", "8bit", "quoted-printable", "base64")


def encoded(payload: bytes, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        return binascii.b2a_qp(payload, istext=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if encoding == "base64":
        return base64.encodebytes(payload).replace(b"\n", b"\r\n")
    return payload


def as_html(text: str) -> str:
    body = text.replace("\r\n-- \r\n", "\r\n<div>-- </div>\r\n").replace("\r\n", "<br>\r\n")
    return f"<html><head><title>x</title></head><body>\r\n<p>{body}</p>\r\n</body></html>\r\n"


def single(text: str, label: str, encoding: str, kind: str = "plain", extra: str = "") -> bytes:
    head = (
        "Received: from a by b;\r\n Mon, 2 Nov 2026 10:00:00 +0900\r\n"
        "From: hr@acme.example.jp\r\nTo: y@mail.example\r\nsubject:x\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/{kind}; charset={label}{extra}\r\nContent-Transfer-Encoding: {encoding}\r\n"
        "X-Last:  odd \tblanks \r\n\r\n"
    )
    return head.encode() + encoded(text.encode(CODECS[label]), encoding)


def multipart(text: str, label: str, encoding: str) -> bytes:
    def leaf(kind: str, source: str) -> bytes:
        fields = f"Content-Type: text/{kind}; charset={label}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        return fields.encode() + encoded(source.encode(CODECS[label]), encoding)

    attached = (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\n=20 \r\n"
    )
    return b"\r\n".join(
        [
            b"From: hr@acme.example.jp\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=outer\r\n",
            b"preamble\r\n--outer \r\nContent-Type: multipart/alternative; boundary=inner\r\n",
            b"--inner\r\n" + leaf("plain", text),
            b"--inner\r\n" + leaf("html", as_html(text)),
            b"--inner--\r\n",
            b"--outer\r\n" + attached,
            b"--outer--\r\nepilogue\r\n",
        ]
    )


def spliced(raw: bytes, made: block.Block, **options: Any) -> tuple[bytes, tuple[Edit, ...]]:
    edits = splice.plan(message.index(raw), made, **options)
    return b"".join(apply(raw, edits)), edits


def unspliced(raw: bytes, out: bytes, edits: tuple[Edit, ...]) -> bytes:
    """The original, made from the outcome and what the edits took away."""
    grown, back = 0, []
    for edit in sorted(edits, key=lambda edit: edit.start):
        start = edit.start + grown
        back.append(Edit(start, start + len(edit.new), raw[edit.start : edit.end]))
        grown += len(edit.new) - (edit.end - edit.start)
    return b"".join(apply(out, back))


def leaves(raw: bytes) -> list[email.message.Message]:
    return [part for part in email.message_from_bytes(raw).walk() if not part.is_multipart()]


def read(part: email.message.Message) -> str:
    """What Python's own reader takes the text to be."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode(CODECS.get(str(part.get_content_charset()), "utf-8"))


def check(raw: bytes, made: block.Block, *, below: bool = True) -> tuple[bytes, tuple[Edit, ...]]:
    """Splice and hold everything that holds for every mail; returns the outcome and the edits."""
    indexed = message.index(raw)
    out, edits = spliced(raw, made, placement="below" if below else "end")
    assert unspliced(raw, out, edits) == raw
    targets = [(shown.part.start, shown.part.body_end) for shown in indexed.texts]
    assert all(any(start <= edit.start <= edit.end <= end for start, end in targets) for edit in edits)
    again = message.index(out)
    assert again.trouble is None and again.text_trouble is None
    assert len(again.parts) == len(indexed.parts) and len(again.texts) == len(indexed.texts)
    for old, new in zip(indexed.texts, again.texts, strict=True):
        assert link.own_links(new.text, BASE) == (TOKEN,)
        at = old.layout.below if below else old.layout.end
        tail = len(old.text) - at
        assert new.text[:at] == old.text[:at]
        assert new.text[len(new.text) - tail :] == old.text[at:]
    for before, after, part in zip(leaves(raw), leaves(out), (p for p in indexed.parts if not p.children), strict=True):
        assert [name.lower() for name in before.keys()] == [  # noqa: SIM118 (a name may stand there twice)
            name.lower()
            for name in after.keys()  # noqa: SIM118
        ]
        if any(shown.part.index == part.index for shown in indexed.texts):
            was, now = read(before), read(after)
            assert now.count(f"{BASE}/r/{TOKEN}") == (1 if before.get_content_subtype() == "plain" else 2)
            assert was.count(f"{BASE}/r/") == 0
        else:
            assert before.as_bytes() == after.as_bytes()
    for part in again.parts:
        body = out[part.body_start : part.body_end]
        if part.encoding in ("quoted-printable", "base64"):
            assert max(map(len, body.split(b"\r\n"))) <= 76
            assert part.encoding == "base64" or not any(line.endswith((b" ", b"\t")) for line in body.split(b"\r\n"))
        if part.encoding == "7bit" and not part.children:
            assert body.isascii()
    return out, edits


def sensible(label: str, encoding: str) -> bool:
    """Whether a mail in that character set may have that transfer encoding (RFC 2045 §2.7)."""
    return encoding != "7bit" or label in ("us-ascii", "iso-2022-jp")


def text_in(label: str) -> str:
    return {"us-ascii": ENGLISH, "iso-8859-1": LATIN}.get(label, JAPANESE)


MATRIX = [
    pytest.param(label, encoding, tail, id=f"{label}-{encoding}-{tail}")
    for label, encoding, tail in itertools.product(CODECS, ENCODINGS, TAILS)
    if sensible(label, encoding)
]


@pytest.mark.parametrize("made", [JA, JA_ODD, EN, EN_NAMED], ids=["ja", "ja-odd", "en", "en-named"])
@pytest.mark.parametrize(("label", "encoding", "tail"), MATRIX)
def test_every_charset_in_every_encoding(label: str, encoding: str, tail: str, made: block.Block) -> None:
    text = text_in(label) + TAILS[tail]
    # Python's ISO-2022-JP reader knows no ①, ㈱ or 髙; there ours alone is asked.
    odd = made is JA_ODD and label in ("iso-2022-jp", "euc-jp")
    mails = [single(text, label, encoding), single(as_html(text), label, encoding, "html")]
    for raw in [*mails, multipart(text, label, encoding)]:
        for below in (True, False):
            if odd:
                out, edits = spliced(raw, made, placement="below" if below else "end")
                assert unspliced(raw, out, edits) == raw
                assert all(link.own_links(shown.text, BASE) == (TOKEN,) for shown in message.index(out).texts)
            else:
                check(raw, made, below=below)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_can_be_carried_is_inserted_and_takes_nothing_away(encoding: str) -> None:
    label = "iso-2022-jp" if encoding == "7bit" else "utf-8"
    for tail in TAILS.values():
        raw = multipart(JAPANESE + tail, label, encoding)
        _, edits = check(raw, JA)
        assert len(edits) == 2
        # base64: at most the one quantum that the place falls into is written anew.
        assert all(edit.end - edit.start <= (4 if encoding == "base64" else 0) for edit in edits)


def test_the_text_block_stands_between_empty_lines() -> None:
    raw = single(ENGLISH + TAILS["signature"], "utf-8", "8bit")
    out, _ = check(raw, EN)
    lines = EN.text.replace("\n", "\r\n").encode()
    assert b"= no.\r\n\r\n" + lines + b"\r\n\r\n-- \r\nAcme\r\n" in out


def test_a_text_without_a_final_line_end_gets_one_before_the_block() -> None:
    for encoding in ENCODINGS:
        raw = multipart(ENGLISH.rstrip(), "us-ascii", encoding)
        out, _ = check(raw, EN)
        shown = message.index(out).texts[0].text
        assert f"no.\r\n\r\n{EN.text.split(chr(10))[0]}\r\n" in shown


def test_an_empty_text_gets_the_block_alone() -> None:
    for encoding in ENCODINGS:
        out, _ = spliced(single("", "us-ascii", encoding), EN)
        assert message.index(out).texts[0].text.split("\r\n")[0] == EN.text.split("\n")[0]


def test_iso_2022_jp_stays_7bit_and_ends_every_line_in_ascii() -> None:
    out, _ = check(single(JAPANESE + TAILS["signature"], "iso-2022-jp", "7bit"), JA)
    assert out.isascii()
    for line in out.split(b"\r\n"):
        escapes = [line[at : at + 3] for at in range(len(line)) if line.startswith((b"\x1b(", b"\x1b$"), at)]
        assert not escapes or escapes[-1] == b"\x1b(B"


def test_characters_of_cp50221_are_read_by_ours_and_kana_become_full_width() -> None:
    made = TEMPLATES.render("ja", company="㈱髙﨑①ｱｸﾒ", agency="サンプル", **LINKS)
    raw = single("", "iso-2022-jp", "7bit") + charset.encode("髙橋様\r\n" + JAPANESE, "iso-2022-jp")
    out, _ = spliced(raw, made)
    assert "㈱髙﨑①アクメ" in message.index(out).texts[0].text
    assert b"\x1b(I" not in out


@pytest.mark.parametrize("label", ["iso-2022-jp", "shift_jis", "euc-jp"])
def test_a_spelling_that_strict_readers_know_goes_before_one_they_do_not(label: str) -> None:
    made = TEMPLATES.render("ja", company="㈱アクメ①", agency="サンプル", **LINKS)
    for encoding in ("8bit", "quoted-printable", "base64"):
        out, _ = check(multipart(JAPANESE, label, encoding), made)
        plain, html = message.index(out).texts
        assert "(株)アクメ1" in plain.text and "㈱" not in plain.text
        assert "&#x3231;アクメ&#x2460;" in html.text


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["髙" * 200, "&" * 200, "W" * 200, "e\u0301" * 100, "\U00020bb7" * 100])
def test_the_longest_names_fit_everywhere(name: str, encoding: str) -> None:
    made = TEMPLATES.render("ja", company=name, agency=name, **LINKS)
    out, _ = check(multipart(ENGLISH, "us-ascii", encoding), made)
    assert max(map(len, out.split(b"\r\n"))) <= 998


def test_html_writes_what_it_cannot_carry_as_references() -> None:
    for label, encoding in (("us-ascii", "7bit"), ("iso-8859-1", "8bit"), ("iso-8859-1", "quoted-printable")):
        out, edits = check(single(as_html(ENGLISH), label, encoding, "html"), JA)
        assert len(edits) == 1
        assert "&#x682A;&#x5F0F;" in message.index(out).texts[0].text


def test_8bit_never_enters_a_7bit_part_whatever_its_label_allows() -> None:
    for kind, source in (("html", as_html(ENGLISH)), ("plain", ENGLISH)):
        out, edits = check(single(source, "utf-8", "7bit", kind), JA)
        assert out.isascii()
        assert len(edits) == (1 if kind == "html" else 3)
    out, edits = check(single(ENGLISH, "utf-8", "7bit"), EN)
    assert len(edits) == 1 and out.isascii()


def test_conversion_touches_one_part_and_the_values_of_two_fields() -> None:
    raw = multipart(ENGLISH, "us-ascii", "7bit")
    out, edits = check(raw, JA)
    assert [edit.new for edit in edits[:2]] == [b"UTF-8", b"base64"]
    assert len(edits) == 4  # charset, encoding, body; the HTML part
    plain = message.index(out).texts[0]
    assert plain.part.encoding == "base64" and plain.codec == "utf-8"
    assert "株式会社アクメ" in plain.text


@pytest.mark.parametrize(
    ("content_type", "became"),
    [
        (b"text/plain; charset=us-ascii", b"text/plain; charset=UTF-8"),
        (b'text/plain;\r\n\tcharset="us-ascii"; format=flowed', b"text/plain;\r\n\tcharset=UTF-8; format=flowed"),
        (b'text/plain; x="a charset=b"; CharSet=us-ascii ', b'text/plain; x="a charset=b"; CharSet=UTF-8 '),
        (b"text/plain", b"text/plain;\r\n charset=UTF-8"),
        (b"text/plain;", b"text/plain;\r\n charset=UTF-8"),
        (b"text/plain; format=fixed", b"text/plain; format=fixed;\r\n charset=UTF-8"),
    ],
)
def test_only_the_charset_of_a_converted_content_type_changes(content_type: bytes, became: bytes) -> None:
    raw = b"MIME-Version: 1.0\r\nContent-Type: " + content_type + b"\r\nX-After: 1\r\n\r\n" + ENGLISH.encode()
    out, edits = spliced(raw, JA)
    assert unspliced(raw, out, edits) == raw
    expected = (
        b"MIME-Version: 1.0\r\nContent-Type: " + became + b"\r\nContent-Transfer-Encoding: base64\r\nX-After: 1\r\n"
    )
    assert out.startswith(expected + b"\r\n")
    assert out.endswith(b"\r\n")
    assert JA.text.split("\n")[3] in read(leaves(out)[0])


def test_a_body_part_without_any_field_can_be_converted() -> None:
    raw = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
        + ENGLISH.encode()
        + b"\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n"
    )
    out, edits = spliced(raw, JA)
    assert unspliced(raw, out, edits) == raw
    assert b"--b\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" in out
    assert out.endswith(b"\r\n--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n")


def test_a_mime_mail_without_a_content_type_gets_both_fields_behind_its_own() -> None:
    raw = b"Received: x\r\nMIME-Version: 1.0\r\nSubject: y\r\n\r\n" + ENGLISH.encode()
    out, edits = spliced(raw, JA)
    assert unspliced(raw, out, edits) == raw
    added = b"Content-Type: text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert out.startswith(raw.partition(b"\r\n\r\n")[0] + b"\r\n" + added)


def refused(raw: bytes, made: block.Block = JA) -> str:
    with pytest.raises(SpliceError) as raised:
        splice.plan(message.index(raw), made)
    return raised.value.reason


def test_what_is_refused_and_why() -> None:
    assert refused(b"From: a@b\r\n\r\n" + ENGLISH.encode()) == "charset"  # no MIME mail, and the block is not ASCII
    assert refused(b"Content-Type: image/png\r\n\r\nx\r\n") == "no-text"
    assert refused(b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset*=us-ascii''x\r\n\r\nHi\r\n").startswith(
        "amb"
    )
    assert refused(single("Hi\r\n", "utf-8", "8bit").replace(b"X-Last", b"Content-MD5")) == "sealed"
    assert refused(b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nx").startswith("ambiguous:")
    assert refused(single("x", "us-ascii", "base64").replace(b"eA==", b"e*==")).startswith("ambiguous:")
    assert refused(b"a\nb") == "ambiguous:bare-newline"


def test_an_ascii_block_needs_no_mime() -> None:
    raw = b"From: a@b\r\n\r\n" + ENGLISH.encode()
    out, edits = spliced(raw, EN)
    assert len(edits) == 1 and unspliced(raw, out, edits) == raw


def test_a_line_of_the_block_is_never_taken_for_a_boundary() -> None:
    raw = multipart(JAPANESE, "utf-8", "8bit").replace(b"outer", b"=ruler=")
    ruled = block.Block(f"--=ruler=\n{link.url(BASE, TOKEN)}", "--=ruler=", JA.html, JA.link)
    assert refused(raw.replace(b"boundary==ruler=", b'boundary="=ruler="'), ruled) == "boundary"
    quoted = multipart(JAPANESE, "utf-8", "quoted-printable").replace(b"outer", b"=ruler=")
    out, _ = spliced(quoted.replace(b"boundary==ruler=", b'boundary="=ruler="'), ruled)
    assert b"=2D-=3Druler=3D" in out


def test_long_lines_do_not_enter_an_unencoded_part() -> None:
    long = block.Block("x" * 999, "x" * 999, "<p>" + "x" * 999, JA.link)
    assert refused(single(ENGLISH, "us-ascii", "7bit"), long) == "line-length"
    spliced(single(ENGLISH, "us-ascii", "quoted-printable"), long)
    spliced(single(ENGLISH, "us-ascii", "base64"), long)


# --- format=flowed ---------------------------------------------------------------------------------------------------


def unflowed(text: str) -> list[str]:
    """The paragraphs that a reader of format=flowed sees (RFC 3676 §4.1 to §4.4), quotes kept apart by their depth."""
    paragraphs: list[str] = []
    open_depth: int | None = None
    for line in text.removesuffix("\r\n").split("\r\n"):
        depth = len(line) - len(line.lstrip(">"))
        content = line[depth:].removeprefix(" ")
        flowed = content.endswith(" ") and content != "-- "
        if open_depth == depth and content != "-- ":
            paragraphs[-1] += content
        else:
            paragraphs.append(">" * depth + content)
        open_depth = depth if flowed else None
    return paragraphs


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ending", ["We are sorry. \r\n", "We are sorry.\r\n", "We are sorry. ", "sorry. \r\n\r\n"])
def test_flowed_lines_do_not_flow_into_the_block(encoding: str, ending: str) -> None:
    odd = block.Block(">quoted?\nFrom us\n indented\n\n" + EN.text, EN.plain, EN.html, EN.link)
    for tail in ("", "\r\n-- \r\nAcme \r\nInc \r\n"):
        raw = single(f"Dear you, \r\nthank you. \r\n{ending}{tail}", "us-ascii", encoding, extra="; format=flowed")
        out, _ = spliced(raw, odd)
        text = message.index(out).texts[0].text
        seen = unflowed(text)
        assert [line for line in odd.text.split("\n") if line not in seen] == []
        start = seen.index(">quoted?")
        assert seen[start : start + len(odd.text.split("\n"))] == odd.text.split("\n")
        written = text[text.index("quoted?") :].split("\r\n")[: len(odd.text.split("\n"))]
        assert not any(line.endswith(" ") for line in written)


# --- offsets, in encoded bodies that are not as tidy ------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("width", [4, 20, 60, 72, 76, 900])
def test_base64_of_any_width_keeps_its_lines(width: int, newline: str) -> None:
    text = (JAPANESE + TAILS["signature"]).replace("\r\n", newline)
    whole = base64.b64encode(text.encode())
    body = b"\r\n".join(whole[i : i + width] for i in range(0, len(whole), width)) + b"\r\n"
    head = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    out, (edit,) = spliced(head + body, JA)
    assert edit.end - edit.start <= (6 if width == 4 else 4)
    shown = message.index(out).texts[0].text
    assert newline.join(JA.text.split("\n")) in shown
    assert "\n" not in shown.replace(newline, "")
    assert max(map(len, edit.new.split(b"\r\n"))) <= min(width, 76)


@pytest.mark.parametrize(
    "body",
    [
        b"Hello=0D=0AWorld=0D=0A-- =0D=0AAcme=0D=0A",
        b"Hello=0AWorld=0A=\r\n--=20=0AAcme=0A",
        b"Hello\r\nWor=\r\nld\r\n-- =\r\n\r\nAcme",
        b"Hello =\r\n\r\nWorld=\r\n",
        b"x" * 75 + b"=\r\n" + b"y" * 76 + b"\r\n--=20\r\nAcme",
        b"x" * 76,
        b"x" * 300,
        b"=E5=B1=B1\r\n=\r\n=\r\n=E7=94=B0=0D=\r\n=0A",
    ],
)
def test_quoted_printable_of_any_style_is_kept(body: bytes) -> None:
    head = (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable"
    )
    raw = head + b"\r\n\r\n" + body
    for made in (JA, EN):
        for placement in ("below", "end"):
            out, (edit,) = spliced(raw, made, placement=placement)
            assert edit.start == edit.end
            assert max(map(len, edit.new.split(b"\r\n"))) <= 76
            assert not any(line.endswith((b" ", b"\t")) for line in edit.new.split(b"\r\n"))
            newline = "\n" if "\r\n" not in message.index(raw).texts[0].text and b"=0A" in body else "\r\n"
            assert newline.join(made.text.split("\n")) in message.index(out).texts[0].text


def test_utf8_under_another_label_and_jis_under_none() -> None:
    for label, codec in (("us-ascii", "iso2022_jp"), ("iso-2022-jp", "utf-8"), ("unknown-8bit", "euc_jp")):
        head = f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset={label}\r\n\r\n".encode()
        raw = head + (JAPANESE * 3).encode(codec)
        out, edits = spliced(raw, JA)
        assert len(edits) == 1
        assert JA.text.replace("\n", "\r\n").encode(codec) in out
        assert unspliced(raw, out, edits) == raw


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "source",
    [
        "<body>山田様<br>残念ながら見送りとなりました。</body>",
        "<p>山田様</p>残念ながら見送りとなりました。",
        "<div>見送りとなりました。<div>--&nbsp;<br>株式会社アクメ</div></div>",
        "見送りとなりました。<blockquote type=cite>応募</blockquote>以上",
        "",
    ],
)
def test_html_without_any_line_end(source: str, encoding: str) -> None:
    for label in ("iso-2022-jp", "utf-8", "shift_jis"):
        if sensible(label, encoding):
            for below in (True, False):
                check(single(source, label, encoding, "html"), JA, below=below)


# --- apply -----------------------------------------------------------------------------------------------------------


def test_untouched_stretches_are_views_of_the_mail() -> None:
    raw = b"0123456789"
    chunks = apply(raw, [Edit(2, 4, b"ab"), Edit(8, 8, b"c")])
    assert [bytes(chunk) for chunk in chunks] == [b"01", b"ab", b"4567", b"c", b"89"]
    assert all(chunk.obj is raw for chunk in chunks if isinstance(chunk, memoryview))
    assert apply(raw, []) == (memoryview(raw),)
    assert apply(b"", []) == ()


def test_edits_compose_in_any_order_and_touch() -> None:
    raw = b"Sw: on\r\nA: b\r\n\r\nbody"
    edits = [Edit(14, 14, b"X: y\r\n"), Edit(0, 8, b""), Edit(0, 0, b"Received: 1\r\n"), Edit(0, 0, b"Loop: 2\r\n")]
    expected = b"Received: 1\r\nLoop: 2\r\nA: b\r\nX: y\r\n\r\nbody"
    assert b"".join(apply(raw, edits)) == expected
    assert b"".join(apply(b"abcd", [Edit(0, 2, b"x"), Edit(2, 4, b"y"), Edit(4, 4, b"z"), Edit(2, 2, b"-")])) == b"x-yz"


@pytest.mark.parametrize(
    "edits",
    [
        [Edit(0, 4, b""), Edit(2, 6, b"")],
        [Edit(0, 4, b""), Edit(0, 4, b"")],
        [Edit(0, 4, b""), Edit(2, 2, b"x")],
        [Edit(4, 2, b"")],
        [Edit(-1, 2, b"")],
        [Edit(8, 11, b"")],
        [Edit(11, 11, b"x")],
    ],
)
def test_edits_that_overlap_or_lie_outside_are_an_error(edits: list[Edit]) -> None:
    with pytest.raises(ValueError, match="overlap"):
        apply(b"0123456789", edits)


def test_splicing_reaches_through_the_relays_own_edits() -> None:
    raw = multipart(JAPANESE + TAILS["signature"], "utf-8", "base64")
    edits = splice.plan(message.index(raw), JA)
    received = b"Received: from x by y; now\r\n"
    both = b"".join(apply(raw, [Edit(0, 0, received), *edits]))
    assert both == received + b"".join(apply(raw, edits))


def test_charset_names_used_here_are_those_of_the_reader() -> None:
    assert [charset.find(label, b"") for label in CODECS] == [*list(CODECS)[:4], "ascii", "iso-8859-1"]
