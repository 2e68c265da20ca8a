"""A session that is used again may have died unnoticed: a mail is tried once more, if nothing of it was sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.houses import firm, houses, mailed
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, OK, RESET, ScriptedUpstream
from tests.test_relay import BOSS, HANAKO, HARMLESS, HR, TARO, mail

BYE = b"421 4.3.2 bye\r\n"


async def test_one_session_serves_the_mails_of_many_clients(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, houses(tmp_path, firm(upstream)) as relay:
        for number in range(5):
            assert await relay.send(HARMLESS, sender=f"hr{number}@acme.example.jp") == OK
        assert len(upstream.accepted) == 5
        assert len(upstream.peers) == 2, "the probe's, and one for all mails"


@pytest.mark.parametrize("trouble", [BYE, DROP, RESET, b"rubbish\r\n"])
async def test_a_used_session_that_fails_at_mail_is_replaced_once(tmp_path: Path, trouble: Any) -> None:
    async with ScriptedUpstream({b"MAIL": [OK, trouble, OK]}) as upstream, houses(tmp_path, firm(upstream)) as relay:
        assert await relay.send(HARMLESS, sender=HR) == OK
        assert await relay.send(HARMLESS, sender=HR) == OK
        assert len(upstream.accepted) == 2 and len(upstream.peers) == 3


@pytest.mark.parametrize("trouble", [BYE, DROP, RESET])
async def test_it_is_replaced_once_and_no_more(tmp_path: Path, trouble: Any) -> None:
    script = {b"MAIL": [OK, trouble, trouble, OK]}
    async with ScriptedUpstream(script) as upstream, houses(tmp_path, firm(upstream)) as relay:
        assert await relay.send(HARMLESS, sender=HR) == OK
        answer = await relay.send(HARMLESS, sender=HR)
        assert answer == BYE if trouble == BYE else answer.startswith(b"451 4.4.1 ")
        assert len(upstream.peers) == 3
        assert await relay.send(HARMLESS, sender=HR) == OK


@pytest.mark.parametrize("trouble", [BYE, DROP])
async def test_a_new_session_that_fails_at_mail_is_the_answer(tmp_path: Path, trouble: Any) -> None:
    async with ScriptedUpstream({b"MAIL": [trouble, OK]}) as upstream, houses(tmp_path, firm(upstream)) as relay:
        assert (await relay.send(HARMLESS, sender=HR))[:3] in (b"421", b"451")
        assert len(upstream.peers) == 2


@pytest.mark.parametrize("trouble", [DROP, RESET, b"rubbish\r\n", b"354 what\r\n"])
@pytest.mark.parametrize("used", [False, True])
async def test_behind_the_final_dot_nothing_is_sent_again(tmp_path: Path, trouble: Any, used: bool) -> None:
    script = {b".": [OK, trouble, OK] if used else [trouble, OK]}
    async with ScriptedUpstream(script) as upstream, houses(tmp_path, firm(upstream)) as relay:
        if used:
            assert await relay.send(HARMLESS, sender=HR) == OK
        assert (await relay.send(HARMLESS, sender=HR)).startswith(b"451 4.4.2 ")
        assert len(upstream.mails) == 1 + used


async def test_a_session_that_dies_before_the_mail_is_replaced_and_the_mail_goes_once(tmp_path: Path) -> None:
    async with ScriptedUpstream({b"DATA": [b"354 go\r\n", DROP, b"354 go\r\n"]}) as upstream:
        async with houses(tmp_path, firm(upstream)) as relay:
            for _ in range(2):
                assert await relay.send(HARMLESS, sender=HR) == OK
        assert len(upstream.accepted) == 2


async def test_a_session_that_was_left_in_a_transaction_is_nobody_elses(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream, houses(tmp_path, firm(upstream)) as relay:
        async with relay.dialog() as client:
            await client.ehlo()
            await client.say(f"MAIL FROM:<{HR}>".encode())
            await client.say(f"RCPT TO:<{BOSS}>".encode())
        await until(lambda: upstream.commands[-2:] == [b"RSET", b"QUIT"])
        assert await relay.send(HARMLESS, TARO, sender=HR) == OK
        assert [sent.rcpts for sent in upstream.accepted] == [[f"RCPT TO:<{TARO}>".encode()]]
        assert len(upstream.peers) == 3, "the probe's, the one that was left, and another"


@pytest.mark.parametrize("answer", [b"550 5.5.1 no\r\n", b"421 4.3.2 bye\r\n", DROP])
async def test_a_session_that_refuses_to_be_reset_is_not_used_again(tmp_path: Path, answer: Any) -> None:
    async with ScriptedUpstream({b"RSET": [answer, OK]}) as upstream, houses(tmp_path, firm(upstream)) as relay:
        async with relay.dialog() as client:
            await client.ehlo()
            await client.say(f"MAIL FROM:<{HR}>".encode())
            await client.say(f"RCPT TO:<{BOSS}>".encode())
            assert (await client.say(b"RSET")).startswith(b"250")
            assert await mailed(client, HARMLESS, TARO, sender=HR) == OK
        assert [sent.rcpts for sent in upstream.accepted] == [[f"RCPT TO:<{TARO}>".encode()]]


async def test_mails_side_by_side_over_few_sessions_are_neither_lost_nor_doubled(tmp_path: Path) -> None:
    """Splits and plain mails, some sessions dying under them before a final dot: who got 250 has it once."""
    count = 0

    async def sometimes(peer) -> Any:
        nonlocal count
        count += 1
        return DROP if count % 7 == 0 else BYE if count % 11 == 0 else OK

    async with ScriptedUpstream({b"MAIL": sometimes}) as upstream:
        acme = firm(upstream, to={"max_connections": 3, "wait": 20.0})
        async with houses(tmp_path, acme) as relay:

            async def send(number: int) -> tuple[int, bytes]:
                text = mail(f"X-Number: {number}", to="undisclosed-recipients:;")
                return number, await relay.send(text, TARO, HANAKO, BOSS, sender=HR)

            answers = dict(await asyncio.gather(*(send(number) for number in range(12))))
            for number, answer in answers.items():
                field = f"X-Number: {number}\r\n".encode()
                rcpts = sorted(path for sent in upstream.accepted if field in sent.raw for path in sent.rcpts)
                assert len(rcpts) == len(set(rcpts)), "doubled"
                assert answer[:3] in (b"250", b"421", b"451")
                assert not answer.startswith(b"250") or len(rcpts) == 3
            assert any(answer.startswith(b"250") for answer in answers.values())
            assert "event=defect" not in relay.log.getvalue()
