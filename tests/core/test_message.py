"""What a reader sees of a mail: ordinary mail as clients write it, and which of its leaves are the text."""

from __future__ import annotations

import base64

import pytest

from relay_mta.core.message import Message, index
from tests.core.sketch import HEAD, PLAIN, mail, multipart

JIS = "選考結果のお知らせ".encode("iso2022_jp")
BODY_JIS = "佐藤 様\r\n①このたびは見送らせていただきます。\r\n"

OUTLOOK = """\
Content-Type: multipart/mixed;
\tboundary="_004_TY2PR01MB0001_"
Content-Language: ja-JP
X-MS-Has-Attach: yes

--_004_TY2PR01MB0001_
Content-Type: multipart/alternative;
\tboundary="_000_TY2PR01MB0001_"

--_000_TY2PR01MB0001_
Content-Type: text/plain; charset="iso-2022-jp"
Content-Transfer-Encoding: 7bit

hello

--_000_TY2PR01MB0001_
Content-Type: text/html; charset="iso-2022-jp"
Content-Transfer-Encoding: quoted-printable

<html><body><p class=3D"MsoNormal">hello</p></body></html>

--_000_TY2PR01MB0001_--

--_004_TY2PR01MB0001_
Content-Type: application/pdf;
\tname="=?iso-2022-jp?B?GyRCTXpOcj1xGyhCLnBkZg==?="
Content-Description: =?iso-2022-jp?B?GyRCTXpOcj1xGyhCLnBkZg==?=
Content-Disposition: attachment;
\tfilename="=?iso-2022-jp?B?GyRCTXpOcj1xGyhCLnBkZg==?="; size=5;
\tcreation-date="Mon, 16 Nov 2026 01:00:00 GMT"
Content-Transfer-Encoding: base64

JVBERg==

--_004_TY2PR01MB0001_--
"""

GMAIL = """\
Content-Type: multipart/alternative; boundary="0000000000007f1c2d0612345678"

--0000000000007f1c2d0612345678
Content-Type: text/plain; charset="UTF-8"
Content-Transfer-Encoding: base64

5L2Q6Jek5qeYDQo=
--0000000000007f1c2d0612345678
Content-Type: text/html; charset="UTF-8"
Content-Transfer-Encoding: base64

PGRpdiBkaXI9Imx0ciI+aGVsbG88L2Rpdj4NCg==
--0000000000007f1c2d0612345678--
"""

THUNDERBIRD = """\
User-Agent: Mozilla Thunderbird
Content-Language: ja
Content-Type: multipart/mixed; boundary="------------0UxkQm1dYV0X2y1Qf0sH5Ztr"

This is a multi-part message in MIME format.
--------------0UxkQm1dYV0X2y1Qf0sH5Ztr
Content-Type: text/plain; charset=UTF-8; format=flowed
Content-Transfer-Encoding: 8bit

hello\x20
world
--------------0UxkQm1dYV0X2y1Qf0sH5Ztr
Content-Type: application/pdf; name="=?UTF-8?B?5bGl5q205pu4LnBkZg==?="
Content-Disposition: attachment; filename*=UTF-8''%E5%B1%A5%E6%AD%B4%E6%9B%B8.pdf
Content-Transfer-Encoding: base64

JVBERg==

--------------0UxkQm1dYV0X2y1Qf0sH5Ztr--
"""

ATS = """\
Content-Type: multipart/alternative; boundary=----=_Part_123_456.789
X-Mailer: ExampleATS

------=_Part_123_456.789
Content-Type: text/plain; charset=UTF-8;
Content-Transfer-Encoding: quoted-printable

hello=
 world
------=_Part_123_456.789
Content-Type: text/html; charset=UTF-8;
Content-Transfer-Encoding: quoted-printable

<p>hello</p>
------=_Part_123_456.789--
"""

