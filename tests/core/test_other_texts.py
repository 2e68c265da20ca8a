"""Texts that some readers see in place of the shown one, or beside it: there a mail is not touched."""

from __future__ import annotations

import pytest

from relay_mta.core import footer
from relay_mta.core.message import index
from tests.core.sketch import multipart

NO = "Content-Type: text/plain\n\nWe are sorry: we cannot offer you the position.\n"
NO_HTML = "Content-Type: text/html\n\n<html><body><p>We are sorry.</p></body></html>\n"
OFFER = "Content-Type: text/plain\n\nThere is another position, and we offer it to you.\n"
OFFER_HTML = "Content-Type: text/html\n\n<p>There is another position, and we offer it to you.</p>\n"


def inside(kind: str, *children: str, boundary: str = "cc", extra: str = "") -> str:
    lines = "".join(f"--{boundary}\n{child}\n" for child in children)
    return f"Content-Type: multipart/{kind}; boundary={boundary}{extra}\n\n{lines}--{boundary}--\n"


def trouble(kind: str, *children: str, extra: str = "") -> str | None:
    lines = "".join(f"--bb\n{child}\n" for child in children)
    message = index(multipart(f"{lines}--bb--\n", content_type=f"multipart/{kind}; boundary=bb{extra}"))
    assert message.trouble is None
    return message.text_trouble


# --- in its place ----------------------------------------------------------------------------------------------------


def test_ordinary_alternatives_are_no_trouble() -> None:
    image = "Content-Type: image/gif\nContent-ID: <i@x>\nContent-Transfer-Encoding: base64\n\nR0lG\n"
    file = "Content-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment\n\nx\n"
    assert trouble("alternative", NO, NO_HTML) is None
    assert trouble("alternative", NO, inside("related", NO_HTML, image)) is None
    assert trouble("alternative", NO, inside("mixed", NO_HTML, file)) is None
    assert trouble("mixed", inside("related", inside("alternative", NO, NO_HTML, boundary="dd"), image), file) is None


@pytest.mark.parametrize(
    "other",
    [
        NO_HTML.replace("text/html", "text/html; name=body.html"),
        "Content-Disposition: inline; filename=mail.html\n" + NO_HTML,
        "Content-Disposition: attachment\n" + NO_HTML,
        inside("related", NO_HTML.replace("text/html", "text/html; name=body.html")),
        NO_HTML.replace("text/html", "application/xhtml+xml"),
        NO_HTML.replace("text/html", "text/x-amp-html"),
        inside("related", NO_HTML.replace("text/html", "text/x-amp-html")),
        inside("form-data", NO_HTML),
        "Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n",
        "Content-Type: application/pdf\n\nx\n",
        "Content-Type: message/rfc822\n\nSubject: x\n\ny\n",
    ],
    ids=["name", "filename", "attachment", "related", "xhtml", "amp", "related-amp", "form", "calendar", "pdf", "mail"],
)
def test_an_alternative_that_is_not_spliced_makes_none_of_them_be(other: str) -> None:
    for children in ((NO, other), (other, NO), (inside("related", NO, boundary="dd"), other)):
        assert trouble("alternative", *children) == "unsupported:alternative"
    assert trouble("mixed", inside("alternative", NO, other, boundary="dd")) == "unsupported:alternative"
    assert trouble("mixed", inside("alternative", other, boundary="dd"), NO) == "unsupported:alternative"


def test_a_related_whose_start_is_not_its_first_part_is_ambiguous() -> None:
    """RFC 2387 shows the part that `start` names, and many clients the first one."""
    first, second = f"Content-ID: <a@x>\n{OFFER_HTML}", f"Content-ID: <b@x>\n{NO_HTML}"
    for start in ('"<b@x>"', '"b@x"'):
        assert trouble("related", first, second, extra=f"; start={start}") == "ambiguous:related-start"
    assert trouble("related", f"Content-ID: <a@x>\n{NO_HTML}", extra='; start="<a@x>"') is None
    assert trouble("related", NO_HTML, extra='; start="<gone@x>"') is None


# --- beside it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [OFFER, OFFER_HTML, "Content-Disposition: inline\n" + OFFER, NO_HTML])
@pytest.mark.parametrize("first", [NO, inside("alternative", NO, NO_HTML)], ids=["plain", "alternative"])
def test_a_second_inline_text_makes_the_letter_ambiguous(first: str, second: str) -> None:
    """Clients show both as one letter, or the HTML alone; the second may take back what the first says."""
    assert trouble("mixed", first, second) == "ambiguous:two-texts"
    assert trouble("mixed", inside("mixed", first, boundary="dd"), second) == "ambiguous:two-texts"
    assert trouble("related", first, second) == "ambiguous:two-texts"


@pytest.mark.parametrize(
    "attached", ["Content-Disposition: attachment\n" + OFFER, OFFER.replace("plain", "plain; name=a.txt")]
)
def test_an_attached_text_is_none_of_the_letter(attached: str) -> None:
    assert trouble("mixed", NO, attached) is None


FOOTERS = {
    "empty": "\n\n\n",
    "list": "_____________________\nstaff mailing list\nstaff@lists.example\nhttps://lists.example/staff\n",
    "checker": "---\nThis email has been checked for viruses by\nan antivirus program.\nwww.checker.example\n",
    "checker-ja": "==========\nこのメールはウイルスチェック済みです。\n==========\n",
    "phone": "\n\nSent from my telephone\n",
    "phone-ja": "電話から送信\n",
    "signature": "-- \nHanako\nAcme Inc.\n",
}


@pytest.mark.parametrize("name", FOOTERS)
def test_a_machines_footer_is_no_second_text(name: str) -> None:
    text = FOOTERS[name].encode().decode("latin-1")
    kind = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    assert trouble("mixed", NO, kind + text) is None
    assert trouble("mixed", NO, kind + text + "You are hired.\n") == (None if name == "signature" else TWO)


TWO = "ambiguous:two-texts"


def test_html_that_shows_nothing_is_no_second_text() -> None:
    """Apple's clients end a letter with such a part behind each attachment."""
    nothing = "Content-Type: text/html\n\n<html><head></head><body dir=auto><br></body></html>\n"
    assert trouble("mixed", NO, nothing) is None
    for something in ("<a href=x>y</a>", "<a href=x></a>", "<IMG src=offer.png>"):
        assert trouble("mixed", NO, nothing.replace("<br>", something)) == TWO


def test_footers_are_few_and_short() -> None:
    blank = "Content-Type: text/plain\n\n\n"
    assert trouble("mixed", NO, *[blank] * footer.MAX_NOTES) is None
    assert trouble("mixed", NO, *[blank] * (footer.MAX_NOTES + 1)) == TWO
    assert trouble("mixed", NO, blank + "\n" * footer.MAX_BYTES) == TWO


def test_a_footer_that_cannot_be_read_is_a_second_text() -> None:
    assert trouble("mixed", NO, "Content-Type: text/plain; charset=utf-8\n\n\xff virus\n") == TWO
    assert trouble("mixed", NO, "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n%\n") == TWO
