"""`relay-mta check` says and writes what the relay does: the same bytes, the same reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay_mta import shipped
from relay_mta.cli import mailfiles
from relay_mta.core.block import BlockTemplates
from relay_mta.core.company import Agency, Company
from relay_mta.core.rules import RuleSet
from relay_mta.examine import Examiner
from tests.rulesets import parsed_once
from tests.smtp.peers import OK
from tests.test_relay import HARMLESS, HR, TARO, house, mail, received_cut

_TOKEN = re.compile(rb"(?<=/r/)[a-z2-7]{26}|(?<=/stop/)[a-z2-7]{26}")
_COMPANY = Company(
    id="acme",
    name="株式会社アクメ",
    domains=("acme.example.jp",),
    agency=Agency("サンプル人材紹介株式会社", "https://agency.example/register"),
    mode="relay",
)
MBOX = b"From hr@acme.example.jp Mon Nov  2 10:00:00 2026\r\n"
MAILS = {
    "harmless": HARMLESS,
    "rejection": mail(),
    "switched off": mail("X-Career-Relay: off"),
    "bare cr": mail().replace(b"\r\n\r\n", b"\r\n\r\nx\ry\r\n", 1),
    "bare lf": mail().replace(b"\r\n\r\n", b"\r\n\r\nx\ny\r\n", 1),
    "bare in the header": mail("X-Odd: a\rTo: b"),
    "mbox line": MBOX + mail(),
    "escaped mbox line": b">" + MBOX + HARMLESS,
    "first line begins with a blank": b" x: y\r\n" + mail(),
    "first line is no field": b"hello\r\n" + mail(),
    "no header": b"\r\nhello\r\n",
}


def examined(raw: bytes, place: Path) -> tuple[str, list[bytes]]:
    """Reason and copies, from the bytes as a file."""
    path = place / "mail.eml"
    path.write_bytes(raw)
    examiner = Examiner(parsed_rules(), BlockTemplates.parse(shipped.templates()), [_COMPANY])
    found = examiner.examine(mailfiles.read(str(path)), [TARO])
    return found.reason, [b"".join(copy) for copy in found.copies]


def parsed_rules() -> RuleSet:
    return parsed_once(shipped.rules())


@pytest.mark.parametrize("name", MAILS)
async def test_check_writes_and_says_what_the_relay_does(tmp_path: Path, name: str) -> None:
    reason, copies = examined(MAILS[name], tmp_path)
    sender = HR if b"From: " in MAILS[name] else ""  # a file's envelope can only be guessed from its header
    async with house(tmp_path) as relay:
        assert await relay.send(MAILS[name], sender=sender) == OK
        sent = [each.raw for each in relay.upstream.mails]
        (outcome,) = relay.outcomes()
    top = sent[0].partition(b"Received: ")[0]  # mbox lines stay above our field
    assert [_TOKEN.sub(b"", top + received_cut(each.removeprefix(top))[1]) for each in sent] == [
        _TOKEN.sub(b"", copy) for copy in copies
    ]
    assert f"reason={reason}" in outcome


async def test_check_knows_what_the_relay_refuses_as_a_loop(tmp_path: Path) -> None:
    raw = b"Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0900\r\n" * 50 + mail()
    assert examined(raw, tmp_path) == ("loop", [])
    async with house(tmp_path) as relay:
        assert (await relay.send(raw)).startswith(b"554")
        assert not relay.upstream.mails
        assert "reason=loop" in relay.outcomes()[0]


@pytest.mark.parametrize("count", [2048, 2049])
async def test_check_knows_what_is_too_big_for_the_relay(tmp_path: Path, count: int) -> None:
    raw = HARMLESS + b"." + b"x" * (count - len(HARMLESS) - 3) + b"\r\n"
    assert len(raw) == count
    examiner = Examiner(parsed_rules(), BlockTemplates.parse(shipped.templates()), [_COMPANY], max_size=2048)
    async with house(tmp_path, max_size=2048) as relay:
        accepted = await relay.send(raw) == OK
    assert accepted == (count <= 2048) == (examiner.examine(raw, [TARO]).reason != "too-big")
