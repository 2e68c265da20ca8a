"""Transparency of the dot: identity for mails, and no line end but CR LF ever comes out."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.smtp.dots import BareNewlineError, Stuffer, Unstuffer

LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b".x", b"x.", b"x", b"\0", b"\xff\x0b\x0c\x85", b" .", b"x" * 70]), max_size=12
)
CUTS = st.lists(st.integers(0, 400), max_size=12)
WIRE = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\0"]), max_size=30).map(b"".join)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def stuffed(mail: bytes, cuts: list[int]) -> bytes:
    stuffer = Stuffer()
    return b"".join([stuffer.feed(piece) for piece in pieces(mail, cuts)] + [stuffer.finish()])


def unstuffed(wire: bytes, cuts: list[int]) -> tuple[bytes, bool]:
    unstuffer = Unstuffer()
    raw = b"".join([unstuffer.feed(piece) for piece in pieces(wire, cuts)] + [unstuffer.finish()])
    return raw, unstuffer.normalised


@given(LINES, CUTS, CUTS)
def test_what_was_stuffed_comes_back(lines: list[bytes], cuts: list[int], other_cuts: list[int]) -> None:
    mail = b"".join(line + b"\r\n" for line in lines)
    wire = stuffed(mail, cuts)
    assert (b"\r\n" + wire).count(b"\r\n.\r\n") == 1
    assert wire.endswith(b".\r\n")
    assert unstuffed(wire[:-3], other_cuts) == (mail, False)


@given(WIRE, CUTS)
def test_only_crlf_comes_in_wherever_the_stream_is_cut(wire: bytes, cuts: list[int]) -> None:
    raw, normalised = unstuffed(wire, cuts)
    assert raw == unstuffed(wire, [])[0]
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", raw)
    assert normalised == bool(re.search(rb"\r(?!\n)|(?<!\r)\n", (b"\r\n" + wire).replace(b"\r\n.", b"\r\n")))


@given(LINES, CUTS)
def test_a_missing_last_line_end_is_added(lines: list[bytes], cuts: list[int]) -> None:
    mail = b"\r\n".join([*lines, b"end"])
    assert unstuffed(stuffed(mail, cuts)[:-3], []) == (mail + b"\r\n", False)


@pytest.mark.parametrize("mail", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\r\n", b"a\n.\n", b"a\r", b"\n", b"a\r\n\n"])
@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2]])
def test_bare_newlines_do_not_go_out(mail: bytes, cuts: list[int]) -> None:
    with pytest.raises(BareNewlineError):
        stuffed(mail, cuts)


def test_an_empty_mail_is_the_final_dot() -> None:
    assert stuffed(b"", []) == b".\r\n"
    assert unstuffed(b"", []) == (b"", False)
