"""The strict reply reader: what is a reply, what is not, and that cutting the stream changes neither."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.core.reply import Reply
from relay_mta.smtp.replies import MAX_LINE, MAX_LINES, ReplyError, ReplyReader

TEXT = st.binary(max_size=40).map(lambda text: text.translate(None, b"\r\n\0"))
REPLY = st.builds(Reply, st.integers(200, 599), st.lists(TEXT, min_size=1, max_size=5).map(tuple))


def read(data: bytes) -> Reply | None:
    reader = ReplyReader()
    reader.feed(data)
    return reader.take()


@given(st.lists(REPLY, max_size=4), st.lists(st.integers(0, 300), max_size=10))
def test_replies_come_out_as_they_went_in_however_they_are_cut(replies: list[Reply], cuts: list[int]) -> None:
    wire = b"".join(reply.wire() for reply in replies)
    reader, out = ReplyReader(), []
    places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    for start, end in itertools.pairwise(places):
        reader.feed(wire[start:end])
        while (reply := reader.take()) is not None:
            out.append(reply)
    assert out == replies
    assert not reader.pending


@given(st.binary(max_size=60))
def test_anything_is_a_reply_or_an_error_or_incomplete(data: bytes) -> None:
    try:
        reply = read(data)
    except ReplyError:
        return
    if reply is not None:
        assert 200 <= reply.code <= 599
        assert not any(byte in line for line in reply.lines for byte in b"\r\n\0")


def test_a_code_alone_is_a_reply() -> None:
    assert read(b"250\r\n") == Reply(250, (b"",))
    assert read(b"250-a\r\n250-\r\n250 b\r\n") == Reply(250, (b"a", b"", b"b"))


def test_texts_are_kept_as_bytes() -> None:
    assert read(b"550 5.1.1 \xe3\x81\x82 \xff \x1b[31m\r\n") == Reply(550, (b"5.1.1 \xe3\x81\x82 \xff \x1b[31m",))


@pytest.mark.parametrize("partial", [b"", b"2", b"250", b"250 ok", b"250 ok\r", b"250-a\r\n", b"250-a\r\n250 b"])
def test_incomplete(partial: bytes) -> None:
    assert read(partial) is None


@pytest.mark.parametrize(
    "wire",
    [
        b"550-a\r\n550-b\n220 fake\r\n550 c\r\n",
        b"550-a\r\n220 fake\r\n550 c\r\n",
        b"250 ok\n",
        b"250 a\rb\r\n",
        b"250 a\r\r\n",
        b"250 \xff\x00 caf\xe9 \r bare\r\n",
        b"250 nul\0\r\n",
        b"\r\n",
        b"hello\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"250_ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"099 ok\r\n",
        b" 250 ok\r\n",
        "２５０ ok\r\n".encode(),
        b"\x16\x03\x01 hello\x00\r\n",
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"250 " + b"x" * MAX_LINE,
        b"250-x\r\n" * MAX_LINES + b"250 x\r\n",
    ],
)
def test_what_is_no_reply(wire: bytes) -> None:
    with pytest.raises(ReplyError):
        read(wire)


def test_the_bounds_themselves_are_allowed() -> None:
    line = b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n"
    assert read(line) == Reply(250, (line[4:-2],))
    long = read(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")
    assert long is not None
    assert len(long.lines) == MAX_LINES
