"""Our side towards an upstream that misbehaves in every way it can: what is a reply, what is lost, what is unknown."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from relay_mta.core.envelope import Client
from relay_mta.core.errors import OutcomeUnknownError, UpstreamError
from relay_mta.core.ports import UpstreamSession
from relay_mta.core.reply import Reply, reply
from relay_mta.core.timeouts import Timeouts
from relay_mta.smtp.upstream import SmtpUpstream
from relay_mta.smtp.wire import Wire
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, OK, RESET, STALL, Peer, ScriptedUpstream, Step

CLIENT = Client("127.0.0.1")
MAIL, RCPT = b"MAIL FROM:<a@client.test>", b"RCPT TO:<b@there.test>"
SHORT = Timeouts(
    connect=1, mail=0.3, rcpt=0.3, data_start=0.3, data_block=0.3, data_end=0.3, other=0.3, quit=0.3
)  # for tests that wait for them


async def connect(upstream: ScriptedUpstream, timeouts: Timeouts | None = None) -> UpstreamSession:
    return await SmtpUpstream("127.0.0.1", upstream.port, hostname="relay.test", timeouts=timeouts).connect(CLIENT)


async def envelope(session: UpstreamSession) -> None:
    assert (await session.command(MAIL)).accepted
    assert (await session.command(RCPT)).accepted


async def test_two_mails_on_one_session() -> None:
    async with ScriptedUpstream() as upstream:
        session = await connect(upstream)
        assert session.extensions["SIZE"] == "10240000"
        assert session.extensions["DSN"] == ""
        for mail in (b"Subject: 1\r\n\r\n.dot\r\n", b""):
            await envelope(session)
            assert await session.data([mail]) == reply(250, "2.0.0 ok")
        assert session.alive
        await session.quit()
        assert not session.alive
        assert upstream.commands == [b"EHLO relay.test", MAIL, RCPT, b"DATA", MAIL, RCPT, b"DATA", b"QUIT"]
        assert [mail.wire for mail in upstream.mails] == [b"Subject: 1\r\n\r\n..dot\r\n.\r\n", b".\r\n"]
        await session.quit()  # once more does no harm


async def test_pieces_and_views() -> None:
    raw = b"a\r\n.b\r\n"
    async with ScriptedUpstream() as upstream:
        session = await connect(upstream)
        for chunks in (
            [raw],
            [raw[:2], raw[2:3], raw[3:]],
            [memoryview(raw)[:4], b"", memoryview(raw)[4:]],
            [raw[:-2]],
        ):
            await envelope(session)
            assert (await session.data(chunks)).accepted
        assert {mail.wire for mail in upstream.mails} == {b"a\r\n..b\r\n.\r\n"}
        session.abort()


async def test_replies_as_they_are() -> None:
    script = {
        b"MAIL": b"550-5.7.1 a\r\n550-\r\n550 5.7.1 \xff b\r\n",
        b"RCPT": b"251 forwarding\r\n",
        b"DATA": b"554 5.5.1 no\r\n",
        b"RSET": b"250\r\n",
    }
    async with ScriptedUpstream(script) as upstream:
        session = await connect(upstream)
        assert await session.command(MAIL) == Reply(550, (b"5.7.1 a", b"", b"5.7.1 \xff b"))
        assert (await session.command(RCPT)).code == 251
        assert await session.data([b"x"]) == reply(554, "5.5.1 no")
        assert await session.command(b"RSET") == Reply(250, (b"",))
        assert session.alive
        session.abort()
        assert not session.alive
        with pytest.raises(UpstreamError):
            await session.command(MAIL)
        with pytest.raises(UpstreamError):
            await session.data([b"x"])


@pytest.mark.parametrize("line", [b"MAIL FROM:<a>\r\nRCPT TO:<b>", b"NOOP\n", b"NOOP\r", b"NOOP \0"])
async def test_a_command_is_one_line(line: bytes) -> None:
    async with ScriptedUpstream() as upstream:
        session = await connect(upstream)
        with pytest.raises(ValueError):
            await session.command(line)
        assert session.alive
        session.abort()


BAD_REPLIES: list[Step] = [
    b"550-5.7.1 a\r\n550-b\n220 fake\r\n550 c\r\n",
    b"550-a\r\n250 b\r\n",
    b"250 " + b"x" * (1 << 20) + b"\r\n",
    b"250 \xff\x00 caf\xe9 \r bare\r\n",
    b"25",
    b"hello\r\n",
    b"250 ok\n",
    b"354 go on\r\n",
    b"250-never ends\r\n" * 200,
    DROP,
    RESET,
    STALL,
]


@pytest.mark.parametrize("bad", BAD_REPLIES, ids=lambda bad: str(bad)[:20])
@pytest.mark.parametrize("stage", [b"MAIL", b"RCPT", b"RSET", b"DATA"])
async def test_before_the_dot_nothing_was_delivered(stage: bytes, bad: Step) -> None:
    if stage == b"DATA" and bad == b"354 go on\r\n":
        bad = b"250 no 354\r\n"
    async with ScriptedUpstream({stage: bad}) as upstream:
        session = await connect(upstream, SHORT)
        with pytest.raises(UpstreamError):
            await session.command(MAIL)
            await session.command(RCPT)
            await session.command(b"RSET")
            await session.data([b"x\r\n"])
        assert not session.alive
        assert upstream.mails == []


@pytest.mark.parametrize("bad", BAD_REPLIES, ids=lambda bad: str(bad)[:20])
async def test_after_the_dot_nobody_knows(bad: Step) -> None:
    async with ScriptedUpstream({b".": bad}) as upstream:
        session = await connect(upstream, SHORT)
        await envelope(session)
        with pytest.raises(OutcomeUnknownError) as caught:
            await session.data([b"x\r\n"])
        assert not session.alive
        assert len(upstream.mails) == 1
        assert "client.test" not in str(caught.value)
        assert f"127.0.0.1:{upstream.port}" in str(caught.value)


async def test_a_slow_but_valid_reply() -> None:
    async def slowly(peer: Peer) -> None:
        for byte in b"250-2.0.0 it\r\n250 is kept\r\n":
            await peer.say(bytes([byte]))
            await asyncio.sleep(0.01)

    async with ScriptedUpstream({b".": slowly}) as upstream:
        session = await connect(upstream)
        await envelope(session)
        assert await session.data([b"x\r\n"]) == Reply(250, (b"2.0.0 it", b"is kept"))
        assert session.alive
        session.abort()


async def test_a_trickling_reply_has_one_deadline() -> None:
    async def trickle(peer: Peer) -> None:
        while True:
            await peer.say(b"250-x\r\n")
            await asyncio.sleep(0.05)

    async with ScriptedUpstream({b"MAIL": trickle}) as upstream:
        session = await connect(upstream, SHORT)
        start = time.monotonic()
        with pytest.raises(UpstreamError):
            await session.command(MAIL)
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("stage", [b"MAIL", b"."])
async def test_a_stray_reply_answers_nothing(stage: bytes) -> None:
    async with ScriptedUpstream({stage: b"250 ok\r\n250 stray\r\n"}) as upstream:
        session = await connect(upstream)
        answer = await session.command(MAIL)
        if stage == b".":
            await session.command(RCPT)
            answer = await session.data([b"x\r\n"])
        assert answer == reply(250, "ok")
        assert not session.alive
        with pytest.raises(UpstreamError):
            await session.command(RCPT)


async def test_a_stray_reply_between_commands() -> None:
    async with ScriptedUpstream() as upstream:
        session = await connect(upstream)
        await upstream.peers[0].say(b"250 stray\r\n")
        await until(lambda: not session.alive)
        with pytest.raises(UpstreamError):
            await session.command(MAIL)


async def test_a_stray_reply_behind_354() -> None:
    async with ScriptedUpstream({b"DATA": b"354 go\r\n250 stray\r\n"}) as upstream:
        session = await connect(upstream)
        await envelope(session)
        with pytest.raises(UpstreamError):
            await session.data([b"x\r\n"])
        assert upstream.mails == []


async def test_421_is_a_reply_and_the_end() -> None:
    async with ScriptedUpstream({b"MAIL": b"421 4.3.2 bye\r\n"}) as upstream:
        session = await connect(upstream)
        assert await session.command(MAIL) == reply(421, "4.3.2 bye")
        assert not session.alive
    async with ScriptedUpstream({b".": b"421 4.3.2 bye\r\n"}) as upstream:
        session = await connect(upstream)
        await envelope(session)
        assert (await session.data([b"x\r\n"])).code == 421
        assert not session.alive


async def test_an_upstream_that_idles_out_is_seen() -> None:
    async with ScriptedUpstream() as upstream:
        session = await connect(upstream)
        upstream.peers[0].writer.close()
        await until(lambda: not session.alive)


@pytest.mark.parametrize("then", ["close", "read on", "reset"])
@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_a_refusal_in_the_middle_of_the_mail(size: int, then: str) -> None:
    async def refuse(peer: Peer) -> Step:
        await peer.say(b"552-5.3.4 too\r\n552 5.3.4 big\r\n")
        if then == "read on":
            return None
        await asyncio.sleep(0.1)
        return DROP if then == "close" else RESET

    async with ScriptedUpstream({b"354": refuse, b".": None}) as upstream:
        session = await connect(upstream)
        await envelope(session)
        answer = await session.data([(b"x" * 70 + b"\r\n") * (size // 72 + 1)])
        assert answer == Reply(552, (b"5.3.4 too", b"5.3.4 big"))
        assert not session.alive or size == 10
        session.abort()


async def test_an_acceptance_in_the_middle_of_the_mail_is_none() -> None:
    async def accept(peer: Peer) -> Step:
        await peer.say(b"250 ok already\r\n")
        await asyncio.sleep(3600)
        return None

    async with ScriptedUpstream({b"354": accept}) as upstream:
        session = await connect(upstream)
        await envelope(session)
        with pytest.raises(UpstreamError):
            await session.data([b"x" * 5_000_000])
        assert upstream.mails == []


@pytest.mark.parametrize("how", [DROP, RESET])
async def test_lost_in_the_middle_of_the_mail(how: Step) -> None:
    async with ScriptedUpstream({b"354": how}) as upstream:
        session = await connect(upstream)
        await envelope(session)
        with pytest.raises(UpstreamError):
            await session.data([b"x" * 8_000_000])
        assert upstream.mails == []


async def test_a_slow_upstream_is_waited_for_and_a_stalled_one_is_not() -> None:
    slow = True

    async def read_slowly(peer: Peer) -> None:
        if not slow:
            await asyncio.sleep(3600)
        for _ in range(25):
            peer.received += await peer.reader.read(400_000)
            await asyncio.sleep(0.1)

    mail = (b"x" * 70 + b"\r\n") * 200_000
    timeouts = Timeouts(data_block=1, data_end=3)
    async with ScriptedUpstream({b"354": read_slowly}) as upstream:
        session = await connect(upstream, timeouts)
        await envelope(session)
        start = time.monotonic()
        assert (await session.data([mail])).accepted
        assert time.monotonic() - start > 2 * timeouts.data_block  # longer than any one time-out
        assert upstream.mails[0].raw == mail
        slow = False
        await envelope(session)
        with pytest.raises(UpstreamError):
            await session.data([mail] * 8)  # more than the kernel's buffers take
        assert not session.alive


class SlowTransport(asyncio.Transport):
    """Takes a little of what is written at every look, and tells nobody until it is nearly empty."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.size, self.step, self.closing = 0, step, False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def write(self, data: object) -> None:
        self.size += len(bytes(data))  # type: ignore[call-overload]
        if self.size > 10_000:
            self.protocol.pause_writing()  # type: ignore[attr-defined]
        elif data == b"DATA\r\n":
            asyncio.get_running_loop().call_soon(self.protocol.data_received, b"354 go\r\n")  # type: ignore[attr-defined]
        if bytes(data).endswith(b"\r\n.\r\n"):  # type: ignore[call-overload]
            asyncio.get_running_loop().call_soon(self.protocol.data_received, b"250 ok\r\n")  # type: ignore[attr-defined]

    def get_write_buffer_size(self) -> int:
        self.size = max(0, self.size - self.step)
        if self.size == 0:
            self.protocol.resume_writing()  # type: ignore[attr-defined]
        return self.size


