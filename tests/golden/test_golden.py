"""Every golden mail leaves as its folder says; readers that know nothing of us see the block once, all else as before.

`folders` says what lies in a folder, `readers` who reads.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from relay_mta.core import link
from relay_mta.core.message import index
from tests.golden import folders, readers
from tests.golden.folders import BASE_URL, BITS, FOLDERS, Golden

TOKEN = link.token(BITS)
URL = link.url(BASE_URL, TOKEN)
GOLDEN = [folders.read(folder) for folder in FOLDERS]
RELAYED = [golden for golden in GOLDEN if golden.outcome == "relay"]
# Mails that no reader but a Japanese mail client gets right, before or behind us: JIS under another name, or none.
MISLABELLED = ("28-jis-without-label", "29-jis-labelled-us-ascii", "32-utf8-labelled-iso-2022-jp")
# ISO-2022-JP with ①, ㈱, 髙 or half-width kana: Python's codec, which reads what Dovecot hands out too, lacks them.
VENDOR_JIS = ("24-thunderbird-jis-vendor-characters", "27-jis-half-width-kana")

# A Japanese name in the block of a letter of 7 bits: its plain text, alone, becomes UTF-8 in base64.
CONVERTED = (
    "10-outlook-mac-english",
    "14-gmail-english-attachment",
    "72-gmail-ios",
    "88-yahoo-mobile-android",
    "108-outlook-mac-legacy-en",
)
CONTENT_FIELDS = ("content-type", "content-transfer-encoding")

each = pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.folder.name)
relayed = pytest.mark.parametrize("golden", RELAYED, ids=lambda golden: golden.folder.name)


def test_there_are_enough() -> None:
    assert len(GOLDEN) >= 40 and len(RELAYED) >= 30


@each
def test_it_leaves_as_expected(golden: Golden) -> None:
    found = folders.examined(golden.raw)
    assert found.verdict == {"relay": "rejection", "pass": "none", "exempt": "exempt"}[golden.outcome], found.reason
    if golden.reason is not None:
        assert found.reason == golden.reason
    assert b"".join(found.copies[0]) == golden.expected


@relayed
def test_only_text_parts_change(golden: Golden) -> None:
    before, after = index(golden.raw), index(golden.expected)
    assert [field.name for field in after.fields] == [field.name for field in before.fields]
    shown = {part.index for part in before.shown}
    for old, new in zip(before.parts, after.parts, strict=True):
        if golden.folder.name in CONVERTED and old.content_type == "text/plain":
            said = [[field.name, field.value] for field in new.fields if field.name.lower() not in CONTENT_FIELDS]
            assert said == [[f.name, f.value] for f in old.fields if f.name.lower() not in CONTENT_FIELDS]
            assert {field.name.lower() for field in new.fields} - {field.name.lower() for field in old.fields} <= {
                "content-transfer-encoding"
            }
        else:
            head, now = golden.raw[old.start : old.body_start], golden.expected[new.start : new.body_start]
            assert head == now
        if old.index not in shown and not old.children:
            assert golden.raw[old.body_start : old.body_end] == golden.expected[new.body_start : new.body_end]


@relayed
def test_a_second_time_nothing_is_put_in(golden: Golden) -> None:
    found = folders.examined(golden.expected)
    assert found.reason == "own-link" or found.verdict == "none"  # the block's own words may be an "offer"
    assert b"".join(found.copies[0]) == golden.expected


def once(before: str, after: str) -> bool:
    """Whether a text shows the candidate's link once, and otherwise what it showed."""
    if URL in before or after.count(f'"{URL}"') > 1 or after.count(URL) not in (1, 2):
        return False
    if link.dedicated(BASE_URL, "acme") in before:
        return before.replace(link.dedicated(BASE_URL, "acme"), URL) == after
    kept = common(before, after)
    rest = common(before[kept:][::-1], after[kept:][::-1])
    return kept + rest == len(before)


def common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@relayed
def test_python_sees_the_block_once(golden: Golden) -> None:
    if golden.folder.name in (*MISLABELLED, *VENDOR_JIS):
        assert golden.expected.count(URL.encode()) == 1  # unencoded: no reader is needed to see it
        return
    before, after = readers.by_python(golden.raw), readers.by_python(golden.expected)
    assert after.others == before.others
    assert [kind for kind, _ in after.texts] == [kind for kind, _ in before.texts]
    for (_, old), (_, new) in zip(before.texts, after.texts, strict=True):
        assert once(old, new)


@pytest.mark.real("node")
@pytest.mark.real("tests/golden/readers/node_modules")
def test_mailparser_sees_the_block_once() -> None:
    read = [golden for golden in RELAYED if golden.folder.name not in MISLABELLED]
    before = readers.by_mailparser([golden.folder / "mail.eml" for golden in read])
    after = readers.by_mailparser([golden.folder / "expected.eml" for golden in read])
    assert len(before) == len(after) == len(read)
    for golden, old, new in zip(read, before, after, strict=True):
        for key in ("headers", "subject", "attachments"):
            assert new[key] == old[key], (golden.folder.name, key)
        for key in ("text", "html"):
            was, now = str(old[key]), str(new[key])
            assert bool(was) == bool(now), (golden.folder.name, key)
            assert not now or once(re.sub(r"\s+$", "", was), re.sub(r"\s+$", "", now)), (golden.folder.name, key)
        assert any(URL in str(new[key]) for key in ("text", "html"))


@pytest.mark.real("/usr/lib/dovecot/imap")
def test_dovecot_sees_the_block_once() -> None:
    read = [golden for golden in RELAYED if golden.folder.name not in (*MISLABELLED, *VENDOR_JIS)]
    with tempfile.TemporaryDirectory() as place:  # tmp_path is closed to others, and Dovecot refuses to be root
        server = readers.Dovecot(Path(place))
        for number, golden in enumerate(read):
            server.add(f"{1000 + number}.before", golden.raw)
            server.add(f"{1000 + number}.expected", golden.expected)
        seen = server.seen()
    assert len(seen) == 2 * len(read)
    for golden, before, after in zip(read, seen[::2], seen[1::2], strict=True):
        assert after.others == before.others, golden.folder.name
        assert [kind for kind, _ in after.texts] == [kind for kind, _ in before.texts]
        for (_, old), (_, new) in zip(before.texts, after.texts, strict=True):
            assert once(old, new), golden.folder.name
