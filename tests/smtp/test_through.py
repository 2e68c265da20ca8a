"""Server and upstream together, with nothing between them: what the client sends is what the upstream gets."""

from __future__ import annotations

import asyncio
import smtplib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay_mta.core.timeouts import Timeouts
from relay_mta.smtp.upstream import SmtpUpstream
from tests.smtp.clients import Dialog
from tests.smtp.fronts import PassThrough, stand
from tests.smtp.peers import DROP, RESET, STALL, Peer, ScriptedUpstream, Step
from tests.smtp.test_data import LOOK_ALIKES, SMUGGLED

LINE = st.one_of(st.sampled_from([b"", b".", b"..", b".x", b"From me"]), st.binary(max_size=90)).map(
    lambda line: line.translate(None, b"\r\n")
)


def through(upstream: ScriptedUpstream, timeouts: Timeouts | None = None) -> PassThrough:
    return PassThrough(SmtpUpstream("127.0.0.1", upstream.port, hostname="relay.test", timeouts=timeouts))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(LINE, max_size=12), min_size=1, max_size=3))
def test_any_mail_arrives_as_it_was_sent(mails: list[list[bytes]]) -> None:
    raws = [b"".join(line + b"\r\n" for line in lines) for lines in mails]

    async def run() -> None:
        async with ScriptedUpstream() as upstream, stand(through(upstream)) as it, Dialog(it.port) as client:
            for raw in raws:
                await client.envelope()
                await client.send((b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
                assert (await client.reply()).startswith(b"250")
            await client.say(b"QUIT")
            assert [mail.raw for mail in upstream.mails] == raws

    asyncio.run(run())


@pytest.mark.parametrize("name", LOOK_ALIKES)
async def test_no_look_alike_leaves(name: str) -> None:
    async with ScriptedUpstream() as upstream, stand(through(upstream)) as it, Dialog(it.port) as client:
        await client.envelope()
        await client.send(b"one" + LOOK_ALIKES[name] + SMUGGLED + b"two\r\n.\r\n")
        assert (await client.reply()).startswith(b"250")
        await client.say(b"QUIT")
        (mail,) = upstream.mails
        wire = mail.wire
        assert wire.count(b"\r\n") == wire.count(b"\r") == wire.count(b"\n")
        assert (b"\r\n" + wire).count(b"\r\n.\r\n") == 1
        assert [line for line in upstream.commands if line.startswith(b"MAIL")] == [b"MAIL FROM:<a@client.test>"]


async def test_ten_megabytes_and_small_mails_beside_it() -> None:
    raw = b"".join(b"%075d\r\n" % n for n in range(130_000))

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test") as client:
            client.ehlo()
            client.mail("a@client.test", ["BODY=8BITMIME"])
            client.rcpt("b@there.test", ["NOTIFY=SUCCESS,FAILURE"])
            code, text = client.data(raw)
            assert (code, text) == (250, b"2.0.0 ok")

    async with ScriptedUpstream() as upstream, stand(through(upstream)) as it:
        big = asyncio.create_task(asyncio.to_thread(send, it.port))
        slowest = 0.0
        while not big.done():
            async with Dialog(it.port) as client:
                start = time.monotonic()
                await client.envelope()
                assert (await client.say(b"small\r\n.")).startswith(b"250")
                slowest = max(slowest, time.monotonic() - start)
        await big
        assert [mail.raw for mail in upstream.mails if len(mail.wire) > 100] == [raw]
        assert b"RCPT TO:<b@there.test> NOTIFY=SUCCESS,FAILURE" in upstream.commands
        assert b"MAIL FROM:<a@client.test> BODY=8BITMIME" in upstream.commands
        assert slowest < 2


async def test_refusals_of_every_stage_reach_the_client() -> None:
    script: dict[bytes, Step] = {b"MAIL": b"550-5.7.1 a\r\n550 5.7.1 b\r\n"}
    async with ScriptedUpstream(script) as upstream, stand(through(upstream)) as it, Dialog(it.port) as client:
        await client.ehlo()
        assert await client.say(b"MAIL FROM:<a@b>") == b"550-5.7.1 a\r\n550 5.7.1 b\r\n"
        upstream.script = {b"RCPT": [b"450 4.2.0 later\r\n", b"251 2.1.5 forwarded\r\n"], b".": b"554 5.6.0 no\r\n"}
        await client.say(b"MAIL FROM:<a@b>")
        assert await client.say(b"RCPT TO:<c@d>") == b"450 4.2.0 later\r\n"
        assert await client.say(b"RCPT TO:<c@d>") == b"251 2.1.5 forwarded\r\n"
        await client.say(b"DATA")
        assert await client.say(b"x\r\n.") == b"554 5.6.0 no\r\n"
        upstream.script = {b"DATA": b"451 4.3.0 not now\r\n"}
        await client.envelope()
        assert await client.say(b"x\r\n.") == b"451 4.3.0 not now\r\n"


@pytest.mark.parametrize("stage", [b"CONNECT", b"EHLO", b"MAIL", b"RCPT", b"DATA", b"354", b"."])
@pytest.mark.parametrize("how", [DROP, RESET, STALL], ids=str)
async def test_a_lost_upstream_is_never_an_acceptance(stage: bytes, how: Step) -> None:
    timeouts = Timeouts(connect=0.3, mail=0.3, rcpt=0.3, data_start=0.3, data_end=0.3, other=0.3)
    upstream = ScriptedUpstream({stage: how})
    async with upstream, stand(through(upstream, timeouts)) as it, Dialog(it.port) as client:
        await client.ehlo()
        answers = [await client.say(line) for line in (b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA")]
        if answers[-1].startswith(b"354"):
            answers[-1] = await client.say(b"x\r\n.")
        assert answers[-1][:1] in (b"4", b"5")
        assert any(answer.startswith(b"451") for answer in answers)
        assert upstream.accepted == []


async def test_an_early_refusal_of_a_big_mail_is_the_reply() -> None:
    async def refuse(peer: Peer) -> Step:
        await peer.say(b"552 5.3.4 too big for us\r\n")
        await asyncio.sleep(0.2)
        return DROP

    upstream = ScriptedUpstream({b"354": refuse})
    async with upstream, stand(through(upstream)) as it, Dialog(it.port) as client:
        await client.envelope()
        await client.send(b"x" * 8_000_000 + b"\r\n.\r\n")
        assert await client.reply() == b"552 5.3.4 too big for us\r\n"
