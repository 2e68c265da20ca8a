"""Whatever fails under a transaction: each store call, each upstream command, the client, and each bug that was found.

The books that count are the upstream's: what it accepted, and for whom.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from pathlib import Path

import pytest

from relay_mta.core.errors import LedgerError
from tests.smtp.clients import Dialog
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, OK, STALL
from tests.test_relay import BOSS, HANAKO, HARMLESS, HR, LINK, TARO, House, house, mail

BCC = mail(to="undisclosed-recipients:;")
D4, D5 = b"451 4.7.1 later\r\n", b"550 5.7.1 no\r\n"
D421 = b"421 4.3.2 bye\r\n"


async def attempt(
    relay: House, raw: bytes, *recipients: str, sender: str = HR, leave: str = "", params: dict | None = None
) -> bytes:
    """One attempt that tolerates refusals; leave: where the client drops."""
    params = params or {}
    async with Dialog(relay.app.smtp_ports[0]) as c:
        if not c.greeting.startswith(b"220"):
            return c.greeting
        await c.ehlo()
        a = await c.say(f"MAIL FROM:<{sender}>".encode())
        if not a.startswith(b"2"):
            return a
        if leave == "mail":
            return b""
        ok = 0
        for i, r in enumerate(recipients):
            p = params.get(i, "")
            a = await c.say(f"RCPT TO:<{r}>{p}".encode())
            ok += a.startswith(b"2")
            if a.startswith(b"421"):
                return a
        if leave == "rcpt":
            return b""
        if not ok:
            return a
        a = await c.say(b"DATA")
        if not a.startswith(b"354"):
            return a
        body = re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n"
        if leave == "half":
            await c.send(body[:100])
            return b""
        await c.send(body)
        if leave == "dot":
            return b""
        if leave == "fin":
            c.writer.write_eof()
            return await c.reply()
        return await c.reply()


async def calm(relay: House, seconds: float = 10.0) -> None:
    """Wait until no client session is left."""
    async with asyncio.timeout(seconds):
        while any(listener.sessions for listener in relay.app._listeners):  # noqa: ASYNC110  the App has no event for it
            await asyncio.sleep(0.01)


def books(entries) -> dict[str, str]:
    state = {}
    for e in entries:
        state[e.relay] = e.kind
    return state


def accepted_paths(relay: House) -> Counter:
    c: Counter = Counter()
    for m in relay.upstream.accepted:
        for r in m.rcpts:
            c[re.search(rb"<(.*?)>", r)[1].decode()] += 1
    return c


# --- systematic: each ledger method fails at its n-th call -------------------------------------------------------

METHODS = ["pending", "claim", "hold", "settle", "release", "record", "close_record"]
SCRIPTS = {
    "ok": {},
    "second-deferred": {b".": [OK, D4, OK]},
    "last-deferred": {b".": [OK, OK, D4, OK]},
    "boss-refused": {b".": [OK, OK, D5, OK]},
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("script", SCRIPTS)
async def test_ledger_call_fails_once(tmp_path: Path, monkeypatch, name, nth, script) -> None:
    async with house(tmp_path, SCRIPTS[script]) as relay:
        real = getattr(relay.app.ledger, name)
        calls = itertools.count(1)
        hit = []

        async def flaky(*args):
            if next(calls) == nth:
                hit.append(1)
                raise RuntimeError("the ledger is away")
            return await real(*args)

        monkeypatch.setattr(relay.app.ledger, name, flaky)
        said = []
        for _ in range(6):
            said.append(await asyncio.wait_for(attempt(relay, BCC, TARO, HANAKO, BOSS), 5))
            await calm(relay)
            if said[-1][:1] in b"25" and said[-1]:
                break
        if not hit:
            return
        got = accepted_paths(relay)
        assert said[-1].startswith(b"2"), said
        for path in (TARO, HANAKO, BOSS):
            if path == BOSS and script == "boss-refused":
                continue
            assert got[path] == 1, (got, said)
        assert not relay.app.ledger._claimed


def parked(relay: House) -> bool:
    """At most one upstream session is open, and it waits for the next mail."""
    pool = relay.app._listeners[0]._state.front.gates[0].upstream  # type: ignore[attr-defined]
    left = sum(not peer.closed for peer in relay.upstream.peers)
    return left == pool.open_sessions == len(pool._parked) <= 1


# --- systematic: each upstream stage misbehaves at its n-th time ------------------------------------------------

ACTIONS = {"421": D421, "4xx": D4, "5xx": D5, "drop": DROP}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("nth", [0, 1, 2, 4])
@pytest.mark.parametrize("verb", [b"MAIL", b"RCPT", b"DATA", b".", b"354", b"RSET"])
async def test_upstream_stage(tmp_path: Path, verb, nth, action) -> None:
    default = {b"DATA": b"354 go\r\n", b"354": b""}.get(verb, OK)
    if verb not in (b"RCPT",) and nth > 3:
        return
    script = {verb: [default] * nth + [ACTIONS[action], default]}
    async with house(tmp_path, script) as relay:
        said = []
        for _ in range(8):
            said.append(await asyncio.wait_for(attempt(relay, BCC, TARO, HANAKO, BOSS), 8))
            await calm(relay)
            if said[-1][:1] in (b"2", b"5"):
                break
        got = accepted_paths(relay)
        dsn = [m for m in relay.upstream.accepted if m.mail.startswith(b"MAIL FROM:<>")]
        for path in (TARO, HANAKO, BOSS):
            assert got[path] <= 1, (got, said)
            if said[-1].startswith(b"2") and not dsn and not (verb == b"RCPT" and nth < 3):
                assert got[path] == 1, (got, said)
        states = books(await relay.app.ledger.entries())
        spliced = sum(bool(LINK.search(m.raw)) for m in relay.upstream.accepted)
        assert sum(s == "relayed" for s in states.values()) == spliced, (states, said)
        assert all(s in ("relayed", "released") for s in states.values()), (states, said)
        assert not relay.app.ledger._claimed
        assert not relay.app.ledger._record_keys or not said[-1].startswith(b"2"), said
        await until(lambda: parked(relay))  # no upstream session is leaked
        assert "defect" not in relay.log.getvalue()
        assert len(relay.outcomes()) <= len(said)


# --- the client leaves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", ["mail", "rcpt", "half", "dot", "fin"])
async def test_client_leaves(tmp_path: Path, leave) -> None:
    async with house(tmp_path) as relay:
        await attempt(relay, BCC, TARO, HANAKO, BOSS, leave=leave)
        await calm(relay)
        assert not relay.app.ledger._claimed
        await until(lambda: parked(relay))
        assert (await attempt(relay, BCC, TARO, HANAKO, BOSS)).startswith(b"2")
        got = accepted_paths(relay)
        assert all(got[p] == 1 for p in (TARO, HANAKO, BOSS)), got
        assert not relay.app.ledger._record_keys


# --- named findings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["settle"])
async def test_a_defect_of_the_store_behind_the_acceptance_doubles_no_mail(tmp_path: Path, monkeypatch, name) -> None:
    async with house(tmp_path) as relay:

        async def broken(*_):
            raise RuntimeError("x")

        monkeypatch.setattr(relay.app.ledger, name, broken)
        assert await relay.send(mail()) == OK


async def test_a_defect_in_release_costs_no_mail(tmp_path: Path, monkeypatch) -> None:
    async with house(tmp_path, {b".": [D5, OK]}) as relay:

        async def broken(*_):
            raise RuntimeError("x")

        monkeypatch.setattr(relay.app.ledger, "release", broken)
        assert await relay.send(mail()) == OK


@pytest.mark.parametrize("name", ["pending", "claim"])
async def test_a_defect_of_the_store_before_the_delivery_sends_the_original(tmp_path: Path, monkeypatch, name) -> None:
    async with house(tmp_path) as relay:

        async def broken(*_):
            raise RuntimeError("x")

        monkeypatch.setattr(relay.app.ledger, name, broken)
        assert await relay.send(mail()) == OK


async def test_no_claim_is_left_when_the_record_cannot_be_closed(tmp_path: Path, monkeypatch) -> None:
    async with house(tmp_path) as relay:

        async def broken(*_):
            raise RuntimeError("x")

        monkeypatch.setattr(relay.app.ledger, "close_record", broken)
        assert await relay.send(BCC, TARO, BOSS) == OK
        await calm(relay)
        assert not relay.app.ledger._claimed


async def test_one_failed_write_of_the_record_doubles_no_copy(tmp_path: Path, monkeypatch) -> None:
    async with house(tmp_path, {b".": [OK, D4, OK]}) as relay:
        real, calls = relay.app.ledger.record, itertools.count(1)

        async def flaky(*args):
            if next(calls) == 3:  # the mark before the second copy
                raise LedgerError("disk full, for a moment")
            return await real(*args)

        monkeypatch.setattr(relay.app.ledger, "record", flaky)
        assert (await attempt(relay, BCC, TARO, HANAKO)).startswith(b"451")
        assert (await attempt(relay, BCC, TARO, HANAKO)).startswith(b"2")
        assert accepted_paths(relay)[TARO] == 1


async def test_a_copy_in_doubt_stays_in_doubt_when_a_later_one_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path, {b".": [DROP, D5, OK]}) as relay:
        assert (await attempt(relay, mail(), TARO)).startswith(b"451")
        assert (await attempt(relay, mail(), TARO)).startswith(b"2")
        assert "released" not in await relay.kinds()  # the first copy, with its link, may well have arrived


async def test_a_copy_in_doubt_stays_in_doubt_in_a_split(tmp_path: Path) -> None:
    async with house(tmp_path, {b".": [DROP, D5, OK]}) as relay:
        assert (await attempt(relay, BCC, TARO, BOSS)).startswith(b"451")
        assert (await attempt(relay, BCC, TARO, BOSS)).startswith(b"2")
        assert "released" not in await relay.kinds()


async def test_a_path_given_twice_is_reported_if_either_wants_it(tmp_path: Path) -> None:
    async with house(tmp_path, {b".": [OK, D5, OK]}) as relay:
        params = {1: " NOTIFY=NEVER", 2: " NOTIFY=FAILURE"}
        answer = await attempt(relay, BCC, TARO, BOSS, BOSS, params=params)
        dsn = [m for m in relay.upstream.accepted if m.mail.startswith(b"MAIL FROM:<>")]
        assert dsn or not answer.startswith(b"2"), answer


async def test_a_dsn_is_sent_once(tmp_path: Path) -> None:
    async with house(tmp_path, {b".": [OK, D5, OK]}) as relay:
        await attempt(relay, BCC, TARO, BOSS, leave="fin")  # DSN accepted, the client is gone
        await calm(relay)
        await attempt(relay, BCC, TARO, BOSS)
        dsn = [m for m in relay.upstream.accepted if m.mail.startswith(b"MAIL FROM:<>")]
        assert len(dsn) == 1


async def test_after_a_reported_end_nothing_changes_the_answer(tmp_path: Path) -> None:
    async with house(tmp_path, {b".": [OK, D5, OK, D5]}) as relay:
        first = await attempt(relay, BCC, TARO, BOSS, leave="fin")
        await calm(relay)
        second = await attempt(relay, BCC, TARO, BOSS)
        assert (first[:3], second[:3]) == (b"250", b"250")


@pytest.mark.parametrize("name", ["hold", "record", "settle"])
async def test_a_ledger_that_hangs_does_not_hold_the_mail(tmp_path: Path, monkeypatch, name) -> None:
    async with house(tmp_path) as relay:

        async def stuck(*_):
            await asyncio.sleep(3600)

        monkeypatch.setattr(relay.app.ledger, name, stuck)
        monkeypatch.setattr("relay_mta.books.LEDGER_SECONDS", 0.2)
        answer = await asyncio.wait_for(attempt(relay, BCC, TARO, BOSS), 5)
        assert answer.startswith(b"2")


async def test_another_candidate_of_the_same_text_gets_a_link(tmp_path: Path) -> None:
    """Same text, null recipients in the header, each candidate in a transaction of its own; the first was deferred."""
    async with house(tmp_path, {b".": [D4, OK]}) as relay:
        assert (await attempt(relay, BCC, TARO)).startswith(b"451")
        assert (await attempt(relay, BCC, HANAKO)).startswith(b"2")
        assert LINK.search(relay.upstream.accepted[0].raw)


async def test_421_to_a_later_mail_command_is_a_new_session(tmp_path: Path) -> None:
    async with house(tmp_path, {b"MAIL": [OK, OK, D421, OK]}) as relay:
        assert (await attempt(relay, BCC, TARO, HANAKO, BOSS)).startswith(b"2")
        assert [len(m.rcpts) for m in relay.upstream.accepted] == [1, 1, 1]


async def test_421_to_our_first_mail_command_is_a_new_session(tmp_path: Path) -> None:
    async with house(tmp_path, {b"MAIL": [OK, D421, OK]}) as relay:
        assert (await attempt(relay, BCC, TARO, HANAKO, BOSS)).startswith(b"2")


async def test_raw_bytes_in_an_address_of_a_split(tmp_path: Path) -> None:
    async with house(tmp_path, {b".": [OK, D4, OK]}) as relay:

        async def once() -> bytes:
            async with Dialog(relay.app.smtp_ports[0]) as c:
                await c.ehlo()
                await c.say(b"MAIL FROM:<" + HR.encode() + b"> SMTPUTF8")
                await c.say(f"RCPT TO:<{TARO}>".encode())
                await c.say(b"RCPT TO:<\xff\xe5@acme.example.jp>")
                await c.say(b"DATA")
                await c.send(BCC + b".\r\n")
                return await c.reply()

        assert (await once()).startswith(b"451")
        assert (await once()).startswith(b"2")
        assert len(relay.upstream.accepted) == 2
        assert "defect" not in relay.log.getvalue()


async def test_a_defect_has_an_outcome_line(tmp_path: Path, monkeypatch) -> None:
    async with house(tmp_path) as relay:

        def fail(*_, **__):
            raise KeyError("x")

        monkeypatch.setattr("relay_mta.copies.apply", fail)
        assert (await relay.send(mail())).startswith(b"451")
        assert len(relay.outcomes()) == 1


async def test_an_aborted_split_has_an_outcome_line(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def slow(_):
        waiting.set()
        await asyncio.sleep(30)

    async with house(tmp_path, {b".": [OK, slow]}) as relay:
        t = asyncio.create_task(attempt(relay, BCC, TARO, HANAKO, BOSS))
        await waiting.wait()
        await relay.app.stop()
        assert not (await t).startswith(b"2")
        assert len(relay.outcomes()) == 1, "no outcome line"


async def test_a_defect_in_the_dsn_is_451(tmp_path: Path, monkeypatch) -> None:
    async with house(tmp_path, {b".": [OK, D5, OK]}) as relay:

        def fail(**_):
            raise KeyError("x")

        monkeypatch.setattr("relay_mta.core.dsn.report", fail)
        said = await attempt(relay, BCC, TARO, BOSS)
        assert not said.startswith(b"5")
        assert accepted_paths(relay)[TARO] == 1


async def test_several_transactions_with_rset_between_pipelined(tmp_path: Path) -> None:
    async with house(tmp_path) as relay, Dialog(relay.app.smtp_ports[0]) as c:
        await c.ehlo()
        await c.send(
            f"MAIL FROM:<{HR}>\r\nRCPT TO:<{BOSS}>\r\nRSET\r\nMAIL FROM:<{HR}>\r\nRCPT TO:<{TARO}>\r\nDATA\r\n".encode()
        )
        for _ in range(5):
            assert (await c.reply()).startswith(b"250")
        assert (await c.reply()).startswith(b"354")
        await c.send(mail() + b".\r\n" + f"MAIL FROM:<{HR}>\r\nRCPT TO:<{BOSS}>\r\nDATA\r\n".encode())
        assert (await c.reply()).startswith(b"250")
        assert (await c.reply()).startswith(b"250")
        assert (await c.reply()).startswith(b"250")
        assert (await c.reply()).startswith(b"354")
        await c.send(HARMLESS.replace(b"\r\n.", b"\r\n..") + b".\r\nQUIT\r\n")
        assert (await c.reply()).startswith(b"250")
        assert [m.rcpts for m in relay.upstream.accepted] == [
            [f"RCPT TO:<{TARO}>".encode()],
            [f"RCPT TO:<{BOSS}>".encode()],
        ]


KEN = "ken@mail.example"


async def test_a_hold_of_a_copy_never_sent_is_released_when_splicing_was_switched_off(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def slow(_):
        waiting.set()
        await asyncio.sleep(30)

    async with house(tmp_path, {b".": [OK, slow]}) as relay:
        t = asyncio.create_task(attempt(relay, BCC, TARO, HANAKO, KEN))
        await waiting.wait()
        await relay.app.stop()
        await t
    async with house(tmp_path, company={"mode": "observe"}) as relay:
        assert (await attempt(relay, BCC, TARO, HANAKO, KEN)).startswith(b"2")
        assert accepted_paths(relay)[TARO] == 0
        states = sorted(books(await relay.app.ledger.entries()).values())
        assert states == ["held", "relayed", "released"], states  # KEN's copy is known not to have gone out


async def test_a_drained_split_is_completed_after_the_restart(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def slow(_):
        waiting.set()
        await asyncio.sleep(30)

    async with house(tmp_path, {b".": [OK, slow]}) as relay:
        t = asyncio.create_task(attempt(relay, BCC, TARO, HANAKO, KEN))
        await waiting.wait()
        await relay.app.stop()
        await t
    async with house(tmp_path) as relay:
        assert (await attempt(relay, BCC, TARO, HANAKO, KEN)).startswith(b"2")
        assert accepted_paths(relay)[TARO] == 0
        assert sorted(books(await relay.app.ledger.entries()).values()) == ["relayed"] * 3


@pytest.mark.parametrize("greeting", [DROP, STALL, b"421 busy\r\n"])
async def test_ehlo_offers_all_we_can_carry_until_the_upstream_was_reached(tmp_path: Path, greeting) -> None:
    async with house(tmp_path, {b"CONNECT": [greeting, b"220 hi\r\n"]}) as relay:
        await until(lambda: relay.upstream.peers)  # the probe has the first connection
        async with Dialog(relay.app.smtp_ports[0]) as c:
            if c.greeting.startswith(b"220"):
                offered = await c.ehlo()
                mailed = await c.say(f"MAIL FROM:<{HR}> SMTPUTF8 BODY=8BITMIME".encode())
                assert mailed.startswith(b"250")
                assert b"SMTPUTF8" in offered and b"8BITMIME" in offered, offered


async def test_the_very_first_client_is_offered_what_the_upstream_can(tmp_path: Path) -> None:
    async with house(tmp_path) as relay, Dialog(relay.app.smtp_ports[0]) as c:
        assert b"SMTPUTF8" in await c.ehlo()


async def test_probing_goes_on_behind_a_defect(tmp_path: Path, monkeypatch) -> None:
    from relay_mta.smtp.upstream import SmtpUpstream

    calls = []
    real = SmtpUpstream.connect

    async def odd(self, client):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("odd")
        return await real(self, client)

    monkeypatch.setattr(SmtpUpstream, "connect", odd)
    monkeypatch.setattr("relay_mta.app.PROBE_SECONDS", 0.05)
    async with house(tmp_path) as relay:
        await until(lambda: len(calls) > 1)
        del relay
