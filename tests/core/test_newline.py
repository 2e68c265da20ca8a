"""Line ends: what is mended, and that it is the same whether a mail comes in one piece or over the wire."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.core.newline import has_bare, mended
from relay_mta.smtp.dots import Unstuffer

PIECES = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b".", b"\0"]), max_size=30).map(b"".join)


@pytest.mark.parametrize(
    ("raw", "became"),
    [(b"a\nb", b"a\r\nb"), (b"a\rb", b"a b"), (b"a\r\r\n", b"a \r\n"), (b"\n\r", b"\r\n "), (b"\r", b" ")],
)
def test_a_bare_lf_becomes_a_line_end_and_a_bare_cr_a_blank(raw: bytes, became: bytes) -> None:
    assert has_bare(raw)
    assert mended(raw) == became


@given(PIECES)
def test_only_crlf_is_left_and_nothing_else_changes(raw: bytes) -> None:
    out = mended(raw)
    assert not has_bare(out) and mended(out) is out
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", out)
    assert re.split(rb"\r\n|\n", raw) == [line.replace(b" ", b"\r") for line in out.split(b"\r\n")]
    assert (out is raw) == (not has_bare(raw))


@given(PIECES)
def test_a_file_is_mended_as_the_wire_is(raw: bytes) -> None:
    """`relay-mta check` reads files; the relay reads a stream, in which a client has doubled leading dots."""
    raw += b"\r\n"
    wire = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:]
    unstuffer = Unstuffer()
    assert unstuffer.feed(wire) + unstuffer.finish() == mended(raw)
    assert unstuffer.normalised == has_bare(raw)


def test_a_bare_cr_makes_no_field() -> None:
    """A form that keeps LF out of its subject must be as safe with us as without."""
    assert mended(b"Subject: one\rBcc: two@x\r\n\r\n") == b"Subject: one Bcc: two@x\r\n\r\n"


def test_a_mail_whose_lines_all_end_in_cr_cr_lf_keeps_its_header() -> None:
    assert mended(b"From: a\r\r\nTo: b\r\r\nx\r\r\n") == b"From: a \r\nTo: b \r\nx \r\n"
