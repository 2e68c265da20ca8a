"""What holds for every mail, and for all bytes that are none."""

from __future__ import annotations

import email
from email.message import Message as EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core import charset, cp50221, header, parameter, transfer
from relay_mta.core.message import Message, index
from tests.property.strategies import CODECS, Leaf, Mail, Multi, mails, mangled_mails, texts

SOME = settings(max_examples=150, deadline=None)


def spans_hold(message: Message) -> None:
    """Spans are inside their parent's, disjoint among sisters, and fields fill header blocks."""
    raw = message.raw
    assert message.parts[0].start == 0
    assert message.parts[0].body_end == len(raw)
    for number, part in enumerate(message.parts):
        assert part.index == number
        assert 0 <= part.start <= part.body_start <= part.body_end <= len(raw)
        at = part.start
        for each in part.fields:
            assert each.start == at < each.end
            assert raw[each.start : each.end].endswith(each.value + b"\r\n") or each.end == part.body_start
            at = each.end
        assert raw[at : part.body_start] in (b"", b"\r\n")
        for child in part.children:
            assert message.parts[child].parent == number
        sisters = [message.parts[child] for child in part.children]
        edges = [part.body_start, *(edge for one in sisters for edge in (one.start, one.body_end)), part.body_end]
        assert edges == sorted(edges)
        if part.parent is not None:
            assert part.depth == message.parts[part.parent].depth + 1
            assert number in message.parts[part.parent].children


def all_read(message: Message) -> None:
    """Whatever can be asked of a mail's headers gives text without controls."""
    for name in ("subject", "From", "TO", "content-type", "x-none", ""):
        for value in message.values(name):
            assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in value)
    assert message.attachments is not None
    assert len(message.body_digest()) == 32
    assert all(part in message.parts for part in message.shown)
    assert len(message.texts) == len(message.shown) or message.text_trouble
    for text in message.texts:
        assert charset.decode(text.payload, text.codec) == text.text
        assert 0 <= text.layout.below <= text.layout.end <= len(text.text)


@SOME
@given(mails())
def test_a_well_formed_mail_is_read_as_it_was_written(mail: Mail) -> None:
    message = index(mail.raw)
    assert message.trouble is None
    spans_hold(message)
    all_read(message)
    written = mail.preorder()
    assert len(message.parts) == len(written)
    for part, node in zip(message.parts, written, strict=True):
        if isinstance(node, Multi):
            assert part.content_type == f"multipart/{node.subtype}"
            assert len(part.children) == len(node.children)
            continue
        assert part.content_type == node.content_type
        assert part.filename == node.filename
        body = message.raw[part.body_start : part.body_end]
        # A body part at the root ends where the mail ends; its last CRLF is its own either way.
        payload = transfer.decode(body, part.encoding)
        assert payload == node.payload
        if node.content_type.startswith("text/"):
            codec = charset.find(part.params.get("charset"), payload)
            assert charset.decode(payload, codec) == node.text
            assert charset.settled(payload, codec)


@SOME
@given(mails())
def test_no_attachment_is_shown_and_nothing_of_a_closed_part(mail: Mail) -> None:
    message = index(mail.raw)
    for part in message.shown:
        assert part.filename is None
        above = part.parent
        while above is not None:
            assert message.parts[above].content_type not in ("multipart/signed", "multipart/report")
            above = message.parts[above].parent
    leaves = [node for node in mail.preorder() if isinstance(node, Leaf)]
    assert len(message.shown) + len(message.attachments) == len(leaves)


@settings(max_examples=300, deadline=None)
@given(mangled_mails())
def test_a_mangled_mail_never_raises(raw: bytes) -> None:
    message = index(raw)
    spans_hold(message)
    all_read(message)


