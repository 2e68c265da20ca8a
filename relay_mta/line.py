"""The upstream side of one client session: commands as the client gave them, on a session that is reopened when lost.

Addresses and parameters go up verbatim; only SIZE is raised by the room that a spliced block needs, and AUTH= is kept
back from an upstream without AUTH. Raises `UpstreamError` where nothing can have been delivered, `OutcomeUnknownError`
where something may have been.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

from relay_mta.core.envelope import Client
from relay_mta.core.errors import LoginError, UpstreamError
from relay_mta.core.ports import Chunks, Login, Upstream, UpstreamSession
from relay_mta.core.reply import LACKING, Reply
from relay_mta.core.sasl import Credentials, dialog

_NEEDS = {"BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN", "NOTIFY": "DSN", "ORCPT": "DSN"}
"""Which extension a parameter belongs to (RFC 6152, 6531, 3461)."""

SIZE_MARGIN = 4096
"""Octets that a splice and a trace field may add to the size that the client declared (RFC 1870 §6.3: it may be an
estimate, but should not be too small)."""


class Line:
    """One upstream session at a time. `busy`: a transaction is open on it, or was left open.

    `own`: the relay's own login, if it has one; a client's login replaces it (`auth`). `offered`: the extensions that
    the client was told of at its EHLO.
    """

    def __init__(self, upstream: Upstream, learn: Callable[[Mapping[str, str]], None], own: Login | None) -> None:
        self._upstream = upstream
        self._learn = learn
        self._own = own
        self._session: UpstreamSession | None = None
        self._proving: Credentials | None = None  # whose answer is still to come
        self._credentials: Credentials | None = None  # that the upstream accepted, to log in again on a new session
        self._fit = False  # the last transaction ended with an accepted mail
        self.busy = False
        self.offered: frozenset[str] = frozenset()

    @property
    def alive(self) -> bool:
        """Whether there is a session that has not been lost."""
        return self._session is not None and self._session.alive

    async def auth(self, client: Client, credentials: Credentials) -> Reply:
        """The client's login, on a session of its own; the upstream's answer, or a 334 that wants a `respond`.

        Meanwhile the session may be closed for another: somebody who never responds must not keep others out.
        """
        self.abort()
        self._session = await self._upstream.open(client, login=credentials.login)
        self._learn(self._session.extensions)
        self._proving = credentials
        return await self._proved(await _carried(self._session, dialog(credentials)))

    async def respond(self, response: bytes) -> Reply:
        """The client's response to a 334 of `auth`, as it came (base64)."""
        return await self._proved(await self._alive_session().command(response))

    async def _proved(self, answer: Reply) -> Reply:
        if answer.intermediate:
            await self._alive_session().park(share=False)  # a client's own: it stays here
            return answer
        credentials, self._proving = self._proving, None
        if answer.accepted:
            self._credentials = credentials
            await self.rest()
        else:
            await self.close()
        return answer

    async def mail(self, client: Client, reverse_path: str, params: Sequence[str]) -> Reply:
        """MAIL, behind RSET where needed; on a new session where an old one turns out to be lost (idle ones get closed,
        some with a 421 that crosses our MAIL)."""
        old = self.alive
        session = await self._open(client)
        old = old or session.reused
        try:
            answer = await self._mail(session, reverse_path, params)
        except UpstreamError:
            if not old:
                raise
        else:
            if answer.code != 421 or not old:
                return answer
        return await self._mail(await self._open(client, fresh=True), reverse_path, params)

    async def rcpt(self, forward_path: str, params: Sequence[str]) -> Reply:
        """RCPT of the open transaction."""
        session = self._alive_session()
        if self._lacks(session, params):
            return LACKING
        return await session.command(_line("RCPT TO", forward_path, params))

    async def data(self, chunks: Chunks) -> Reply:
        """DATA and the mail; the reply to the final dot, or the refusal of DATA."""
        answer = await self._alive_session().data(chunks)
        self._fit = answer.accepted
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

    async def rest(self) -> None:
        """No transaction is wanted for now: leave the open one, and let others have the session.

        Only behind a mail that was accepted: servers count a session's errors, and remember a size that was refused
        (Postfix: `smtpd_hard_error_limit`), until then. What one client has done must not be held against another.
        """
        await self.reset()
        if self._session is not None and await self._session.park(share=self._fit):
            self._session = None

    async def leave(self) -> None:
        """The client is gone: its own session ends, one of the relay's goes back."""
        await self.rest()
        await self.close()

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
            farewell = self._session.farewell if self._session is not None else None
            raise UpstreamError("the upstream closed the session", farewell=farewell)
        return self._session

    async def _open(self, client: Client, *, fresh: bool = False) -> UpstreamSession:
        """The session for a transaction: the one at hand, or another, logged in."""
        await self.reset()
        if self._session is None or not self._session.alive or fresh:
            self.abort()
            login = self._credentials.login if self._credentials else None
            self._session = await self._upstream.open(client, login=login, fresh=fresh)
            try:
                await self._log_in(self._session)
            except BaseException:
                self.abort()
                raise
            self._learn(self._session.extensions)
        return self._session

    async def _log_in(self, session: UpstreamSession) -> None:
        """Log in on a new session: as the client, or as the relay."""
        if self._credentials is not None:
            answer = await _decided(session, self._credentials)
            if not answer.accepted:
                raise LoginError(f"a client's login, accepted before, was answered with {answer.code} this time")
        elif self._own is not None and not session.reused:
            answer = await _decided(session, await self._own.credentials(session.extensions.get("AUTH", "")))
            said = self._own.answered(answer)
            if not answer.accepted:
                raise LoginError(said)

    async def _mail(self, session: UpstreamSession, reverse_path: str, params: Sequence[str]) -> Reply:
        if self._lacks(session, params):
            return LACKING
        # Behind a refusal, too: some servers keep what they refused until a RSET.
        self.busy, self._fit = True, False
        given = _sized(params, session.extensions.get("SIZE"))
        if "AUTH" in self.offered and "AUTH" not in session.extensions:
            # RFC 4954 §5: it goes on only where it is known.
            given = [each for each in given if each.partition("=")[0].upper() != "AUTH"]
        return await session.command(_line("MAIL FROM", reverse_path, given))


async def _decided(session: UpstreamSession, credentials: Credentials) -> Reply:
    """Log in on a session, with nobody to ask: the upstream's last word."""
    answer = await _carried(session, dialog(credentials))
    # RFC 7628 §3.2.3: behind the reasons for a refusal an empty response brings the refusal itself.
    return await session.command(b"") if answer.intermediate else answer


async def _carried(session: UpstreamSession, steps: Generator[bytes, Reply, Reply]) -> Reply:
    """Carry out a dialog; its last reply."""
    try:
        line = next(steps)
        while True:
            line = steps.send(await session.command(line))
    except StopIteration as stop:
        answer: Reply = stop.value
        return answer


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
        if keyword.upper() == "SIZE" and value.isascii() and value.isdigit() and len(value) <= 20 and limit is not None:
            size, most = int(value), int(limit) if limit.isdecimal() else 0
            raised = size + SIZE_MARGIN
            out.append(f"SIZE={max(size, min(raised, most)) if most else raised}")
        else:
            out.append(param)
    return out
