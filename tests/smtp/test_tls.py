"""TLS on both sides: what is offered, what is refused, and that nothing said in clear is believed afterwards."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamError
from relay_mta.core.timeouts import Timeouts
from relay_mta.smtp.census import Census
from relay_mta.smtp.limits import Limits
from relay_mta.smtp.tls import Certificate, client_context, server_context
from relay_mta.smtp.upstream import SmtpUpstream, UpstreamTls
from tests.smtp.clients import Dialog
from tests.smtp.fronts import Recorder, stand, until
from tests.smtp.peers import STALL, Peer, ScriptedUpstream

CERTIFICATES = Path(__file__).parent / "certificates"
CA = CERTIFICATES / "ca.pem"


def certificate(name: str = "localhost") -> ssl.SSLContext:
    return server_context(CERTIFICATES / f"{name}.pem")


# --- listeners ---


async def test_starttls_listener() -> None:
    front = Recorder()
    async with stand(front, tls="starttls", ssl_context=certificate()) as it, Dialog(it.port) as client:
        assert b"STARTTLS" in await client.ehlo()
        assert (await client.say(b"STARTTLS now")).startswith(b"501")
        await client.say(b"MAIL FROM:<in-clear@client.test>")
        assert (await client.start_tls(client_context(CA))).startswith(b"220")
        # RFC 3207 §4.2: everything from before is forgotten.
        assert (await client.say(b"RCPT TO:<b@there.test>")).startswith(b"503")
        assert (await client.say(b"MAIL FROM:<a@client.test>")).startswith(b"503")
        assert b"STARTTLS" not in await client.ehlo()
        assert (await client.say(b"STARTTLS")).startswith(b"503")
        assert (await client.envelope())[-1].startswith(b"354")
        big = b"x" * 3_000_000 + b"\r\n"
        await client.send(big + b".\r\n")
        assert (await client.reply()).startswith(b"250")
        assert (await client.say(b"QUIT")).startswith(b"221")
        assert await client.at_end()
        await until(lambda: it.listener.sessions == 0)
    assert front.mails == [big]
    assert [client.tls for client in front.clients] == [False, True]
    assert front.names == [
        "mail",
        "reset",
        "close",
        "reset",
        "mail",
        "rcpt",
        "data",
        "written",
        "close",
    ]  # STARTTLS, EHLO


async def test_implicit_tls_listener() -> None:
    front = Recorder()
    async with stand(front, tls="implicit", ssl_context=certificate(), name="submissions") as it:
        async with Dialog(it.port, ssl_context=client_context(CA)) as client:
            assert b"STARTTLS" not in await client.ehlo()
            assert (await client.envelope())[-1].startswith(b"354")
            assert (await client.say(b"x\r\n.")).startswith(b"250")
        await until(lambda: it.listener.sessions == 0)
    assert (front.clients[0].tls, front.clients[0].listener) == (True, "submissions")


async def test_who_does_not_even_shake_hands_is_counted_and_cut_off() -> None:
    census = Census(2, 1)
    options = {"tls": "implicit", "ssl_context": certificate(), "census": census, "limits": Limits(handshake=0.5)}
    async with stand(Recorder(), **options) as it:
        _, silent = await asyncio.open_connection("127.0.0.1", it.port)
        await until(lambda: census.present == 1)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with Dialog(it.port, ssl_context=client_context(CA)):
                pass
        await until(lambda: census.present == 0)  # the handshake's time is over
        silent.close()
        async with Dialog(it.port, ssl_context=client_context(CA)) as client:
            assert client.greeting.startswith(b"220")


async def test_commands_behind_starttls_are_not_obeyed() -> None:
    front = Recorder()
    async with stand(front, tls="starttls", ssl_context=certificate()) as it, Dialog(it.port) as client:
        await client.ehlo()
        await client.send(b"STARTTLS\r\nNOOP injected\r\nMAIL FROM:<evil@x>\r\n")
        assert await client.at_end()
        await until(lambda: it.listener.sessions == 0)
    assert "mail" not in front.names


@pytest.mark.parametrize("garbage", [b"EHLO in clear\r\nMAIL FROM:<evil@x>\r\n", b"\x16\x03\x01\x00\x05hello", b""])
async def test_a_handshake_that_is_none(garbage: bytes) -> None:
    front = Recorder()
    limits = Limits(handshake=0.3)
    async with stand(front, tls="starttls", ssl_context=certificate(), limits=limits) as it, Dialog(it.port) as client:
        await client.ehlo()
        assert (await client.say(b"STARTTLS")).startswith(b"220")
        await client.send(garbage)
        await until(lambda: it.listener.sessions == 0)
        assert front.names[-1] == "close"
        assert "mail" not in front.names


async def test_clear_text_after_close_notify_is_not_obeyed() -> None:
    front = Recorder()
    async with stand(front, tls="starttls", ssl_context=certificate()) as it, Dialog(it.port) as client:
        await client.ehlo()
        raw = client.writer.transport
        await client.start_tls(client_context(CA))
        await client.envelope()
        await client.send(b"Subject: x\r\n\r\nhalf")
        tls = client.writer.transport.get_extra_info("ssl_object")
        assert tls is not None
        client.writer.transport.close()  # close_notify
        await asyncio.sleep(0.05)
        sock = raw.get_extra_info("socket")
        assert sock is not None
        await until(lambda: it.listener.sessions == 0)
    assert front.mails == []
    assert front.names[-2:] == ["reset", "close"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_refused() -> None:
    old = client_context(CA)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with stand(Recorder(), tls="implicit", ssl_context=certificate()) as it:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with Dialog(it.port, ssl_context=old):
                pass


async def test_a_certificate_is_renewed_while_sessions_run(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_bytes((CERTIFICATES / "localhost.pem").read_bytes())
    ours = Certificate(file)
    async with (
        stand(Recorder(), tls="implicit", ssl_context=ours.context) as it,
        Dialog(it.port, ssl_context=client_context(CA)) as before,
    ):
        assert not ours.renew()  # nothing has changed
        file.write_bytes((CERTIFICATES / "elsewhere.pem").read_bytes())
        assert ours.renew()
        with pytest.raises(ssl.SSLCertVerificationError):
            async with Dialog(it.port, ssl_context=client_context(CA)):
                pass
        assert (await before.say(b"NOOP")).startswith(b"250")
        # Half of a new pair, or nothing at all: the certificate in use stays, and the files are looked at again.
        for broken in (b"", CA.read_bytes()):
            file.write_bytes(broken)
            with pytest.raises(OSError):
                ours.renew()
        file.unlink()
        with pytest.raises(OSError):
            ours.renew()
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            async with Dialog(it.port, ssl_context=client_context(CA)):
                pass
        file.write_bytes((CERTIFICATES / "localhost.pem").read_bytes())
        assert ours.renew()
        async with Dialog(it.port, ssl_context=client_context(CA)) as after:
            assert (await after.say(b"NOOP")).startswith(b"250")


def test_unusable_files_are_oserrors(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for path in (empty, tmp_path / "missing.pem", CA):
        with pytest.raises(OSError):
            server_context(path)
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(OSError):
            client_context(path)


# --- upstreams ---


def to(upstream: ScriptedUpstream, tls: UpstreamTls, host: str = "localhost") -> SmtpUpstream:
    timeouts = Timeouts(connect=1)
    return SmtpUpstream(host, upstream.port, hostname="relay.test", tls=tls, ca_file=CA, timeouts=timeouts)


@pytest.mark.parametrize("tls", ["opportunistic", "starttls"])
async def test_starttls_upstream(tls: UpstreamTls) -> None:
    async with ScriptedUpstream(ssl_context=certificate()) as upstream:
        session = await to(upstream, tls).connect(Client("127.0.0.1"))
        assert "STARTTLS" not in session.extensions  # what was offered in clear is forgotten
        assert (await session.command(b"MAIL FROM:<a@client.test>")).accepted
        assert (await session.command(b"RCPT TO:<b@there.test>")).accepted
        big = b"x" * 4_000_000 + b"\r\n"
        assert (await session.data([big])).accepted
        assert upstream.peers[0].tls
        assert upstream.mails[0].raw == big
        assert upstream.commands[:3] == [b"EHLO relay.test", b"STARTTLS", b"EHLO relay.test"]
        await session.quit()


async def test_implicit_tls_upstream() -> None:
    async with ScriptedUpstream(ssl_context=certificate(), implicit_tls=True) as upstream:
        session = await to(upstream, "implicit", "127.0.0.1").connect(Client("127.0.0.1"))
        assert (await session.command(b"MAIL FROM:<a@client.test>")).accepted
        await session.quit()


async def test_opportunistic_without_the_offer_goes_in_clear_and_none_never_asks() -> None:
    async with ScriptedUpstream() as upstream:
        session = await to(upstream, "opportunistic").connect(Client("127.0.0.1"))
        assert (await session.command(b"MAIL FROM:<a@client.test>")).accepted
        session.abort()
    async with ScriptedUpstream(ssl_context=certificate()) as upstream:
        session = await to(upstream, "none").connect(Client("127.0.0.1"))
        assert b"STARTTLS" not in upstream.commands
        session.abort()


async def test_required_and_stripped() -> None:
    async with ScriptedUpstream() as upstream:
        with pytest.raises(UpstreamError, match="STARTTLS is required and not offered"):
            await to(upstream, "starttls").connect(Client("127.0.0.1"))
        assert upstream.commands == [b"EHLO relay.test"]


@pytest.mark.parametrize("name", ["elsewhere", "expired"])
@pytest.mark.parametrize("tls", ["opportunistic", "starttls", "implicit"])
async def test_a_certificate_that_does_not_fit(name: str, tls: UpstreamTls) -> None:
    async with ScriptedUpstream(ssl_context=certificate(name), implicit_tls=tls == "implicit") as upstream:
        with pytest.raises(UpstreamError, match="certificate was not accepted"):
            await to(upstream, tls).connect(Client("127.0.0.1"))
        assert not any(line.startswith(b"MAIL") for line in upstream.commands)


async def test_an_unknown_authority() -> None:
    async with ScriptedUpstream(ssl_context=certificate(), implicit_tls=True) as upstream:
        system = SmtpUpstream("localhost", upstream.port, hostname="relay.test", tls="implicit")
        with pytest.raises(UpstreamError, match="certificate was not accepted"):
            await system.connect(Client("127.0.0.1"))


@pytest.mark.parametrize("tls", ["starttls", "opportunistic"])
async def test_replies_injected_in_clear_behind_220_end_the_connection(tls: UpstreamTls) -> None:
    injected = b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n"
    async with ScriptedUpstream({b"STARTTLS": injected}, ssl_context=certificate()) as upstream:
        with pytest.raises(UpstreamError, match="more than one reply"):
            await to(upstream, tls).connect(Client("127.0.0.1"))
        await until(lambda: upstream.peers[0].closed)
    assert not any(line.startswith((b"MAIL", b"AUTH")) for line in upstream.commands)


@pytest.mark.parametrize("answer", [b"454 4.7.0 not now\r\n", STALL])
async def test_starttls_refused(answer: object) -> None:
    async with ScriptedUpstream({b"STARTTLS": answer}, ssl_context=certificate()) as upstream:  # type: ignore[dict-item]
        for tls in ("starttls", "opportunistic"):
            with pytest.raises(UpstreamError):
                await to(upstream, tls).connect(Client("127.0.0.1"))  # type: ignore[arg-type]


async def test_a_handshake_that_hangs() -> None:
    async def hang(peer: Peer) -> None:
        await peer.say(b"220 go\r\n")
        await asyncio.sleep(3600)

    async with ScriptedUpstream({b"STARTTLS": hang}, ssl_context=certificate()) as upstream:
        with pytest.raises(UpstreamError):
            await to(upstream, "starttls").connect(Client("127.0.0.1"))
