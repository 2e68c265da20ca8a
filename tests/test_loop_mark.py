"""The mark of what was here: put on once, known again, and not mistaken for anybody else's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.houses import firm, houses
from tests.smtp.peers import OK, ScriptedUpstream
from tests.test_relay import BOSS, HANAKO, HARMLESS, HR, TARO, mail

MARK = re.compile(rb"(?m)^X-Career-Relay-Loop: ([0-9a-f]{16})\r\n")
LOOP = b"554 5.4.6 Too many hops: the mail is in a loop\r\n"


@pytest.mark.parametrize("mode", ["off", "observe", "relay"])
async def test_every_copy_is_marked_once_and_comes_back_never(tmp_path: Path, mode: str) -> None:
    marked = {"loop_mark": True, "company": {"mode": mode}}
    async with ScriptedUpstream() as upstream, houses(tmp_path, firm(upstream, **marked)) as relay:
        assert await relay.send(HARMLESS, sender=HR) == OK
        raw = mail(to="undisclosed-recipients:;")
        assert await relay.send(raw, TARO, HANAKO, BOSS, sender=HR) == OK
        sent = [each.raw for each in upstream.accepted]
        assert len(sent) == (4 if mode == "relay" else 2)
        assert all(len(MARK.findall(each)) == 1 for each in sent)
        assert len({MARK.findall(each)[0] for each in sent}) == 1
        for each in sent:
            assert await relay.send(each, sender=HR) == LOOP
        assert len(upstream.mails) == len(sent)
        assert "reason=loop" in relay.lines("outcome")[-1]


async def test_the_mark_outlives_a_restart(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        for answer in (OK, LOOP):
            async with houses(tmp_path, firm(upstream, loop_mark=True)) as relay:
                raw = upstream.accepted[-1].raw if upstream.accepted else HARMLESS
                assert await relay.send(raw, sender=HR) == answer


@pytest.mark.parametrize("field", ["X-Career-Relay-Loop: 0123456789abcdef", "X-Career-Relay-Loop:", "X-Loop: 1"])
async def test_somebody_elses_mark_is_none_of_ours(tmp_path: Path, field: str) -> None:
    async with ScriptedUpstream() as upstream, houses(tmp_path, firm(upstream, loop_mark=True)) as relay:
        raw = HARMLESS.replace(b"Subject:", field.encode() + b"\r\nSubject:")
        assert await relay.send(raw, sender=HR) == OK
        assert upstream.accepted[0].raw.endswith(raw), "it stays where it is"


async def test_the_mark_of_another_company_of_the_relay_is_none_of_ours(tmp_path: Path) -> None:
    """Acme writes to Beta, whose server forwards it outside through the same relay."""
    async with ScriptedUpstream() as one, ScriptedUpstream() as two:
        acme = firm(one, "acme", networks=("127.0.1.0/24",), loop_mark=True)
        beta = firm(two, "beta", domains=("beta.example.jp",), networks=("127.0.2.0/24",), loop_mark=True)
        async with houses(tmp_path, acme, beta) as relay:
            assert await relay.send(HARMLESS, sender=HR, source="127.0.1.1") == OK
            once = one.accepted[0].raw
            assert await relay.send(once, sender=HR, source="127.0.2.1") == OK
            twice = two.accepted[0].raw
            assert len(set(MARK.findall(twice))) == 2
            assert await relay.send(twice, sender=HR, source="127.0.1.1") == LOOP
            assert await relay.send(twice, sender=HR, source="127.0.2.1") == LOOP


async def test_nothing_is_marked_unless_wanted(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, houses(tmp_path, firm(upstream)) as relay:
        for raw in (HARMLESS, mail()):
            assert await relay.send(raw, sender=HR) == OK
        assert b"Relay-Loop" not in upstream.accepted[0].raw + upstream.accepted[1].raw