SIGNED = """\
Content-Type: multipart/signed; protocol="application/pkcs7-signature";
 micalg=sha-256; boundary="----SIGNED"

This is an S/MIME signed message

------SIGNED
Content-Type: text/plain

hello
------SIGNED
Content-Type: application/pkcs7-signature; name="smime.p7s"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="smime.p7s"

AAAA

------SIGNED--
"""

NOTES = """\
Content-Type: multipart/alternative; boundary="=_alternative 00282C7F49258542_="

This is a multipart message in MIME format.
--=_alternative 00282C7F49258542_=
Content-Type: text/plain; charset="ISO-2022-JP"

hello
--=_alternative 00282C7F49258542_=
Content-Type: text/html; charset="ISO-2022-JP"

<p>hello</p>
--=_alternative 00282C7F49258542_=--
"""

PHONE = """\
Content-Type: multipart/mixed; boundary=Apple-Mail-0F1C2D3E-4455-6677-8899-AABBCCDDEEFF
Content-Transfer-Encoding: 7bit

--Apple-Mail-0F1C2D3E-4455-6677-8899-AABBCCDDEEFF
Content-Type: text/plain;
\tcharset=utf-8
Content-Transfer-Encoding: quoted-printable

hello

--Apple-Mail-0F1C2D3E-4455-6677-8899-AABBCCDDEEFF
Content-Type: image/jpeg;
\tname=IMG_0001.jpeg;
\tx-apple-part-url=0C1D
Content-Disposition: inline;
\tfilename=IMG_0001.jpeg
Content-Transfer-Encoding: base64

AAAA

--Apple-Mail-0F1C2D3E-4455-6677-8899-AABBCCDDEEFF
Content-Type: text/plain;
\tcharset=us-ascii
Content-Transfer-Encoding: 7bit



Sent from a phone
--Apple-Mail-0F1C2D3E-4455-6677-8899-AABBCCDDEEFF--
"""

OLD_OUTLOOK = """\
X-Priority: 3
X-MSMail-Priority: Normal
Content-Type: text/plain;
\tformat=flowed;
\tcharset="iso-2022-jp";
\treply-type=original
Content-Transfer-Encoding: 7bit

hello
"""

ORDINARY = {
    "notes": mail(NOTES),
    "phone": mail(PHONE),
    "old outlook": mail(OLD_OUTLOOK),
    "folded at the colon": mail("References:\n <1@a.example>\nContent-Type:\n text/plain;\n charset=utf-8\n\nhello\n"),
    "outlook": mail(OUTLOOK),
    "gmail": mail(GMAIL),
    "thunderbird": mail(THUNDERBIRD),
    "ats": mail(ATS),
    "signed": mail(SIGNED),
    "becky": mail('X-Mailer: Becky! ver. 2.80 [ja]\nContent-Type: text/plain; charset="ISO-2022-JP"\n\n')
    + JIS
    + b"\r\n",
    "apple": mail("", head=HEAD.replace("1.0", "1.0 (Mac OS X Mail 16.0 \\(3776\\))"))
    + b"Content-Type: text/plain;\r\n\tcharset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\nhello\r\n",
    "no mime at all": b"From: a@acme.example\r\nSubject: hello\r\n\r\nhello\r\n",
    "no body": b"From: a@acme.example\r\nSubject: hello\r\n\r\n",
    "raw jis subject": b"From: a@acme.example\r\nSubject: " + JIS + b"\r\n\r\nhello\r\n",
    "upper case": mail("CONTENT-TYPE: TEXT/PLAIN; CHARSET=UTF-8\nCONTENT-TRANSFER-ENCODING: 8BIT\n\nhello\n"),
    "no space after colon": mail("Content-Type:text/plain;charset=utf-8\n\nhello\n"),
    "padded delimiter": multipart(PLAIN + "--bb--  \n"),
    "preamble and epilogue": multipart("preamble\n\n" + PLAIN + "--bb--\nepilogue\n"),
    "no preamble line": multipart(PLAIN + "--bb--"),
    "empty parts": multipart("--bb\n\n--bb\nContent-Type: text/plain\n\n--bb--\n"),
    "one value twice": mail("Content-Type: text/plain; charset=utf-8; charset=utf-8\n\nhello\n"),
    "raw file name": mail("Content-Type: application/pdf; name=\x97\x9a\x97\xf0\x8f\x91 1.pdf\n\nx\n"),
    "mime version twice": mail("MIME-Version: 1.0\n\nx\n"),
}


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_ordinary_mail_has_no_trouble(name: str) -> None:
    assert index(ORDINARY[name]).trouble is None


