"""The upstream side of one client session: commands as the client gave them, on a session that is reopened when lost.

Addresses and parameters go up verbatim; only SIZE is raised by the room that a spliced block needs. Raises
`UpstreamError` where nothing can have been delivered, `OutcomeUnknownError` where something may have been.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from relay_mta.core.envelope import Client
from relay_mta.core.errors import UpstreamError
from relay_mta.core.ports import Chunks, Upstream, UpstreamSession
from relay_mta.core.reply import LACKING, Reply

_NEEDS = {"BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN"}
"""Which extension a parameter belongs to (RFC 6152, 6531, 3461)."""

SIZE_MARGIN = 4096
"""Octets that a splice and a trace field may add to the size that the client declared (RFC 1870 §6.3: it may be an
estimate, but should not be too small)."""


class Line:
    """One upstream session at a time. `busy`: a transaction is open on it, or was left open.

    `offered`: the extensions that the client was told of at its EHLO.
    """

    def __init__(self, upstream: Upstream, learn: Callable[[Mapping[str, str]], None]) -> None:
        self._upstream = upstream
        self._learn = learn
        self._session: UpstreamSession | None = None
        self.busy = False
        self.offered: frozenset[str] = frozenset()

    @property
    def alive(self) -> bool:
        """Whether there is a session that has not been lost."""
        return self._session is not None and self._session.alive

    async def mail(self, client: Client, reverse_path: str, params: Sequence[str]) -> Reply:
        """MAIL, behind RSET where needed, on a new session where the last one is lost (idle ones get closed)."""
        fresh = not self.alive
        session = await self._open(client)
        try:
            return await self._mail(session, reverse_path, params)
        except UpstreamError:
            if fresh:
                raise
        return await self._mail(await self._open(client), reverse_path, params)

    async def rcpt(self, forward_path: str, params: Sequence[str]) -> Reply:
        """RCPT of the open transaction."""
        session = self._alive_session()
        if self._lacks(session, params):
            return LACKING
        return await session.command(_line("RCPT TO", forward_path, params))

    async def data(self, chunks: Chunks) -> Reply:
        """DATA and the mail; the reply to the final dot, or the refusal of DATA."""
        answer = await self._alive_session().data(chunks)
        self.busy = not answer.accepted
        return answer

    async def reset(self) -> None:
        """Leave the open transaction; a session that will not is given up."""
        if self._session is not None and self._session.alive and self.busy:
            try:
                answer = await self._session.command(b"RSET")
            except UpstreamError:
                return
            if not answer.accepted:
                self._session.abort()
        self.busy = False

    async def close(self) -> None:
        """End the session politely."""
        session, self._session = self._session, None
        self.busy = False
        if session is not None:
            await session.quit()

    def abort(self) -> None:
        """End the session at once."""
        session, self._session = self._session, None
        self.busy = False
        if session is not None:
            session.abort()

    def _lacks(self, session: UpstreamSession, params: Sequence[str]) -> bool:
        """Whether a parameter's extension was offered to the client, from what was known then, but is not there.

        The client must not be refused for good for having believed us: with its next EHLO it will know better. One
        that uses what it was not offered gets the upstream's own answer.
        """
        needed = {_NEEDS.get(param.partition("=")[0].upper()) for param in params} & self.offered
        return any(extension not in session.extensions for extension in needed)

    def _alive_session(self) -> UpstreamSession:
        if self._session is None or not self._session.alive:
            raise UpstreamError("the upstream closed the session")
        return self._session

    async def _open(self, client: Client) -> UpstreamSession:
        await self.reset()
        if self._session is None or not self._session.alive:
            self.abort()
            self._session = await self._upstream.open(client)
            self._learn(self._session.extensions)
        return self._session

    async def _mail(self, session: UpstreamSession, reverse_path: str, params: Sequence[str]) -> Reply:
        if self._lacks(session, params):
            return LACKING
        self.busy = True
        return await session.command(_line("MAIL FROM", reverse_path, _sized(params, session.extensions.get("SIZE"))))


def _line(verb: str, path: str, params: Sequence[str]) -> bytes:
    return " ".join((f"{verb}:<{path}>", *params)).encode("utf-8", "surrogateescape")


def _sized(params: Sequence[str], limit: str | None) -> list[str]:
    """The parameters with SIZE raised by the margin, but not over the upstream's own limit; without it where the
    upstream knows no SIZE (it is a hint only)."""
    out = []
    for param in params:
        keyword, _, value = param.partition("=")
        if keyword.upper() == "SIZE" and limit is None:
            continue
        if keyword.upper() == "SIZE" and value.isdecimal() and len(value) <= 20 and limit is not None:
            size, most = int(value), int(limit) if limit.isdecimal() else 0
            raised = size + SIZE_MARGIN
            out.append(f"SIZE={max(size, min(raised, most)) if most else raised}")
        else:
            out.append(param)
    return out