@settings(max_examples=300, deadline=None)
@given(mangled_mails())
def test_a_mail_without_trouble_is_read_alike_by_another_parser(raw: bytes) -> None:
    message = index(raw)
    if message.trouble:
        return
    waiting: list[EmailMessage] = [email.message_from_bytes(raw)]
    theirs: list[EmailMessage] = []
    while waiting:
        part = waiting.pop()
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            waiting.extend(reversed(part.get_payload()))
        else:
            theirs.append(part)
    ours = [part for part in message.parts if not part.children]
    assert [part.content_type for part in ours] == [part.get_content_type() for part in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        if mine.encoding in transfer.IDENTITIES and mine.content_type.startswith("text/"):
            payload = other.get_payload(decode=True)
            assert payload.rstrip(b"\r\n") == raw[mine.body_start : mine.body_end].rstrip(b"\r\n")


@SOME
@given(st.binary(max_size=400))
def test_no_bytes_raise(raw: bytes) -> None:
    message = index(raw)
    spans_hold(message)
    all_read(message)
    header.text(raw)
    parameter.parse(raw)


@SOME
@given(mails(), st.sampled_from([b"Received: from a\r\n by b\r\n", b"ARC-Seal: i=1\r\n", b"Return-Path: <>\r\n"]))
def test_the_body_digest_does_not_see_trace_fields(mail: Mail, trace: bytes) -> None:
    assert index(trace + mail.raw).body_digest() == index(mail.raw).body_digest()
    assert index(mail.raw + b"x").body_digest() != index(mail.raw).body_digest()


@pytest.mark.parametrize("codec", sorted(CODECS))
@SOME
@given(data=st.data())
def test_texts_survive_their_codec(codec: str, data: st.DataObject) -> None:
    text = data.draw(texts(codec))
    payload = charset.encode(text, codec)
    assert charset.decode(payload, codec) == text
    assert charset.settled(payload, codec)
    found = charset.find(CODECS[codec][0], payload)
    assert charset.decode(payload, found) == text


@pytest.mark.parametrize("codec", sorted(CODECS))
@SOME
@given(data=st.data())
def test_a_byte_offset_cuts_between_two_characters(codec: str, data: st.DataObject) -> None:
    text = data.draw(texts(codec))
    payload = charset.encode(text, codec)
    for offset in range(len(text) + 1):
        at = charset.byte_offset(payload, codec, offset)
        assert charset.decode(payload[:at], codec) == text[:offset]
        if codec == "iso-2022-jp" and (offset in (0, len(text)) or text[offset - 1] == "\n"):
            assert charset.decode(payload[at:], codec) == text[offset:]
            assert charset.settled(payload[:at], codec)


@pytest.mark.parametrize(
    "codec", ["utf-8", "shift_jis", "euc-jp", "gb18030", "big5", "cp949", "windows-1252", "koi8_r"]
)
@SOME
@given(payload=st.binary(max_size=30))
def test_any_bytes_that_decode_have_an_offset_for_every_character(codec: str, payload: bytes) -> None:
    try:
        text = charset.decode(payload, codec)
    except UnicodeDecodeError:
        return
    for offset in range(len(text) + 1):
        assert charset.decode(payload[: charset.byte_offset(payload, codec, offset)], codec) == text[:offset]


@SOME
@given(st.text(), st.sampled_from(sorted(CODECS)))
def test_whatever_is_encoded_is_decoded_to_the_same(text: str, codec: str) -> None:
    try:
        payload = charset.encode(text, codec)
    except UnicodeEncodeError:
        folded = charset.fold(text, codec)
        assert charset.fold(folded, codec) == folded
        return
    assert charset.decode(payload, codec) == text


@SOME
@given(st.text(st.characters(exclude_characters="\x1b\x0e\x0f")))
def test_the_jis_codec_agrees_with_the_standard_library(text: str) -> None:
    try:
        standard = text.encode("iso2022_jp")
    except UnicodeEncodeError:
        return
    assert cp50221.encode(text) == standard
    assert "".join(cp50221._decode_run(standard, run) for run in cp50221.runs(standard)) == text


JIS_PIECES = (b"\x1b$B", b"\x1b(B", b"\x1b(J", b"\x1b(I", b"\r\n", b'$"', b"0!", b"-!", b"a", b"\\", b"1")


@SOME
@given(st.lists(st.sampled_from(JIS_PIECES)).map(b"".join))
def test_any_jis_bytes_that_decode_have_an_offset_for_every_character(payload: bytes) -> None:
    try:
        text = cp50221.decode(payload)
    except UnicodeDecodeError:
        return
    for offset in range(len(text) + 1):
        at = cp50221.byte_offset(payload, offset)
        assert cp50221.decode(payload[:at]) == text[:offset]
        if cp50221.settled(payload) and (offset == 0 or text[offset - 1] == "\n"):
            assert cp50221.settled(payload[:at])
    with pytest.raises(ValueError, match="past the end"):
        cp50221.byte_offset(payload, len(text) + 1)


@SOME
@given(
    st.lists(
        st.sampled_from([b"=?utf-8?B?", b"5o6h", b"?=", b" ", b"=?iso-2022-jp?Q?", b"=1B$B", b"\xe6\x8e", b"x"])
    ).map(b"".join)
)
def test_encoded_words_never_raise(value: bytes) -> None:
    assert header.text(value) == header.text(value).strip()
