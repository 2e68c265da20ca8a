"""Everything private of aiosmtpd 1.4.6 (and of the stream classes under it) that we override or use.

A new version that changes one of these must be read before it is let in.
"""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version

import pytest
from aiosmtpd.smtp import SMTP

from relay_mta.smtp import connection
from relay_mta.smtp.connection import Connection
from relay_mta.smtp.introduction import Introduction
from relay_mta.smtp.session import Session
from tests.smtp.fronts import until

OVERRIDDEN = {
    "connection_made": "(self, transport: asyncio.transports.BaseTransport) -> None",
    "connection_lost": "(self, error: Optional[Exception]) -> None",
    "eof_received": "(self) -> Optional[bool]",
    "_reset_timeout": "(self, duration: Optional[float] = None) -> None",
    "_handle_client": "(self) -> None",
}
COMMANDS = {"EHLO", "HELO", "STARTTLS", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP", "EXPN", "AUTH"}


def test_the_version_that_was_read() -> None:
    assert version("aiosmtpd") == "1.4.6"


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_overridden_methods_are_what_they_were(name: str) -> None:
    assert str(inspect.signature(getattr(SMTP, name))).replace("'", "") == OVERRIDDEN[name]
    ours = {**vars(Connection), **vars(Introduction), **vars(Session)}
    assert name in ours
    assert list(inspect.signature(ours[name]).parameters) == list(inspect.signature(getattr(SMTP, name)).parameters)


def test_every_command_of_theirs_is_one_of_ours() -> None:
    """A command that we forgot would be answered by aiosmtpd, in its own way."""
    theirs = {name.removeprefix("smtp_") for name in dir(SMTP) if name.startswith("smtp_")}
    assert theirs == COMMANDS
    ours = {name.removeprefix("smtp_") for name in {**vars(Introduction), **vars(Session)} if name.startswith("smtp_")}
    assert ours == COMMANDS | {"BDAT"}


def test_no_name_of_ours_hides_one_of_theirs() -> None:
    ours = {**vars(Connection), **vars(Introduction), **vars(Session)}
    mine = {name for name in ours if not name.startswith("__")}
    meant = set(OVERRIDDEN) | {f"smtp_{verb}" for verb in COMMANDS} | {"line_length_limit", "data_received"}
    assert mine & set(dir(SMTP)) == meant


async def test_attributes_that_we_read() -> None:
    class Plain(SMTP):
        async def _handle_client(self) -> None:
            pass

    protocol = Plain(None, hostname="x", loop=asyncio.get_running_loop())
    instance = set(vars(protocol))
    assert {"_smtp_methods", "_handler_coroutine", "transport", "loop", "hostname"} <= instance
    # Attributes of ours must not be theirs.
    for name in ("_listener", "_limits", "_client", "_conversation", "_bytes_in", "_ending", "_waiting", "_bad"):
        assert name not in instance
    assert protocol._smtp_methods["NOOP"] == protocol.smtp_NOOP
    here, there = asyncio.StreamReaderProtocol, Plain
    server = await asyncio.get_running_loop().create_server(lambda: protocol, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await until(lambda: protocol._handler_coroutine)
    assert isinstance(protocol._reader, asyncio.StreamReader)
    assert isinstance(protocol._writer, asyncio.StreamWriter)
    assert isinstance(protocol._handler_coroutine, asyncio.Task)
    # Of asyncio itself: the buffer is what stands between TLS and commands sent in clear, and the first line's end.
    assert isinstance(protocol._reader._buffer, bytearray)  # type: ignore[attr-defined]
    assert protocol._reader._transport is protocol._writer.transport  # type: ignore[attr-defined]
    assert issubclass(there, here)
    timer = protocol._timeout_handle
    if timer is not None:
        timer.cancel()
    writer.close()
    server.close()


def test_size_limits_are_shared_by_the_class() -> None:
    """The reason for `command_size_limits` of our own."""
    assert isinstance(SMTP.command_size_limits, dict)
    assert "self.command_size_limits.clear()" in inspect.getsource(SMTP.__init__)


def test_the_buffer_of_tls_is_used_within_one_callback() -> None:
    """The reason why one may serve all sessions, and why it has to be so long."""
    from asyncio import sslproto

    protocol = sslproto.SSLProtocol
    assert protocol.max_size == len(connection._TLS_BUFFER) == 256 * 1024
    fill = inspect.getsource(protocol.get_buffer)
    assert "len(self._ssl_buffer) < want" in fill and "return self._ssl_buffer_view" in fill
    assert "self._incoming.write(self._ssl_buffer_view[:nbytes])" in inspect.getsource(protocol.buffer_updated)
    assert "_ssl_buffer" not in inspect.getsource(protocol._do_read)
