"""The mail itself: where it ends, what is thrown away, what it costs, and how long it may take."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc

import pytest

from relay_mta.smtp.limits import Limits
from tests.smtp.clients import Dialog
from tests.smtp.fronts import Recorder, stand, until

# What some server, somewhere, takes for the end of a mail. None of them is one (RFC 5321 §4.1.1.4).
LOOK_ALIKES = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "CR.LF": b"\r.\n",
    "LF.CR": b"\n.\r",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRCRLF.CRLF": b"x\r\r\n.\n\r\n",
    "CRCRLF.CRCRLF": b"\r\r\n.\r\r\n",
    "CRLF.NUL.CRLF": b"\r\n.\0\r\n",
    "CRLF NUL .CRLF": b"\r\n\0.\r\n",
    "VT.VT": b"\x0b.\x0b",
    "FF.FF": b"\x0c.\x0c",
    "NEL.NEL": b"\xc2\x85.\xc2\x85",
    "LS.LS": b"\xe2\x80\xa8.\xe2\x80\xa8",
    "CRLF..CRLF": b"\r\n..\r\n",
    "CRLF. CRLF": b"\r\n. \r\n",
}
NO_BARE_NEWLINE = {
    *("CRLF.NUL.CRLF", "CRLF NUL .CRLF", "VT.VT", "FF.FF", "NEL.NEL", "LS.LS", "CRLF..CRLF", "CRLF. CRLF"),
}
SMUGGLED = b"MAIL FROM:<evil@x>\r\nRCPT TO:<b@there.test>\r\nDATA\r\nSubject: smuggled\r\n\r\n"


@pytest.mark.parametrize("name", LOOK_ALIKES)
@pytest.mark.parametrize("split", [False, True])
async def test_look_alikes_do_not_end_a_mail(name: str, *, split: bool) -> None:
    front = Recorder()
    async with stand(front) as it, Dialog(it.port) as client:
        await client.envelope()
        wire = b"Subject: x\r\n\r\none" + LOOK_ALIKES[name] + SMUGGLED + b"two\r\n.\r\n"
        if split:
            for at in range(14, 14 + 10):
                await client.send(wire[at - 1 : at] if at > 14 else wire[:at])
                await asyncio.sleep(0.002)
            await client.send(wire[23:])
        else:
            await client.send(wire)
        assert (await client.reply()).startswith(b"250")
        assert await client.say(b"QUIT") == b"221 2.0.0 Bye\r\n"
    assert front.names.count("mail") == front.names.count("data") == 1
    (mail,) = front.mails
    assert b"evil@x" in mail
    assert mail.endswith(b"two\r\n")
    assert mail.count(b"\r\n") == mail.count(b"\r") == mail.count(b"\n")
    assert front.normalised == [
        not name.startswith(("CRLF.NUL", "CRLF NUL", "VT", "FF", "NEL", "LS", "CRLF..", "CRLF. "))
    ]


@pytest.mark.parametrize("name", LOOK_ALIKES)
async def test_look_alikes_do_not_end_a_mail_that_is_thrown_away(name: str) -> None:
    front = Recorder()
    async with stand(front, max_size=1000) as it, Dialog(it.port) as client:
        await client.envelope()
        await client.send(b"x" * 2000 + LOOK_ALIKES[name] + SMUGGLED + b"two\r\n.\r\n")
        assert (await client.reply()).startswith(b"552 5.3.4")
        assert await client.say(b"QUIT") == b"221 2.0.0 Bye\r\n"
    assert front.names.count("mail") == 1
    assert front.mails == []
    assert front.names[-2:] == ["reset", "close"]


@pytest.mark.parametrize(
    ("wire", "mail"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".x\r\n.\r\n", b"x\r\n"),
        (b"a\r\n\r\n..b\r\n...\r\n.\r\n", b"a\r\n\r\n.b\r\n..\r\n"),
        (b"\xff\x00\xe3\x81\r\n.\r\n", b"\xff\x00\xe3\x81\r\n"),
        (b"x" * 300_000 + b"\r\n.\r\n", b"x" * 300_000 + b"\r\n"),
        (b".\r\r\n\r\n.\r\n", b" \r\n\r\n"),
    ],
)
async def test_what_is_sent_is_what_comes(wire: bytes, mail: bytes) -> None:
    front = Recorder()
    async with stand(front) as it, Dialog(it.port) as client:
        await client.envelope()
        await client.send(wire)
        assert (await client.reply()).startswith(b"250")
    assert front.mails == [mail]


@pytest.mark.parametrize("size", [65535, 65536, 65537, 131072, 131073])
async def test_every_cut_at_the_readers_bounds(size: int) -> None:
    front = Recorder()
    tails = [b"\r\n.\r\n", b"\r\n..\r\n\r\n.\r\n", b"\r\n.x\r\n.\r\n", b"\r\n\r\n.\r\n"]
    async with stand(front) as it, Dialog(it.port) as client:
        for tail in tails:
            for less in range(7):
                await client.envelope()
                await client.send(b"y" * (size - less) + tail)
                assert (await client.reply()).startswith(b"250")
                assert front.mails.pop() == b"y" * (size - less) + tail[:-3].replace(b"\r\n.", b"\r\n")


async def test_ten_megabytes_are_held_once() -> None:
    line = os.urandom(57).hex().encode()[:76] + b"\r\n"
    mail = line * (10_000_000 // len(line))
    held: list[int] = []
    used: list[int] = []

    async def look() -> None:
        held.append(tracemalloc.get_traced_memory()[0])
        used.append(it.budget.used)

    front = Recorder(before_reply=look)
    async with stand(front) as it, Dialog(it.port) as client:
        await client.envelope()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, len(mail), 65536):  # no copy of our own in the way
            await client.send(mail[start : start + 65536])
        await client.send(b".\r\n")
        assert (await client.reply()).startswith(b"250")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert front.mails == [mail]
    assert used == [len(mail)]
    assert held[0] - before < 1.2 * len(mail)
    assert peak - before < 1.5 * len(mail)


async def test_too_big() -> None:
    front = Recorder()
    async with stand(front, max_size=100_000) as it, Dialog(it.port) as client:
        for size, code in ((99_998, b"250"), (99_999, b"552 5.3.4"), (900_000, b"552 5.3.4"), (10, b"250")):
            await client.envelope()
            await client.send(b"x" * size + b"\r\n.\r\n")
            assert (await client.reply()).startswith(code)
    assert [len(mail) for mail in front.mails] == [100_000, 12]


async def test_stuffing_does_not_count_to_the_size() -> None:
    front = Recorder()
    async with stand(front, max_size=300) as it, Dialog(it.port) as client:
        await client.envelope()
        await client.send(b"..\r\n" * 100 + b".\r\n")
        assert (await client.reply()).startswith(b"250")
    assert front.mails == [b".\r\n" * 100]


async def test_no_memory_before_and_in_the_middle() -> None:
    front = Recorder()
    async with stand(front, memory=200_000, limits=Limits(reserve=1000)) as it:
        async with Dialog(it.port) as client:
            await client.ehlo()
            await client.say(b"MAIL FROM:<a@b> SIZE=200001")
            await client.say(b"RCPT TO:<a@b>")
            assert (await client.say(b"DATA")).startswith(b"452 4.3.1")
            assert (await client.envelope())[-1].startswith(b"354")
            await client.send(b"x" * 500_000 + b"\r\n.\r\n")
            assert (await client.reply()).startswith(b"452 4.3.1")
            assert it.budget.used == 0
            await client.envelope()
            await client.send(b"x\r\n.\r\n")
            assert (await client.reply()).startswith(b"250")
        await until(lambda: it.listener.sessions == 0)
    assert front.mails == [b"x\r\n"]


async def test_a_declared_size_is_kept_free_for_it() -> None:
    front = Recorder()
    async with stand(front, memory=100_000) as it, Dialog(it.port) as first, Dialog(it.port) as second:
        await first.ehlo()
        await first.say(b"MAIL FROM:<a@b> SIZE=90000")
        await first.say(b"RCPT TO:<a@b>")
        assert (await first.say(b"DATA")).startswith(b"354")
        assert (await second.envelope())[-1].startswith(b"452")
        assert (await first.say(b"x\r\n.")).startswith(b"250")
        assert (await second.say(b"DATA")).startswith(b"354")  # its transaction is still there
        assert (await second.say(b"x\r\n.")).startswith(b"250")


@pytest.mark.parametrize(("memory", "max_size"), [(100_000, 10**6), (10**6, 100_000)])
async def test_a_mail_that_is_thrown_away_holds_nothing(memory: int, max_size: int) -> None:
    async with stand(Recorder(), memory=memory, max_size=max_size) as it, Dialog(it.port) as client:
        await client.envelope()
        assert it.budget.used > 0
        await client.send(b"x" * 400_000)
        await until(lambda: it.budget.used == 0)
        await client.send(b"x" * 400_000 + b"\r\n.\r\n")
        assert (await client.reply())[:3] in (b"452", b"552")


async def test_a_mail_that_stops_coming() -> None:
    front = Recorder()
    async with stand(front, limits=Limits(data_idle=0.2)) as it, Dialog(it.port) as client:
        await client.envelope()
        await client.send(b"half")
        assert (await client.reply()).startswith(b"421 4.4.2")
        assert await client.at_end()
        await until(lambda: "close" in front.names)
    assert front.names[-2:] == ["reset", "close"]


async def test_a_mail_that_trickles() -> None:
    limits = Limits(data_idle=0.5, data_grace=0.6, data_rate=1000)
    async with stand(Recorder(), limits=limits) as it, Dialog(it.port) as client:
        await client.envelope()
        start = time.monotonic()

        async def trickle() -> None:
            for _ in range(200):
                await client.send(b"x")
                await asyncio.sleep(0.02)

        task = asyncio.create_task(trickle())
        assert (await client.reply()).startswith(b"421 4.4.2")
        assert 0.4 < time.monotonic() - start < 3
        task.cancel()


async def test_a_slow_mail_that_keeps_the_rate() -> None:
    front = Recorder()
    limits = Limits(data_idle=0.3, data_grace=0.3, data_rate=1000)
    async with stand(front, limits=limits) as it, Dialog(it.port) as client:
        await client.envelope()
        for _ in range(40):
            await client.send(b"x" * 98 + b"\r\n")
            await asyncio.sleep(0.03)
        assert (await client.say(b".")).startswith(b"250")
    assert len(front.mails[0]) == 4000
