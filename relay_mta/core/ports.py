"""The interfaces between rooms. They live here, inward; the objects that fulfil them meet in `app.py` only.

`smtp.server` speaks to a `Front` (fulfilled by `relay`), `relay` to an `Upstream` and a `Ledger`, `web` to a `Links`,
our login at an upstream to a `Tokens` (fulfilled by `oauth`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from relay_mta.core.envelope import Client
from relay_mta.core.record import Record
from relay_mta.core.reply import Reply
from relay_mta.core.sasl import Credentials

Chunks = Sequence[bytes | memoryview]
"""A mail as pieces to be sent one behind the other: untouched stretches are views of the bytes that the client sent."""


# --- upstream -------------------------------------------------------------------------------------------------------


class UpstreamSession(Protocol):
    """One connection to an upstream, past EHLO. Not for concurrent use.

    `extensions` maps upper-case EHLO keywords to their parameters ("SIZE" → "10240000").
    """

    @property
    def extensions(self) -> Mapping[str, str]:
        """As the class says."""
        ...

    @property
    def reused(self) -> bool:
        """It was open before, and is past the relay's own login if there is one: it may have died unnoticed."""
        ...

    @property
    def alive(self) -> bool:
        """False once the connection is known to be lost or must not be used again (421, a malformed reply)."""
        ...

    @property
    def farewell(self) -> Reply | None:
        """The 421 by which the upstream closed the session unasked, if it did."""
        ...

    async def command(self, line: bytes) -> Reply:
        """Send one command line (no CR, LF or NUL; CRLF is added) and read its reply.

        Raises `UpstreamError` when the session is lost or the reply is malformed or of an impossible class.
        """
        ...

    async def data(self, chunks: Chunks) -> Reply:
        """Send DATA; if the upstream answers 354, the dot-stuffed mail and the final dot. Returns the refusal of DATA
        or the reply to the final dot.

        Raises `UpstreamError` if the session broke before the final dot was sent, `OutcomeUnknownError` after it.
        """
        ...

    async def park(self, *, share: bool) -> bool:
        """No transaction is open, and none is wanted for now. True: the session is given back and must not be used any
        more. False: it stays the caller's, but may be closed to make room for another. `share`: others may have it."""
        ...

    async def quit(self) -> None:
        """Say QUIT if the session is alive and close it; never raises, takes at most a few seconds."""
        ...

    def abort(self) -> None:
        """Close the connection at once."""
        ...


class Upstream(Protocol):
    """A company's outbound server."""

    async def open(self, client: Client, *, login: str | None = None, fresh: bool = False) -> UpstreamSession:
        """A session past EHLO: connected, secured and greeted, or one that was parked.

        `login`: of a client who will log in on it, so that nobody else gets it; None: the session is the relay's own.
        `fresh`: not a parked one. Raises `UpstreamError` with one line for the log, `UpstreamBusyError` if there was no
        room for another session in good time.
        """
        ...


class Login(Protocol):
    """The relay's own login at an upstream."""

    async def credentials(self, offered: str) -> Credentials:
        """What to log in with; `offered` is the parameter of the upstream's AUTH line. Raises `UpstreamError`."""
        ...

    def answered(self, answer: Reply) -> str:
        """Take the upstream's answer to them; returns what an operator should know of a refusal, in one line."""
        ...


# --- tokens ---------------------------------------------------------------------------------------------------------


class Tokens(Protocol):
    """The access tokens of our own login at an upstream (SASL XOAUTH2), for all of its sessions."""

    async def token(self) -> str:
        """A valid access token: visible ASCII, of no space. Raises `LoginError`."""
        ...

    def refused(self) -> None:
        """The upstream did not take the last one: a new one is fetched next time, but at most one a minute for this
        reason, so that an upstream that refuses every token does not make us hammer the token endpoint."""
        ...


# --- front (what the SMTP server drives) ----------------------------------------------------------------------------


