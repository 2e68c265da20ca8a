"""One client session's side of the relay: who it is, MAIL and RCPT mirrored live upstream, DATA as a transaction.

Fulfils `core.ports.Front` and `core.ports.Conversation`. The upstream session opens at AUTH or at the first MAIL, never
at the greeting. Whatever the upstream answers is the client's answer; whatever fails here is 451, or 454 for a login.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from relay_mta import maillog
from relay_mta.core import keys
from relay_mta.core.envelope import Client, Envelope, Recipient
from relay_mta.core.errors import LoginError, RelayError, UpstreamBusyError, UpstreamError
from relay_mta.core.ip import household
from relay_mta.core.lockout import Lockout
from relay_mta.core.reply import (
    AUTH_OK,
    AUTH_REFUSED,
    AUTH_REQUIRED,
    AUTH_TROUBLE,
    LOGIN_FAILED,
    NOT_A_SENDER,
    NOT_ALLOWED,
    TROUBLE,
    UPSTREAM_AWAY,
    UPSTREAM_BUSY,
    UPSTREAM_LOST,
    Reply,
)
from relay_mta.core.sasl import Credentials
from relay_mta.gate import Admission, Gate, admitted, common_extensions, common_mechanisms
from relay_mta.line import Line
from relay_mta.relay import Transaction
from relay_mta.setting import Setting

TRIES_OF_A_CLIENT = 10
"""Refused logins in a row from one address, whoever they were for: more people than a house has mistype less often."""


class Relay:
    """What stands behind every listener. `setting` gives a company's present one: rules change between mails; `secret`
    is the installation's."""

    def __init__(
        self, gates: Sequence[Gate], setting: Callable[[str], Setting], *, secret: bytes, max_size: int
    ) -> None:
        self.gates = tuple(gates)
        self.setting = setting
        self.secret = secret
        self.max_size = max_size
        self.logins = Lockout()
        self.clients = Lockout(tries=TRIES_OF_A_CLIENT)

    def conversation(self, client: Client) -> RelayConversation | Reply:
        """The side of a client that may belong to a company; a stranger gets a refusal for a greeting."""
        admission = admitted(self.gates, client)
        if not admission.possible:
            maillog.stranger(client=client.address)
            return NOT_ALLOWED
        return RelayConversation(self, admission)