def shown(message: Message) -> list[tuple[str, str]]:
    return [(part.content_type, part.encoding) for part in message.shown]


@pytest.mark.parametrize(
    ("name", "texts", "attachments"),
    [
        ("outlook", [("text/plain", "7bit"), ("text/html", "quoted-printable")], ("履歴書.pdf",)),
        ("gmail", [("text/plain", "base64"), ("text/html", "base64")], ()),
        ("thunderbird", [("text/plain", "8bit")], ("履歴書.pdf",)),
        ("ats", [("text/plain", "quoted-printable"), ("text/html", "quoted-printable")], ()),
        ("signed", [], ("", "smime.p7s")),
        ("becky", [("text/plain", "7bit")], ()),
        ("notes", [("text/plain", "7bit"), ("text/html", "7bit")], ()),
        ("phone", [("text/plain", "quoted-printable")], ("IMG_0001.jpeg", "")),
        ("old outlook", [("text/plain", "7bit")], ()),
        ("no mime at all", [("text/plain", "7bit")], ()),
        ("raw file name", [], ("履歴書 1.pdf",)),
    ],
)
def test_what_a_reader_sees_of_ordinary_mail(
    name: str, texts: list[tuple[str, str]], attachments: tuple[str, ...]
) -> None:
    message = index(ORDINARY[name])
    assert shown(message) == texts
    assert message.attachments == attachments


def test_texts_are_decoded_exactly() -> None:
    raw = mail("Content-Type: text/plain; charset=Shift_JIS\nContent-Transfer-Encoding: base64\n\n")
    raw += base64.encodebytes(BODY_JIS.encode("cp932")).replace(b"\n", b"\r\n")
    (text,) = index(raw).texts
    assert (text.kind, text.codec, text.text) == ("plain", "shift_jis", BODY_JIS)
    assert text.payload == BODY_JIS.encode("cp932")
    assert "見送らせて" in text.layout.new


def test_flowed_text_is_laid_out_as_flowed() -> None:
    (text,) = index(ORDINARY["thunderbird"]).texts
    assert text.text == "hello \r\nworld"
    assert "hello world" in text.layout.new


def test_quoted_printable_and_plain_are_both_read() -> None:
    assert [text.kind for text in index(ORDINARY["ats"]).texts] == ["plain", "html"]
    assert index(ORDINARY["ats"]).texts[0].text == "hello world"


STRUCTURES = [
    ("mixed text then text", "mixed", "text/plain", "text/plain", 1),
    ("mixed attachment then text", "mixed", "application/pdf", "text/plain", 1),
    ("alternative", "alternative", "text/plain", "text/html", 2),
    ("alternative with a calendar", "alternative", "text/plain", "text/calendar", 1),
    ("related", "related", "text/html", "text/plain", 1),
    ("report", "report", "text/plain", "text/plain", 0),
    ("signed", "signed", "text/plain", "application/pgp-signature", 0),
    ("encrypted", "encrypted", "text/plain", "application/octet-stream", 0),
    ("forwarded", "mixed", "message/rfc822", "application/pdf", 0),
    ("unknown multipart", "x-odd", "text/plain", "text/html", 1),
]


