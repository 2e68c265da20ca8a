"""What the upstream is told of the real client: a PROXY line, or Postfix's XCLIENT; and what becomes of a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamError
from relay_mta.core.timeouts import Timeouts
from relay_mta.smtp.upstream import Forward, SmtpSession, SmtpUpstream, UpstreamTls
from tests.smtp.fronts import until
from tests.smtp.peers import DROP, STALL, Action, Peer, ScriptedUpstream
from tests.smtp.test_tls import CA, certificate

CLIENT = Client("192.0.2.7", 40000, "pc.test")
ALL = "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
SHORT = Timeouts(connect=0.4, other=0.4)


async def connected(
    upstream: ScriptedUpstream,
    client: Client,
    forward: Forward,
    *,
    tls: UpstreamTls = "none",
    timeouts: Timeouts | None = None,
) -> SmtpSession:
    host = "localhost" if tls != "none" else upstream.host
    ca = CA if tls != "none" else None
    connector = SmtpUpstream(
        host, upstream.port, hostname="relay.test", tls=tls, ca_file=ca, forward=forward, timeouts=timeouts
    )
    return await connector.connect(client)


async def carries_a_mail(session: SmtpSession) -> None:
    assert (await session.command(b"MAIL FROM:<a@x>")).accepted
    assert (await session.command(b"RCPT TO:<b@y>")).accepted
    assert (await session.data((b"x\r\n",))).accepted
    await session.quit()


# --- PROXY, version 1 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "host", "said"),
    [
        ("192.0.2.7", "127.0.0.1", "TCP4 192.0.2.7 127.0.0.1 40000 {port}"),
        ("2001:db8::7", "::1", "TCP6 2001:db8::7 ::1 40000 {port}"),
        ("2001:DB8:0:0::7", "::1", "TCP6 2001:db8::7 ::1 40000 {port}"),
        ("2001:db8::7", "127.0.0.1", "TCP6 2001:db8::7 ::ffff:7f00:1 40000 {port}"),
        ("192.0.2.7", "::1", "TCP6 ::ffff:c000:207 ::1 40000 {port}"),
        ("::ffff:192.0.2.7", "127.0.0.1", "TCP4 192.0.2.7 127.0.0.1 40000 {port}"),
        ("fe80::1%eth0", "::1", "TCP6 fe80::1 ::1 40000 {port}"),
        ("", "127.0.0.1", "UNKNOWN"),
        ("/run/client.sock", "127.0.0.1", "UNKNOWN"),
        ("1.2.3.4 5.6.7.8\r\nEHLO x", "127.0.0.1", "UNKNOWN"),
    ],
)
async def test_the_proxy_line(address: str, host: str, said: str) -> None:
    async with ScriptedUpstream(proxy=True, host=host) as upstream:
        await carries_a_mail(await connected(upstream, Client(address, 40000), "proxy"))
        expected = f"PROXY {said.format(port=upstream.port)}\r\n".encode()
        assert upstream.peers[0].proxy == expected
        assert len(expected) <= 107  # the protocol's own bound


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_the_proxy_line_stands_before_tls(tls: UpstreamTls) -> None:
    async with ScriptedUpstream(proxy=True, ssl_context=certificate(), implicit_tls=tls == "implicit") as upstream:
        session = await connected(upstream, CLIENT, "proxy", tls=tls)
        (peer,) = upstream.peers
        assert peer.proxy.startswith(b"PROXY TCP4 192.0.2.7 127.0.0.1 40000 ") and peer.tls
        await carries_a_mail(session)


@pytest.mark.parametrize("trouble", [DROP, STALL, b"554 5.7.1 not from you\r\n"])
async def test_an_upstream_that_takes_no_proxy_line(trouble: Any) -> None:
    async with ScriptedUpstream({b"CONNECT": trouble}, proxy=True) as upstream:
        with pytest.raises(UpstreamError, match=rf"^127\.0\.0\.1:{upstream.port}: "):
            await connected(upstream, CLIENT, "proxy", timeouts=SHORT)
        await until(lambda: all(peer.closed or trouble is STALL for peer in upstream.peers))


async def test_a_closed_port_behind_a_proxy_line() -> None:
    async with ScriptedUpstream(proxy=True) as upstream:
        port = upstream.port
    with pytest.raises(UpstreamError, match="cannot connect: "):
        await SmtpUpstream("127.0.0.1", port, hostname="relay.test", forward="proxy").connect(CLIENT)


# --- XCLIENT --------------------------------------------------------------------------------------------------------


def introduced(upstream: ScriptedUpstream) -> list[bytes]:
    return [line for line in upstream.commands if line.startswith(b"XCLIENT")]


HELLO = {b"XCLIENT": b"220 hello again\r\n"}


@pytest.mark.parametrize(
    ("client", "offered", "said"),
    [
        (CLIENT, ALL, "NAME=[UNAVAILABLE] ADDR=192.0.2.7 PORT=40000 PROTO=ESMTP HELO=pc.test"),
        (CLIENT, "XCLIENT ADDR HELO", "ADDR=192.0.2.7 HELO=pc.test"),
        (CLIENT, "XCLIENT addr", "ADDR=192.0.2.7"),
        (Client("2001:db8::7", 1, "x", esmtp=False), "XCLIENT ADDR PROTO", "ADDR=IPV6:2001:db8::7 PROTO=SMTP"),
        (Client("::ffff:192.0.2.7", 1, "x"), "XCLIENT ADDR", "ADDR=192.0.2.7"),
        (Client("fe80::1%eth0", 1, "x"), "XCLIENT ADDR", "ADDR=IPV6:fe80::1"),
        (Client("", 0, ""), "XCLIENT ADDR PORT HELO", "ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] HELO=[UNAVAILABLE]"),
        (Client("192.0.2.7", 1, "a b+c=d"), "XCLIENT HELO", "HELO=a+20b+2Bc+3Dd"),
        (Client("192.0.2.7", 1, "x\r\nMAIL FROM:<a>"), "XCLIENT HELO", "HELO=x+0D+0AMAIL+20FROM:<a>"),
        (Client("192.0.2.7", 1, "山\udcff"), "XCLIENT HELO", "HELO=+E5+B1+B1+FF"),
        (Client("192.0.2.7", 1, "h" * 1000), "XCLIENT HELO", "HELO=" + "h" * 255),
    ],
)
async def test_xclient_says_what_it_may(client: Client, offered: str, said: str) -> None:
    async with ScriptedUpstream(HELLO, extensions=(offered,)) as upstream:
        await carries_a_mail(await connected(upstream, client, "xclient"))
        assert introduced(upstream) == [f"XCLIENT {said}".encode()]
        assert upstream.commands[:3] == [b"EHLO relay.test", introduced(upstream)[0], b"EHLO relay.test"]


async def test_xclient_is_said_over_tls_only_where_tls_is_wanted() -> None:
    said_over_tls = []

    async def hello(peer: Peer) -> bytes:
        said_over_tls.append(peer.tls)
        return b"220 hello again\r\n"

    async with ScriptedUpstream({b"XCLIENT": hello}, extensions=(ALL,), ssl_context=certificate()) as upstream:
        await carries_a_mail(await connected(upstream, CLIENT, "xclient", tls="starttls"))
        assert said_over_tls == [True]
        assert upstream.commands[:2] == [b"EHLO relay.test", b"STARTTLS"]


async def test_what_is_offered_behind_xclient_is_what_counts() -> None:
    async def for_this_client(peer: Peer) -> bytes:
        peer.upstream.extensions = ("SIZE 1000",)
        return b"220 hello again\r\n"

    async with ScriptedUpstream({b"XCLIENT": for_this_client}, extensions=(ALL, "DSN")) as upstream:
        session = await connected(upstream, CLIENT, "xclient")
        assert session.extensions == {"SIZE": "1000"}
        session.abort()


async def test_xclient_that_is_not_offered_is_said_clearly() -> None:
    async with ScriptedUpstream() as upstream:
        with pytest.raises(UpstreamError, match="XCLIENT is configured and not offered to us"):
            await connected(upstream, CLIENT, "xclient")
        await until(lambda: upstream.peers[0].closed)
        assert upstream.commands == [b"EHLO relay.test"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"550 5.7.0 secret text\r\n", "XCLIENT was refused, with 550"),
        (b"421 4.3.2 secret text\r\n", "XCLIENT was refused, with 421"),
        (b"250 2.0.0 secret text\r\n", "XCLIENT was refused, with 250"),
        (b"220 hello\r\n250 more\r\n", "more than one reply"),
        (DROP, "connection lost while greeting"),
        (STALL, "timed out while greeting"),
    ],
)
async def test_xclient_that_is_refused_is_said_clearly(answer: bytes | Action, text: str) -> None:
    async with ScriptedUpstream({b"XCLIENT": answer}, extensions=(ALL,)) as upstream:
        with pytest.raises(UpstreamError) as caught:
            await connected(upstream, CLIENT, "xclient", timeouts=SHORT)
        assert text in str(caught.value) and "secret" not in str(caught.value) and "\n" not in str(caught.value)
        await until(lambda: upstream.peers[0].closed or answer is STALL)


async def test_nothing_is_said_of_the_client_without_being_asked_to() -> None:
    async with ScriptedUpstream(HELLO, extensions=(ALL,)) as upstream:
        await carries_a_mail(await connected(upstream, CLIENT, "none"))
        assert introduced(upstream) == []