@pytest.mark.parametrize("step", [10_000, 0])
async def test_progress_below_the_transports_threshold_is_progress(step: int) -> None:
    wire = Wire(SlowTransport(step), "slow", Timeouts(data_block=0.02))
    sending = wire.data([b"x" * 200_000])
    if step:
        assert (await sending).accepted
    else:
        with pytest.raises(UpstreamError, match="nothing of the mail was taken"):
            await sending


async def test_writing_waits_for_the_upstream() -> None:
    """A mail that is not taken is not piled up in the transport."""
    async with ScriptedUpstream({b"354": STALL}) as upstream:
        session = await connect(upstream)
        await envelope(session)
        task = asyncio.create_task(session.data([b"x" * 30_000_000]))
        await asyncio.sleep(0.5)
        wire = session._wire  # type: ignore[attr-defined]
        assert wire._transport.get_write_buffer_size() < 300_000
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not session.alive  # it is in the middle of a mail


async def test_an_interrupted_command_leaves_no_session_out_of_step() -> None:
    async with ScriptedUpstream({b"MAIL": STALL}) as upstream:
        session = await connect(upstream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.command(MAIL)
        assert not session.alive


@pytest.mark.parametrize("mail", [b"a\nb\r\n", b"a\r\nb\rc\r\n", b"a\r\n.\n", b"x" * 70_000 + b"\n.\n\r\n"])
async def test_bare_newlines_never_leave(mail: bytes) -> None:
    async with ScriptedUpstream() as upstream:
        session = await connect(upstream)
        await envelope(session)
        with pytest.raises(UpstreamError):
            await session.data([mail])
        assert upstream.mails == []


@pytest.mark.parametrize(
    "greeting",
    [b"554 5.7.1 no\r\n", b"421 4.3.2 later\r\n", b"\x16\x03\x01 hello\x00\r\n", b"250 what\r\n", DROP, RESET, STALL],
    ids=lambda greeting: str(greeting)[:20],
)
async def test_greetings_that_are_none(greeting: Step) -> None:
    async with ScriptedUpstream({b"CONNECT": greeting}) as upstream:
        with pytest.raises(UpstreamError) as caught:
            await connect(upstream, SHORT)
        text = str(caught.value)
        assert text.startswith(f"127.0.0.1:{upstream.port}: ")
        assert "\n" not in text
        await until(lambda: all(peer.closed or greeting is STALL for peer in upstream.peers))


async def test_a_closed_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(UpstreamError, match="cannot connect: "):
            await SmtpUpstream("127.0.0.1", port, hostname="relay.test").connect(CLIENT)


async def test_helo_for_an_old_server() -> None:
    async with ScriptedUpstream({b"EHLO": b"502 5.5.1 what?\r\n"}) as upstream:
        session = await connect(upstream)
        assert session.extensions == {}
        await envelope(session)
        assert (await session.data([b"x\r\n"])).accepted
        assert upstream.commands[:2] == [b"EHLO relay.test", b"HELO relay.test"]
        await session.quit()


@pytest.mark.parametrize("answer", [b"421 4.3.2 later\r\n", DROP, STALL])
async def test_ehlo_refused_for_good(answer: Step) -> None:
    async with ScriptedUpstream({b"EHLO": answer, b"HELO": b"554 no\r\n"}) as upstream:
        with pytest.raises(UpstreamError):
            await connect(upstream, SHORT)


@pytest.mark.parametrize("answer", [b"221 bye\r\n", b"500 what\r\n", b"??", DROP, RESET, STALL])
async def test_quit_never_raises_nor_waits(answer: Step) -> None:
    async with ScriptedUpstream({b"QUIT": answer}) as upstream:
        session = await connect(upstream, SHORT)
        start = time.monotonic()
        await session.quit()
        assert time.monotonic() - start < 1.5
        assert not session.alive


async def test_two_replies_to_ehlo() -> None:
    async with ScriptedUpstream({b"EHLO": b"250 x\r\n250 y\r\n"}) as upstream:
        with pytest.raises(UpstreamError):
            session = await connect(upstream)
            await session.command(MAIL)


async def test_the_scripted_upstream_counts(  # the stand-in itself, where others rely on it
) -> None:
    async with ScriptedUpstream({b"RCPT": [OK, b"550 5.1.1 no\r\n"], b".": [b"451 later\r\n", OK]}) as upstream:
        session = await connect(upstream)
        await session.command(MAIL)
        codes = [(await session.command(RCPT)).code for _ in range(3)]
        assert codes == [250, 550, 550]
        assert (await session.data([b"1\r\n"])).code == 451
        assert (await session.data([b"2\r\n"])).code == 250
        assert [mail.raw for mail in upstream.accepted] == [b"2\r\n"]
        await session.quit()