@pytest.mark.parametrize(
    ("name", "subtype", "first", "second", "count"), STRUCTURES, ids=[row[0] for row in STRUCTURES]
)
def test_which_leaves_are_the_text(name: str, subtype: str, first: str, second: str, count: int) -> None:
    raw = multipart(
        f"--bb\nContent-Type: {first}\n\nSubject: x\n\n--bb\nContent-Type: {second}\n\ny\n--bb--\n",
        content_type=f"multipart/{subtype}; boundary=bb",
    )
    message = index(raw)
    assert message.trouble is None, name
    assert len(message.shown) == count
    assert len(message.attachments) == 2 - count


def test_an_alternative_that_we_cannot_write_into_is_trouble() -> None:
    raw = multipart(
        "--bb\nContent-Type: text/plain\n\nx\n--bb\nContent-Type: text/x-amp-html\n\ny\n--bb--\n",
        content_type="multipart/alternative; boundary=bb",
    )
    assert index(raw).text_trouble == "unsupported:alternative"


def test_a_footer_behind_a_signed_text_is_not_the_text() -> None:
    signed = "Content-Type: multipart/signed; boundary=cc\n\n--cc\n\nx\n--cc--\n"
    raw = multipart(f"--bb\n{signed}\n--bb\nContent-Type: text/plain\n\nfooter\n--bb--\n")
    message = index(raw)
    assert message.trouble is None
    assert message.shown == ()


def test_a_mail_inside_is_not_looked_into() -> None:
    raw = mail("Content-Type: message/rfc822\n\nContent-Type: multipart/mixed\nFrom: a\nFrom: b\n\nx\n")
    message = index(raw)
    assert message.trouble is None
    assert [part.content_type for part in message.parts] == ["message/rfc822"]


@pytest.mark.parametrize(
    "disposition", ["attachment", "ATTACHMENT; filename=x.txt", "form-data", "inline; filename=x.txt"]
)
def test_a_text_that_is_a_file_is_not_shown(disposition: str) -> None:
    message = index(mail(f"Content-Type: text/plain\nContent-Disposition: {disposition}\n\nx\n"))
    assert message.shown == ()
    assert message.text_trouble is None


def test_values_are_found_by_name_in_any_case() -> None:
    message = index(b"to: a\r\nTO: b\r\nX: =?utf-8?q?c?=\r\n\r\n")
    assert message.values("To") == ("a", "b")
    assert message.first("x") == "c"
    assert message.first("subject") is None
    assert message.values("subject") == ()


def test_a_very_long_text_is_not_read() -> None:
    message = index(mail("\n" + "x" * 70 + "\n" * 600_000))
    assert message.trouble is None
    assert message.texts == ()
    assert message.text_trouble == "limit:text"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (mail("Content-Transfer-Encoding: base64\n\naGVsbG8=!\n"), "base64"),
        (mail("Content-Transfer-Encoding: base64\n\naGVsbG8\n"), "base64"),
        (mail("Content-Transfer-Encoding: base64\n\naGU=\naGU=\n"), "base64"),
        (mail("Content-Transfer-Encoding: quoted-printable\n\na=ZZb\n"), "quoted-printable"),
        (mail("Content-Transfer-Encoding: quoted-printable\n\na= \nb\n"), "quoted-printable"),
        (mail("Content-Type: text/plain; charset=utf-8\n\n\xff\n"), "charset"),
        (mail("Content-Type: text/plain; charset=utf-7\n\n+AGE-\n"), "charset"),
        (mail('Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B$"\n$"\x1b(B\n'), "charset-state"),
        (mail("", head=HEAD), "part-without-body"),
    ],
)
def test_a_text_that_decoders_read_differently_is_named_when_asked_for(raw: bytes, reason: str) -> None:
    message = index(raw)
    assert message.trouble is None
    assert message.text_trouble == f"ambiguous:{reason}"
    assert message.texts == ()
