"""Splicing, for any mail: what was there stays, what is new stands in one place; nothing raises but `SpliceError`."""

from __future__ import annotations

import base64
import binascii
import email
import itertools
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import relay_mta
from relay_mta.core import block, charset, insertion, link, message, splice, transfer
from relay_mta.core.edit import Edit, apply
from relay_mta.core.errors import SpliceError
from tests.property.strategies import CODECS, Leaf, Mail, mails, mangled_mails

BASE = "https://relay.example.jp"
TOKEN = link.token(bytes(range(16)))
_TEMPLATES = Path(relay_mta.__file__).parent / "templates"
TEMPLATES = block.BlockTemplates.parse({name: (_TEMPLATES / name).read_text(encoding="utf-8") for name in block.NAMES})
NAMES = ("Acme", "株式会社アクメ", "㈱髙﨑①～", "ｱｸﾒ", "Café — 2000 €", "From <a> & \"b\" 'c'", "한국 山田 😀")

blocks = st.builds(
    lambda language, company, agency: TEMPLATES.render(
        language, company=company, agency=agency, link=link.url(BASE, TOKEN), opt_out=link.opt_out_url(BASE, TOKEN)
    ),
    st.sampled_from(["ja", "en"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
)
placements = st.sampled_from(["below", "end"])


def unspliced(raw: bytes, out: bytes, edits: tuple[Edit, ...]) -> bytes:
    grown, back = 0, []
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        start = edit.start + grown
        back.append(Edit(start, start + len(edit.new), raw[edit.start : edit.end]))
        grown += len(edit.new) - (edit.end - edit.start)
    return b"".join(apply(out, back))


def hold(raw: bytes, made: block.Block, placement: splice.Placement) -> None:
    """Plan, apply, and hold what holds for every mail that can be spliced."""
    before = message.index(raw)
    edits = splice.plan(before, made, placement=placement)
    out = b"".join(apply(raw, edits))
    assert unspliced(raw, out, edits) == raw
    after = message.index(out)
    assert after.trouble is None and after.text_trouble is None
    assert [part.content_type for part in after.parts] == [part.content_type for part in before.parts]
    targets = {shown.part.index for shown in before.texts}
    for old, new in zip(before.parts, after.parts, strict=True):
        if old.index not in targets:
            assert raw[old.start : old.body_start] == out[new.start : new.body_start]
            assert old.children or raw[old.body_start : old.body_end] == out[new.body_start : new.body_end]
        had = [field.name for field in old.fields]
        got = [field.name for field in new.fields]
        added = [name for name in got if name not in had]  # by a conversion, and only where there was none
        assert set(added) <= {"Content-Type", "Content-Transfer-Encoding"}
        assert [name for name in got if name not in added] == had
        if new.encoding == "7bit" and not new.children and raw[old.body_start : old.body_end].isascii():
            assert out[new.body_start : new.body_end].isascii()
    for was, now in zip(before.texts, after.texts, strict=True):
        at = was.layout.below if placement == "below" else was.layout.end
        gained = now.text[at : len(now.text) - (len(was.text) - at)]
        assert now.text == was.text[:at] + gained + was.text[at:]
        assert link.own_links(gained, BASE) == (TOKEN,)
        if was.kind == "plain":
            assert f"{BASE}/r/{TOKEN}" in gained.split()
            assert was.text[:at][-1:] in ("", "\n") or gained[:1] in "\r\n"


@given(mails(), blocks, placements)
@settings(max_examples=150, deadline=None)
def test_a_mail_is_what_it_was_but_for_the_block(mail: Mail, made: block.Block, placement: splice.Placement) -> None:
    try:
        hold(mail.raw, made, placement)
    except SpliceError as error:
        allowed = ("no-text", "sealed", "unsupported:alternative")
        assert error.reason in allowed or error.reason.startswith(("ambiguous:", "limit:"))


@given(mangled_mails(), blocks, placements)
@settings(max_examples=150, deadline=None)
def test_no_bytes_raise_anything_else_or_come_out_wrong(
    raw: bytes, made: block.Block, placement: splice.Placement
) -> None:
    try:
        hold(raw, made, placement)
    except SpliceError as error:
        assert error.reason.replace("-", "").replace(":", "").isalnum()


@st.composite
def flat_leaves(draw: st.DrawFn) -> Leaf:
    """A text with longer lines, blanks at their ends and odd starts, in any codec and encoding."""
    codec = draw(st.sampled_from(sorted(CODECS)))
    alphabet = CODECS[codec][1]
    line = st.one_of(
        st.text(alphabet, max_size=90),
        st.sampled_from(["", "-- ", ".", "..", "From x", "> q", " x ", "=", "=20", "x\t", "-" * 20, "a" * 76, "--"]),
    )
    newline = draw(st.sampled_from(["\r\n", "\r\n", "\n"]))
    text = newline.join(draw(st.lists(line, max_size=8)))
    identity = "7bit" if codec in ("ascii", "iso-2022-jp") else "8bit"
    encodings = ["base64", "quoted-printable"] + ([identity] if newline == "\r\n" else [])
    return Leaf("text/plain", codec, draw(st.sampled_from(encodings)), charset.encode(text, codec), text)


def body_of(leaf: Leaf, width: int) -> bytes:
    if leaf.encoding == "base64":
        whole = base64.b64encode(leaf.payload)
        return b"".join(whole[i : i + width] + b"\r\n" for i in range(0, len(whole), width))
    if leaf.encoding == "quoted-printable":
        return (
            binascii.b2a_qp(leaf.payload, istext=b"\r\n" in leaf.payload)
            .replace(b"\r\n", b"\n")
            .replace(b"\n", b"\r\n")
        )
    return leaf.payload


@given(
    flat_leaves(), st.sampled_from([4, 30, 60, 72, 76]), blocks, placements, st.sampled_from(["", "; format=flowed"])
)
@settings(max_examples=250, deadline=None)
def test_a_single_text_reads_with_the_block_in_it(
    leaf: Leaf, width: int, made: block.Block, placement: splice.Placement, flowed: str
) -> None:
    head = (
        f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset={CODECS[leaf.codec][0]}{flowed}\r\n"
        f"Content-Transfer-Encoding: {leaf.encoding}\r\n\r\n"
    )
    body = body_of(leaf, width)
    assume(transfer.decode(body, leaf.encoding) == leaf.payload)
    raw = head.encode() + body
    hold(raw, made, placement)
    edits = splice.plan(message.index(raw), made, placement=placement)
    out = b"".join(apply(raw, edits))
    theirs = email.message_from_bytes(out).get_payload(decode=True)
    ours = message.index(out).texts[0].payload
    assert theirs == ours
    new_lines = edits[-1].new.split(b"\r\n")
    if message.index(out).texts[0].part.encoding in ("base64", "quoted-printable"):
        assert max(map(len, new_lines)) <= 76
        assert not any(line.endswith((b" ", b"\t")) or line.startswith(b"From ") for line in new_lines)


# --- bytes into encoded bodies ---------------------------------------------------------------------------------------


@st.composite
def quoted_printable(draw: st.DrawFn) -> bytes:
    """A body as some encoder may have written it: needless escapes, soft breaks anywhere."""
    token = st.sampled_from(
        [b"a", b"bc d", b" ", b"=20", b"=3D", b"=\r\n", b"\r\n", b"=0D=0A", b"=0a", b"=E3=81=82", b"."]
    )
    return b"".join(draw(st.lists(token, max_size=60))) + draw(st.sampled_from([b"", b"\r\n", b"="]))


new_bytes = st.lists(
    st.sampled_from(
        [b"x", b"x y ", b"\r\n", b"\n", b"=", b"\xe3\x81\x82", b"From ", b"--", b".", b"\x1b$B", b"z" * 80, b"\t"]
    ),
    max_size=30,
).map(b"".join)


@given(quoted_printable(), new_bytes, st.data())
@settings(max_examples=400, deadline=None)
def test_quoted_printable_keeps_every_encoded_byte(body: bytes, new: bytes, data: st.DataObject) -> None:
    payload = binascii.a2b_qp(body)
    offset = data.draw(st.integers(0, len(payload)))
    made = insertion.insert(body, "quoted-printable", payload, offset, new)
    assert made.start == made.end
    changed = body[: made.start] + made.new + body[made.end :]
    assert binascii.a2b_qp(changed) == payload[:offset] + new + payload[offset:]
    assert max(map(len, made.new.split(b"\r\n"))) <= 76
    assert not any(line.endswith((b" ", b"\t")) for line in made.new.split(b"\r\n"))
    assert not any(line.startswith((b"From ", b"--")) for line in made.new.split(b"\r\n")[1:])


@given(st.binary(max_size=400), st.binary(max_size=200), st.sampled_from([4, 8, 10, 60, 76, 200]), st.data())
@settings(max_examples=400, deadline=None)
def test_base64_keeps_the_lines_before_and_if_it_can_those_behind(
    payload: bytes, new: bytes, width: int, data: st.DataObject
) -> None:
    whole = base64.b64encode(payload)
    body = b"\r\n".join(whole[i : i + width] for i in range(0, len(whole), width))
    body += data.draw(st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]))
    offset = data.draw(st.integers(0, len(payload)))
    new += b" " * insertion.alignment("base64", payload, offset, len(new))
    made = insertion.insert(body, "base64", payload, offset, new)
    changed = body[: made.start] + made.new + body[made.end :]
    assert base64.b64decode(changed) == payload[:offset] + new + payload[offset:]
    assert max(map(len, made.new.split(b"\r\n"))) <= 76
    assert body[: made.start].replace(b"\r\n", b"") == whole[: offset // 3 * 4]
    if offset + 2 < len(payload):
        assert len(body[made.start : made.end].replace(b"\r\n", b"")) <= 4


@given(
    st.binary(max_size=50),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.binary(max_size=4)), max_size=6),
)
@settings(max_examples=300, deadline=None)
def test_apply_is_replacement_from_the_back(raw: bytes, pieces: list[tuple[int, int, bytes]]) -> None:
    edits = [Edit(start, start + length, new) for start, length, new in pieces]
    ordered = sorted(edits, key=lambda edit: (edit.start, edit.end))
    fits = all(edit.end <= len(raw) for edit in edits) and all(
        one.end <= other.start for one, other in itertools.pairwise(ordered)
    )
    if not fits:
        with pytest.raises(ValueError, match="overlap"):
            apply(raw, edits)
        return
    expected = raw
    for edit in reversed(ordered):
        expected = expected[: edit.start] + edit.new + expected[edit.end :]
    assert b"".join(apply(raw, edits)) == expected
