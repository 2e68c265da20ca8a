"""What `upstream` relies on in aiosmtplib 5.1.x, and the faults of it that must stay cured."""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version

import aiosmtplib
import pytest
from aiosmtplib.protocol import SMTPProtocol

from tests.smtp.peers import ScriptedUpstream


def test_the_versions_that_were_read() -> None:
    assert (5, 1, 2) <= tuple(int(part) for part in version("aiosmtplib").split(".")[:3]) < (6,)


async def test_what_is_taken_over() -> None:
    async with ScriptedUpstream() as upstream:
        client = aiosmtplib.SMTP(
            hostname="127.0.0.1",
            port=upstream.port,
            local_hostname="relay.test",
            timeout=5,
            use_tls=False,
            start_tls=False,
            tls_context=None,
        )
        await client.connect()
        assert upstream.commands == []  # no EHLO of its own accord
        await client.ehlo()
        assert isinstance(client.transport, asyncio.Transport)
        assert isinstance(client.protocol, SMTPProtocol)
        assert client.protocol._buffer == bytearray()
        assert client.esmtp_extensions["size"] == "10240000"
        assert client.supports_extension("dsn")
        # Whoever has the transport has the connection: the library's object neither closes nor reads it any more.
        seen = bytearray()

        class Ours(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                seen.extend(data)

        transport = client.transport
        transport.set_protocol(Ours())
        del client
        transport.write(b"NOOP\r\n")
        async with asyncio.timeout(5):
            while not seen.endswith(b"\r\n"):  # noqa: ASYNC110  # a test's wait
                await asyncio.sleep(0.01)
        assert seen == b"250 2.0.0 ok\r\n"
        transport.abort()


def test_starttls_drops_what_was_sent_in_clear() -> None:
    """GHSA-vxj7-4xrp-5vr4. The behaviour is tested in test_tls; this says where it lives."""
    source = inspect.getsource(SMTPProtocol.start_tls)
    assert source.index("del self._buffer[:]") < source.index("loop.start_tls")


def test_extensions_in_clear_are_forgotten_after_starttls() -> None:
    assert "_reset_server_state()" in inspect.getsource(aiosmtplib.SMTP.starttls)


@pytest.mark.parametrize(
    "name",
    [
        *("SMTPException", "SMTPConnectError", "SMTPConnectTimeoutError", "SMTPTimeoutError"),
        *("SMTPResponseException", "SMTPHeloError"),
    ],
)
def test_errors_by_stage(name: str) -> None:
    assert issubclass(getattr(aiosmtplib, name), Exception)
