"""The command loop, spoken to byte by byte: what is answered, what reaches the conversation, and how sessions end."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import socket
import struct
import time

import pytest

from relay_mta.core.reply import Reply, reply
from relay_mta.smtp.budget import Budget
from relay_mta.smtp.census import Census
from relay_mta.smtp.limits import Limits
from relay_mta.smtp.server import listen
from tests.smtp.clients import Dialog
from tests.smtp.fronts import Recorder, stand, until

MAIL, RCPT = b"MAIL FROM:<a@client.test>", b"RCPT TO:<b@there.test>"


async def test_a_session_as_it_should_be() -> None:
    front = Recorder(replies={"data": Reply(250, (b"2.0.0 queued", b"as 4711"))})
    async with stand(front) as it, Dialog(it.port) as client:
        assert client.greeting == b"220 relay.test ESMTP\r\n"
        assert await client.say(b"EHLO client.test") == (
            b"250-relay.test\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-SIZE 20000000\r\n"
            b"250-8BITMIME\r\n250 DSN\r\n"
        )
        assert await client.say(MAIL + b" SIZE=30 RET=HDRS") == b"250 2.0.0 recorded\r\n"
        assert await client.say(RCPT + b" NOTIFY=NEVER") == b"250 2.0.0 recorded\r\n"
        assert (await client.say(b"DATA")).startswith(b"354 ")
        assert await client.say(b"Subject: x\r\n\r\n..\r\n.") == b"250-2.0.0 queued\r\n250 as 4711\r\n"
        assert await client.say(b"QUIT") == b"221 2.0.0 Bye\r\n"
        assert await client.at_end()
        await until(lambda: "close" in front.names)
    assert front.events == [
        ("mail", "a@client.test", ("SIZE=30", "RET=HDRS")),
        ("rcpt", "b@there.test", ("NOTIFY=NEVER",)),
        ("data", 17),
        ("written",),
        ("close",),
    ]
    assert front.mails == [b"Subject: x\r\n\r\n.\r\n"]
    seen = front.clients[0]
    assert (seen.address, seen.helo, seen.esmtp, seen.tls) == ("127.0.0.1", "client.test", True, False)


async def test_smtplib_is_content() -> None:
    front = Recorder()

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test") as client:
            for n in range(3):
                client.sendmail("a@client.test", ["b@there.test", "c@there.test"], f"Subject: {n}\r\n\r\n.dot\r\n")
            assert client.verify("b")[0] == 252
            assert client.noop()[0] == 250
            assert client.help().startswith(b"2.0.0")

    async with stand(front) as it:
        await asyncio.to_thread(send, it.port)
    assert front.mails == [b"Subject: %d\r\n\r\n.dot\r\n" % n for n in range(3)]


async def test_helo_offers_nothing() -> None:
    front = Recorder()
    async with stand(front) as it, Dialog(it.port) as client:
        assert await client.say(b"helo client.test") == b"250 relay.test\r\n"
        await client.say(MAIL)
    assert not front.clients[0].esmtp


async def test_a_conversation_that_offers_nothing() -> None:
    async with stand(Recorder(offers=())) as it, Dialog(it.port) as client:
        assert await client.ehlo() == [b"PIPELINING", b"ENHANCEDSTATUSCODES"]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([MAIL], b"503 5.5.1"),
        ([RCPT], b"503 5.5.1"),
        ([b"DATA"], b"503 5.5.1"),
        ([b"EHLO x", RCPT], b"503 5.5.1"),
        ([b"EHLO x", b"DATA"], b"503 5.5.1"),
        ([b"EHLO x", MAIL, MAIL], b"503 5.5.1"),
        ([b"EHLO x", MAIL, b"DATA"], b"503 5.5.1"),
        ([b"EHLO x", MAIL, RCPT, b"DATA now"], b"501 5.5.4"),
        ([b"EHLO x", MAIL, RCPT, b"RSET", b"DATA"], b"503 5.5.1"),
        ([b"EHLO x", MAIL, RCPT, b"EHLO x", b"DATA"], b"503 5.5.1"),
        ([b"EHLO x", MAIL, b"RCPT TO:<>"], b"501 5.1.3"),
        ([b"EHLO x", MAIL, b"RCPT FROM:<a@b>"], b"501 5.5.4"),
        ([b"EHLO x", MAIL, b"RCPT TO:<a b>"], b"501 5.1.3"),
        ([b"EHLO x", b"MAIL FROM:a@b,c@d"], b"501 5.1.7"),
        ([b"EHLO x", b"MAIL"], b"501 5.5.4"),
        ([b"EHLO x", b"MAIL FROM:<a@b>", b"QUIT now"], b"501 5.5.4"),
        ([b"EHLO x", b"MAIL FROM:<a@b> SIZE=20000001"], b"552 5.3.4"),
        ([b"EHLO x", b"MAIL FROM:<a\0@b>"], b"501 5.5.2"),
        ([b"EHLO x", b"MAIL FROM:<a@b>\rRCPT TO:<c@d>"], b"501 5.5.2"),
        ([b"EHLO x", b"\r"], b"500 5.5.2"),
        ([b"EHLO x", b"MAIL FROM:<" + b"a" * 5000 + b"@b>"], b"500 5.5.2"),
        ([b"EHLO x", b"MAIL FROM:<" + b"a" * 500_000 + b"@b>"], b"500 5.5.2"),
        ([b"EHLO"], b"501 5.5.4"),
        ([b"EHLO x", b"BDAT 10 LAST"], b"502 5.5.1"),
        ([b"EHLO x", b"EXPN list"], b"502 5.5.1"),
        ([b"EHLO x", b"AUTH PLAIN AHUAcA=="], b"503 5.5.1"),
        ([b"EHLO x", b"STARTTLS"], b"502 5.5.1"),
        ([b"EHLO x", b"XCLIENT ADDR=1.2.3.4"], b"500 5.5.2"),
        ([b"EHLO x", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1"], b"500 5.5.2"),
        ([b""], b"500 5.5.2"),
        (["ＭＡＩＬ FROM:<a@b>".encode()], b"500 5.5.2"),
        ([b"EHLO x", b"VRFY a"], b"252"),
        ([b"EHLO x", b"HELP"], b"214"),
        ([b"NOOP"], b"250"),
    ],
)
async def test_the_last_one_is_answered(lines: list[bytes], code: bytes) -> None:
    async with stand(Recorder()) as it, Dialog(it.port) as client:
        for line in lines:
            answer = await client.say(line)
        assert answer.startswith(code), answer
        assert (await client.say(b"NOOP")).startswith(b"250")  # and the session goes on


async def test_refusals_are_passed_on_and_leave_the_way_free() -> None:
    no = Reply(550, (b"5.7.1 not from here", b"5.7.1 \xff see our page"))
    front = Recorder(replies={"mail": [no, reply(250, "ok")], "rcpt": [reply(450, "4.2.0 later"), no]})
    async with stand(front) as it, Dialog(it.port) as client:
        await client.ehlo()
        assert await client.say(MAIL) == b"550-5.7.1 not from here\r\n550 5.7.1 \xff see our page\r\n"
        assert await client.say(MAIL) == b"250 ok\r\n"
        assert await client.say(RCPT) == b"450 4.2.0 later\r\n"
        assert (await client.say(RCPT)).startswith(b"550-5.7.1")
        assert (await client.say(b"DATA")).startswith(b"554 5.5.1")


async def test_a_421_of_the_conversation_ends_the_session() -> None:
    front = Recorder(replies={"mail": reply(421, "4.3.2 upstream says so")})
    async with stand(front) as it, Dialog(it.port) as client:
        await client.ehlo()
        assert await client.say(MAIL) == b"421 4.3.2 upstream says so\r\n"
        assert await client.at_end()


async def test_verbatim_addresses_and_params() -> None:
    front = Recorder()
    async with stand(front) as it, Dialog(it.port) as client:
        await client.ehlo()
        await client.say(b"MAIL FROM:<> ENVID=Qq+3D  AUTH=<>")
        for path in (b"c.@docomo.test", b'"a b"@x.test', b"@a.test:b@c.test", b"\xe5\x88\xa9@x.test", b"\xff@x.test"):
            await client.say(b"RCPT TO:<" + path + b"> ORCPT=rfc822;x")
    assert front.events[0] == ("mail", "", ("ENVID=Qq+3D", "AUTH=<>"))
    assert [event[1].encode("utf-8", "surrogateescape") for event in front.events[1:6]] == [
        b"c.@docomo.test",
        b'"a b"@x.test',
        b"@a.test:b@c.test",
        b"\xe5\x88\xa9@x.test",
        b"\xff@x.test",
    ]


async def test_pipelined_commands_are_answered_in_order() -> None:
    front = Recorder()
    async with stand(front) as it, Dialog(it.port) as client:
        await client.ehlo()
        rcpts = b"".join(b"RCPT TO:<r%d@there.test>\r\n" % n for n in range(300))
        await client.send(MAIL + b"\r\n" + rcpts + b"DATA\r\n")
        for _ in range(301):
            assert (await client.reply()).startswith(b"250 ")
        assert (await client.reply()).startswith(b"354 ")
        await client.send(b"x\r\n.\r\n" + MAIL + b"\r\nNOOP\r\nRSET\r\nQUIT\r\n")
        codes = [(await client.reply())[:3] for _ in range(5)]
        assert codes == [b"250", b"250", b"250", b"250", b"221"]
    assert [event[1] for event in front.events[1:301]] == [f"r{n}@there.test" for n in range(300)]


@pytest.mark.parametrize("command", [b"EHLO x", b"HELO x", b"DATA", b"BDAT 5"])
async def test_talking_on_where_the_reply_must_be_awaited(command: bytes) -> None:
    front = Recorder()
    async with stand(front) as it, Dialog(it.port) as client:
        if command == b"DATA":
            await client.ehlo()
            await client.say(MAIL)
            await client.say(RCPT)
        await client.send(command + b"\r\nSubject: x\r\n.\r\nMAIL FROM:<evil@x>\r\n")
        assert (await client.reply()).startswith(b"554 5.5.0")
        assert await client.at_end()
    assert ("mail", "evil@x", ()) not in front.events


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"post /x HTTP/1.0", b"CONNECT a:25 HTTP/1.1", b"Host: x", b"PRI *"]
)
async def test_a_browser_gets_no_answer(line: bytes) -> None:
    async with stand(Recorder()) as it, Dialog(it.port) as client:
        await client.send(line + b"\r\nMAIL FROM:<a@b>\r\n")
        assert await client.at_end()


async def test_a_client_that_may_not_send_here() -> None:
    front = Recorder(refuse=reply(554, "5.7.1 Not from your address"))
    async with stand(front) as it, Dialog(it.port) as client:
        assert client.greeting == b"554 5.7.1 Not from your address\r\n"
        assert await client.at_end()
    assert front.events == []


async def test_too_many_errors() -> None:
    async with stand(Recorder(), limits=Limits(bad_commands=3)) as it, Dialog(it.port) as client:
        for _ in range(3):
            assert (await client.say(b"FOO")).startswith(b"500")
        assert (await client.say(b"FOO")).startswith(b"421 4.7.0")
        assert await client.at_end()


async def test_too_many_sessions() -> None:
    async with stand(Recorder(), census=Census(2, 2)) as it, Dialog(it.port) as first, Dialog(it.port):
        async with Dialog(it.port) as third:
            assert third.greeting.startswith(b"421 4.3.2")
            assert await third.at_end()
        await until(lambda: it.listener.sessions == 2)
        await first.say(b"QUIT")
        await until(lambda: it.listener.sessions == 1)
        async with Dialog(it.port) as fourth:
            assert fourth.greeting.startswith(b"220")


@pytest.mark.parametrize("trickle", [False, True])
async def test_a_slow_command_is_cut_off(*, trickle: bool) -> None:
    front = Recorder()
    async with stand(front, limits=Limits(command=0.3)) as it, Dialog(it.port) as client:
        await client.ehlo()
        await client.say(MAIL)
        start = time.monotonic()
        if trickle:
            for byte in b"RCPT T":
                await client.send(bytes([byte]))
                await asyncio.sleep(0.07)
        assert (await client.reply()).startswith(b"421 4.4.2")
        assert time.monotonic() - start < 2
        assert await client.at_end()
        await until(lambda: "close" in front.names)


async def test_an_exception_of_ours_is_451_and_told() -> None:
    front = Recorder(replies={"rcpt": ConnectionResetError("secret"), "data": [KeyError("secret"), reply(250, "ok")]})
    async with stand(front) as it, Dialog(it.port) as client:
        await client.ehlo()
        await client.say(MAIL)
        answer = await client.say(RCPT)
        assert answer.startswith(b"451 4.3.0")
        assert b"secret" not in answer
        assert (await client.say(RCPT)).startswith(b"503")  # the transaction is over, the session is not
        front.replies.pop("rcpt")
        for code in (b"451 4.3.0", b"250 ok"):
            assert (await client.say(MAIL)).startswith(b"250")
            assert (await client.say(RCPT)).startswith(b"250")
            assert (await client.say(b"DATA")).startswith(b"354")
            assert (await client.say(b"x\r\n.")).startswith(code)
        assert [type(error) for error in it.errors] == [ConnectionResetError, KeyError]
        it.errors.clear()
    assert front.names.count("written") == 1


async def test_conversations_that_fail_at_once() -> None:
    class Broken(Recorder):
        def conversation(self, client: object) -> Reply:
            raise ZeroDivisionError

        def extensions(self) -> tuple[str, ...]:
            raise ZeroDivisionError

    front = Broken()
    async with stand(front) as it:
        async with Dialog(it.port) as client:
            assert client.greeting.startswith(b"451 4.3.0")
            assert await client.at_end()
        it.errors.clear()


async def deliver(client: Dialog) -> None:
    """Everything up to and including the final dot."""
    await client.envelope()
    await client.send(b"x\r\n.\r\n")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_does_not_interrupt_a_delivery(how: str) -> None:
    go_on = asyncio.Event()
    front = Recorder(before_reply=go_on.wait)
    async with stand(front) as it:
        async with Dialog(it.port) as client:
            await deliver(client)
            await until(lambda: front.mails)
            if how == "reset":
                sock: socket.socket = client.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.1)
        assert front.names[-1] == "data"
        go_on.set()
        await until(lambda: "close" in front.names)
        assert front.names[-2:] == ["reset", "close"]


async def test_a_client_that_closed_its_side_gets_its_reply() -> None:
    go_on = asyncio.Event()
    front = Recorder(before_reply=go_on.wait)
    async with stand(front) as it, Dialog(it.port) as client:
        await deliver(client)
        client.writer.write_eof()
        await until(lambda: front.mails)
        await asyncio.sleep(0.05)
        go_on.set()
        assert (await client.reply()).startswith(b"250")
        assert await client.at_end()
        await until(lambda: "close" in front.names)
    assert front.names[-2:] == ["reset", "close"]  # whether it read the reply is not known


async def test_a_client_that_leaves_in_mid_transaction() -> None:
    front = Recorder()
    async with stand(front) as it:
        async with Dialog(it.port) as client:
            await client.envelope()
            await client.send(b"half a mail\r\n.\r")
        await until(lambda: "close" in front.names)
        assert front.mails == []
        assert front.names[-2:] == ["reset", "close"]


async def test_a_half_closed_client_costs_no_time() -> None:
    async with stand(Recorder()) as it, Dialog(it.port) as client:
        await client.send(b"NOOP\r\nNOOP\r\nEHL")
        client.writer.write_eof()
        assert [(await client.reply())[:3] for _ in range(3)] == [b"250", b"250", b""]
        await until(lambda: it.listener.sessions == 0)


async def test_a_client_that_reads_nothing_is_cut_off() -> None:
    front = Recorder(replies={"mail": Reply(550, (b"x" * 1000,) * 50)})
    limits = Limits(write=0.3, handshake=0.3, bad_commands=10**6)
    async with stand(front, limits=limits) as it:
        reader, writer = await asyncio.open_connection("127.0.0.1", it.port, limit=1)
        writer.write(b"EHLO x\r\n")
        await asyncio.sleep(0.1)
        writer.write((MAIL + b"\r\n") * 2000)
        await until(lambda: it.listener.sessions == 0, 10)
        writer.transport.abort()
        assert not reader.at_eof()


async def test_drain_lets_a_delivery_end() -> None:
    go_on = asyncio.Event()
    front = Recorder(before_reply=go_on.wait)
    async with stand(front) as it, Dialog(it.port) as idle, Dialog(it.port) as busy, Dialog(it.port) as middle:
        await deliver(busy)
        await middle.ehlo()
        await middle.say(MAIL)
        await until(lambda: front.mails)
        draining = asyncio.create_task(it.listener.drain(5))
        assert (await idle.reply()).startswith(b"421 4.3.2")
        assert await idle.at_end()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", it.port)
        assert (await middle.say(RCPT)).startswith(b"250")  # a transaction under way may end
        assert (await middle.say(b"RSET")).startswith(b"250")
        assert (await middle.reply()).startswith(b"421")
        go_on.set()
        assert (await busy.reply()).startswith(b"250")
        assert (await busy.reply()).startswith(b"421 4.3.2")
        assert await draining == 0
    assert front.names.count("close") == 3


async def test_drain_aborts_what_does_not_end() -> None:
    front = Recorder(before_reply=asyncio.Event().wait)
    async with stand(front) as it, Dialog(it.port) as client:
        await deliver(client)
        await until(lambda: front.mails)
        assert await it.listener.drain(0.1) == 1
        assert await client.at_end()
        assert it.listener.sessions == 0
    assert front.names[-1] == "close"


async def test_nothing_of_a_mail_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    front = Recorder(replies={"rcpt": [reply(550, "canary"), reply(250, "canary")]})
    async with stand(front) as it, Dialog(it.port) as client:
        for line in (b"EHLO canary", b"MAIL FROM:<canary@x>", RCPT, b"RCPT TO:<canary@y>", b"CANARY", b"AUTH canary"):
            await client.say(line)
        await client.say(b"DATA")
        assert (await client.say(b"Subject: canary\r\n.")).startswith(b"250")
    assert "canary" not in caplog.text.lower()


async def test_tls_without_a_context_is_an_error_at_once() -> None:
    with pytest.raises(ValueError):
        await listen(
            host="127.0.0.1",
            port=0,
            hostname="relay.test",
            front=Recorder(),
            budget=Budget(1),
            tls="starttls",
            max_size=1,
            on_error=print,
        )