class Conversation(Protocol):
    """One client session's side of the relay. Methods are called one at a time, in SMTP's order.

    None of them raises, but for cancellation.
    """

    def extensions(self) -> tuple[str, ...]:
        """EHLO lines beyond those that are the server's own (PIPELINING, ENHANCEDSTATUSCODES, STARTTLS), such as
        "SIZE 10240000", "8BITMIME", "SMTPUTF8", "DSN"."""
        ...

    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms that `auth` takes at present; none: AUTH is not offered."""
        ...

    async def auth(self, client: Client, credentials: Credentials) -> Reply:
        """A login: 235, a refusal, or a 334 that wants one more `respond`."""
        ...

    async def respond(self, response: bytes) -> Reply:
        """The client's line behind a 334 of `auth`, as it came."""
        ...

    async def mail(self, client: Client, reverse_path: str, params: tuple[str, ...]) -> Reply:
        """MAIL, mirrored live."""
        ...

    async def rcpt(self, forward_path: str, params: tuple[str, ...]) -> Reply:
        """RCPT, mirrored live."""
        ...

    async def data(self, raw: bytes, *, normalised: bool) -> Reply:
        """One mail's bytes, dots unstuffed, every line ended by CRLF; `normalised`: bare CR or LF had to be mended.

        Returns the final reply. `written` or `reset` follows.
        """
        ...

    async def written(self) -> None:
        """The final reply was written to a client that was still connected."""
        ...

    async def reset(self) -> None:
        """RSET, a new EHLO, or a client that left in mid-transaction."""
        ...

    async def close(self) -> None:
        """The session ended, however it ended."""
        ...


class Front(Protocol):
    """What stands behind a listener."""

    def conversation(self, client: Client) -> Conversation | Reply:
        """The relay's side of a new session, or the 5yz greeting of a client that may not send here."""
        ...


# --- signing --------------------------------------------------------------------------------------------------------


class Signing(Protocol):
    """A company's DKIM key."""

    def signed(self, mail: Chunks) -> Chunks:
        """The mail with a DKIM-Signature more on top; takes long for a large mail. Raises `SpliceError("dkim")`."""
        ...


# --- ledger ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidacy:
    """One candidate of one mail, to be held before its copy is sent.

    `copy_key` (this very mail to this candidate) makes the hold idempotent; `candidate_key` (this candidate at this
    company, whatever the mail) makes the count and gives a resend the same link. Both are keyed hashes, hex.
    `address`, `sender` and `message_id` go to the erasable personal record and nowhere else.
    """

    company: str
    copy_key: str
    candidate_key: str
    ruleset: str
    verdict: str
    address: str
    sender: str
    message_id: str
    language: str


EntryState = Literal["held", "relayed", "visited", "registered", "released", "reversed"]


@dataclass(frozen=True, slots=True)
class Held:
    """A durable hold: `relay` identifies it, `token` is what the candidate's link carries.

    `in_doubt`: it was held before, by an attempt whose outcome nobody knows.
    """

    relay: str
    company: str
    token: str
    state: EntryState
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class LinkTarget:
    """What a token leads to. Nothing about the candidate but the language of the mail."""

    company: str
    relay: str
    language: str
    held_at: datetime


class Links(Protocol):
    """What the web needs of the ledger."""

    async def by_token(self, token: str) -> LinkTarget | None:
        """The relay that a token belongs to; None for unknown, erased or malformed tokens, in the same time."""
        ...

    async def suppress(self, token: str) -> bool:
        """The token's candidate wants no link again from this company: every later `hold` of them raises
        `OptedOutError`. Durable, idempotent; False for a token that `by_token` does not know."""
        ...


class Ledger(Links, Protocol):
    """Credit entries and delivery records of one or many companies. Every method that writes is durable on return and
    raises `LedgerError` if it could not be; none of them is ever retried blindly by its caller."""

    async def hold(self, candidacy: Candidacy) -> Held:
        """Hold a candidacy, or return the hold that this copy key has already (re-held if it was released).

        Raises `OptedOutError`.
        """
        ...

    async def settle(self, held: Held) -> None:
        """The upstream accepted the spliced copy: held → relayed. Idempotent."""
        ...

    async def release(self, held: Held, reason: str) -> None:
        """The spliced copy was not delivered: held → released. A settled relay stays settled. Idempotent."""
        ...

    async def pending(self, mail_key: str) -> bool:
        """Whether an attempt at this mail is running or its delivery record is open."""
        ...

    async def claim(self, mail_key: str) -> Record | None:
        """Take the delivery record of this mail for one attempt, if there is an open one (None: there is none yet, and
        the mail is claimed all the same). Raises `AlreadyClaimedError` while another attempt holds it."""
        ...

    async def record(self, mail_key: str, record: Record) -> None:
        """Write a claimed mail's delivery record, whole."""
        ...

    async def close_record(self, mail_key: str) -> None:
        """The final 2xx reached the client: forget the record."""
        ...

    def unclaim(self, mail_key: str) -> None:
        """The attempt ended; the record stays as last written."""
        ...


class AlreadyClaimedError(Exception):
    """Another attempt at the same mail is running."""


class OptedOutError(Exception):
    """The candidate has said that they never want a link again."""