class RelayConversation:
    """The mirrored transaction of one client session."""

    def __init__(self, relay: Relay, admission: Admission) -> None:
        self._relay = relay
        self._admission = admission
        self._gate: Gate | None = None  # once it is certain; it may be another for the next mail
        self._line: Line | None = None
        self._logged_in = False
        self._attempt: tuple[bytes, bytes] | None = None  # what a login is counted by: itself, and the client
        self._offered: frozenset[str] = frozenset()
        self._id = "-"  # of the transaction, from MAIL on
        self._client: Client | None = None
        self._reverse_path = ""
        self._params: tuple[str, ...] = ()
        self._recipients: list[Recipient] = []
        self._transaction: Transaction | None = None

    # -- who it is --

    @property
    def _possible(self) -> tuple[Gate, ...]:
        return (self._gate,) if self._logged_in and self._gate is not None else self._admission.possible

    def extensions(self) -> tuple[str, ...]:
        """What the upstreams of the companies that this may be all offer, and we can carry."""
        found = common_extensions(self._possible, self._relay.max_size)
        self._offered = frozenset((*found, "AUTH") if self.mechanisms() else found)
        return tuple(f"{name} {value}".rstrip() for name, value in found.items())

    def mechanisms(self) -> tuple[str, ...]:
        """As the port says."""
        return common_mechanisms(self._admission.by_login)

    async def auth(self, client: Client, credentials: Credentials) -> Reply:
        """A login: at the company's upstream, or with its own users."""
        gate = self._admission.of_login(credentials.login)
        company = gate.company.id if gate else "-"
        login = keys.login_key(self._relay.secret, company, credentials.login, credentials.secret)
        self._attempt = (login, household(client.address).encode())
        now = time.monotonic()
        if self._relay.logins.left(login, now) or self._relay.clients.left(self._attempt[1], now):
            # Not told apart from a refusal of the upstream's: a guesser learns nothing from it.
            maillog.login(company=company, client=client.address, code=AUTH_REFUSED.code, locally=True)
            return AUTH_REFUSED
        if gate is None:
            return self._answered(AUTH_REFUSED, company, client)
        return await self._at(gate, client, lambda: self._tried(gate, client, credentials))

    async def respond(self, response: bytes) -> Reply:
        """As the port says."""
        gate, client = self._gate, self._client
        assert gate is not None and client is not None
        return await self._at(gate, client, lambda: self._the_line().respond(response))

    async def _at(self, gate: Gate, client: Client, step: Callable[[], Awaitable[Reply]]) -> Reply:
        """One step of a login, whatever comes of it."""
        company = gate.company.id
        self._client = client
        try:
            answer = await step()
        except RelayError as error:
            maillog.upstream_trouble(id="-", company=company, stage="auth", error=error)
            self._give_up_line()
            answer = AUTH_TROUBLE
        except Exception as error:
            maillog.defect(error)
            self._give_up_line()
            answer = AUTH_TROUBLE
        return answer if answer.intermediate else self._answered(answer, company, client)

    async def _tried(self, gate: Gate, client: Client, credentials: Credentials) -> Reply:
        await self._enter(gate)
        if gate.users is not None:
            good = await gate.users.verify(credentials.login, credentials.secret)
            return AUTH_OK if good and not credentials.acts_for else AUTH_REFUSED
        return await self._the_line().auth(client, credentials)

    def _answered(self, answer: Reply, company: str, client: Client) -> Reply:
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        now = time.monotonic()
        if answer.accepted:
            self._logged_in = True
            self._relay.logins.accepted(attempt[0])
            self._relay.clients.accepted(attempt[1])
        elif answer.refused:
            self._relay.logins.refused(attempt[0], now)
            self._relay.clients.refused(attempt[1], now)
        maillog.login(company=company, client=client.address, code=answer.code, locally=False)
        return answer

    async def _enter(self, gate: Gate) -> None:
        """From now on the session is this company's."""
        if self._gate is not gate or self._line is None:
            if self._line is not None:
                await self._line.close()
            self._gate, self._line = gate, Line(gate.upstream, gate.learn, gate.login)
        self._line.offered = self._offered

    def _the_line(self) -> Line:
        assert self._line is not None
        return self._line

    def _sender(self, reverse_path: str) -> Gate | Reply:
        """Whose mail it is, or why nobody's."""
        if self._logged_in and self._gate is not None:
            return self._gate
        if not self._admission.by_network:
            return AUTH_REQUIRED
        return self._admission.of_sender(reverse_path) or NOT_A_SENDER

    # -- the mirrored transaction --

    async def mail(self, client: Client, reverse_path: str, params: tuple[str, ...]) -> Reply:
        """MAIL, mirrored live."""
        self._client, self._reverse_path, self._params, self._recipients = client, reverse_path, params, []
        gate = self._sender(reverse_path)
        if isinstance(gate, Reply):
            maillog.refused(id="-", company="-", stage="mail", code=gate.code, enhanced=gate.enhanced)
            return gate
        try:
            await self._enter(gate)
            self._id = self._relay.setting(gate.company.id).unique()
            answer = await self._the_line().mail(client, reverse_path, params)
        except UpstreamError as error:
            self._give_up_line()
            maillog.upstream_trouble(id=self._id, company=gate.company.id, stage="mail", error=error)
            answer = _away(error)
        except Exception as error:
            return self._defect(error)
        if not answer.accepted:
            await self._the_line().rest()
        return self._told("mail", answer)

    async def rcpt(self, forward_path: str, params: tuple[str, ...]) -> Reply:
        """RCPT, mirrored live."""
        try:
            answer = await self._the_line().rcpt(forward_path, params)
        except UpstreamError as error:
            maillog.upstream_trouble(id=self._id, company=self._company_id, stage="rcpt", error=error)
            answer = error.farewell or UPSTREAM_LOST
        except Exception as error:
            return self._defect(error)
        if answer.accepted:
            self._recipients.append(Recipient(forward_path, params))
        return self._told("rcpt", answer)

    async def data(self, raw: bytes, *, normalised: bool) -> Reply:
        """One mail: the reply is final."""
        gate, client = self._gate, self._client
        assert gate is not None and client is not None
        envelope = Envelope(self._reverse_path, tuple(self._recipients), self._params)
        self._transaction = Transaction(
            self._relay.setting(gate.company.id),
            gate.company,
            self._the_line(),
            client,
            envelope,
            id=self._id,
            shared_network=not self._logged_in and gate.shared(client),
        )
        try:
            return await self._transaction.run(raw, normalised=normalised)
        except Exception as error:
            return self._defect(error)

    async def written(self) -> None:
        """The final reply reached the client."""
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            await transaction.written()
        await self._rest()

    async def reset(self) -> None:
        """The transaction ends without a reply that reached the client."""
        self._abandon()
        self._recipients = []
        await self._rest()

    async def close(self) -> None:
        """The session ended."""
        self._abandon()
        if self._line is not None:
            await asyncio.shield(self._line.leave())

    async def _rest(self) -> None:
        if self._line is not None:
            await self._line.rest()

    def _abandon(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.abandon()

    @property
    def _company_id(self) -> str:
        return self._gate.company.id if self._gate is not None else "-"

    def _told(self, stage: str, answer: Reply) -> Reply:
        """What the client is told of a command; what it is refused has its line."""
        if not answer.accepted:
            company = self._company_id
            maillog.refused(id=self._id, company=company, stage=stage, code=answer.code, enhanced=answer.enhanced)
        return answer

    def _give_up_line(self) -> None:
        if self._line is not None:
            self._line.abort()

    def _defect(self, error: Exception) -> Reply:
        """A defect of ours: the client keeps the mail, nobody sees our text, the upstream session is not trusted."""
        maillog.defect(error)
        self._give_up_line()
        return TROUBLE


def _away(error: UpstreamError) -> Reply:
    """What a client is told of an upstream that it cannot have now."""
    if isinstance(error, UpstreamBusyError):
        return UPSTREAM_BUSY
    return LOGIN_FAILED if isinstance(error, LoginError) else UPSTREAM_AWAY
