"""One client session's side of the relay: MAIL and RCPT are mirrored live upstream, DATA becomes a transaction.

Fulfils `core.ports.Front` and `core.ports.Conversation`. The upstream session opens at the first MAIL and is kept for
the client's further transactions. Whatever the upstream answers is the client's answer; whatever fails here is 451.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from relay_mta import maillog
from relay_mta.core.company import Company
from relay_mta.core.envelope import Client, Envelope, Recipient
from relay_mta.core.errors import UpstreamError
from relay_mta.core.ports import Upstream
from relay_mta.core.reply import TROUBLE, UPSTREAM_AWAY, UPSTREAM_LOST, Reply, reply
from relay_mta.line import Line
from relay_mta.relay import Setting, Transaction

Network = IPv4Network | IPv6Network

NOT_ALLOWED = reply(554, "5.7.1 You are not allowed to send through this server")

CARRIED = ("8BITMIME", "SMTPUTF8", "DSN")
"""Extensions that pass through us without our help: their parameters go up verbatim."""


@dataclass(slots=True)
class Gate:
    """One company's way through: who may use it and where it leads.

    `extensions` is what its upstream offered when last asked, None before the first time. Until then all that we can
    carry is offered: a client that misses an extension may bounce a mail for good, while one that was promised too much
    gets a 451 (`Line`) and learns better.
    """

    company: Company
    clients: tuple[Network, ...]
    upstream: Upstream
    upstream_name: str
    hide_client: bool = False
    extensions: Mapping[str, str] | None = None

    def learn(self, extensions: Mapping[str, str]) -> None:
        """Remember what the upstream offers."""
        self.extensions = dict(extensions)

    async def probe(self, hostname: str) -> None:
        """Ask the upstream what it offers, before any client needs it. Trouble is logged; the first mail asks again."""
        try:
            session = await self.upstream.open(Client("127.0.0.1", helo=hostname))
            self.learn(session.extensions)
            await session.quit()
        except Exception as error:  # whatever it is: it must not end the round of the others
            maillog.upstream_trouble(id="-", company=self.company.id, stage="probe", error=error)


class Relay:
    """What stands behind every listener. `setting` gives a company's present one: rules change between mails."""

    def __init__(self, gates: Sequence[Gate], setting: Callable[[str], Setting], *, max_size: int) -> None:
        self._gates = tuple(gates)
        self._setting = setting
        self._max_size = max_size

    def conversation(self, client: Client) -> RelayConversation | Reply:
        """The side of a client that belongs to a company; a stranger gets a refusal for a greeting."""
        try:
            address = ip_address(client.address.partition("%")[0])
        except ValueError:
            return NOT_ALLOWED
        mapped = getattr(address, "ipv4_mapped", None)
        for gate in self._gates:
            if any((mapped or address) in network for network in gate.clients):
                return RelayConversation(gate, self._setting, self._max_size)
        maillog.stranger(client=client.address)
        return NOT_ALLOWED


class RelayConversation:
    """The mirrored transaction of one client session."""

    def __init__(self, gate: Gate, setting: Callable[[str], Setting], max_size: int) -> None:
        self._gate = gate
        self._setting = setting
        self._max_size = max_size
        self._line = Line(gate.upstream, gate.learn)
        self._id = "-"  # of the transaction, from MAIL on
        self._client: Client | None = None
        self._reverse_path = ""
        self._params: tuple[str, ...] = ()
        self._recipients: list[Recipient] = []
        self._transaction: Transaction | None = None

    def extensions(self) -> tuple[str, ...]:
        """What the upstream offers and we can carry; SIZE is the smaller of both limits."""
        offered = self._gate.extensions
        if offered is None:
            offered = dict.fromkeys((*CARRIED, "SIZE"), "")
        lines = [name for name in CARRIED if name in offered]
        if "SIZE" in offered:
            limit = int(offered["SIZE"]) if offered["SIZE"].isdecimal() else 0
            lines.insert(0, f"SIZE {min(limit or self._max_size, self._max_size)}")
        self._line.offered = frozenset(offered)
        return tuple(lines)

    async def mail(self, client: Client, reverse_path: str, params: tuple[str, ...]) -> Reply:
        """MAIL, mirrored live."""
        self._client, self._reverse_path, self._params, self._recipients = client, reverse_path, params, []
        try:
            self._id = self._setting(self._gate.company.id).unique()
            answer = await self._line.mail(client, reverse_path, params)
        except UpstreamError as error:
            self._line.abort()
            maillog.upstream_trouble(id=self._id, company=self._gate.company.id, stage="mail", error=error)
            answer = UPSTREAM_AWAY
        except Exception as error:
            return self._defect(error)
        return self._told("mail", answer)

    async def rcpt(self, forward_path: str, params: tuple[str, ...]) -> Reply:
        """RCPT, mirrored live."""
        try:
            answer = await self._line.rcpt(forward_path, params)
        except UpstreamError as error:
            maillog.upstream_trouble(id=self._id, company=self._gate.company.id, stage="rcpt", error=error)
            answer = UPSTREAM_LOST
        except Exception as error:
            return self._defect(error)
        if answer.accepted:
            self._recipients.append(Recipient(forward_path, params))
        return self._told("rcpt", answer)

    async def data(self, raw: bytes, *, normalised: bool) -> Reply:
        """One mail: the reply is final."""
        assert self._client is not None
        envelope = Envelope(self._reverse_path, tuple(self._recipients), self._params)
        self._transaction = Transaction(
            self._setting(self._gate.company.id),
            self._gate.company,
            self._line,
            self._client,
            envelope,
            id=self._id,
            upstream_name=self._gate.upstream_name,
            hide_client=self._gate.hide_client,
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

    async def reset(self) -> None:
        """The transaction ends without a reply that reached the client."""
        self._abandon()
        self._recipients = []
        await self._line.reset()

    async def close(self) -> None:
        """The session ended."""
        self._abandon()
        await asyncio.shield(self._line.close())

    def _abandon(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction.abandon()

    def _told(self, stage: str, answer: Reply) -> Reply:
        """What the client is told of a command; what it is refused has its line."""
        if not answer.accepted:
            company = self._gate.company.id
            maillog.refused(id=self._id, company=company, stage=stage, code=answer.code, enhanced=answer.enhanced)
        return answer

    def _defect(self, error: Exception) -> Reply:
        """A defect of ours: the client keeps the mail, nobody sees our text, the upstream session is not trusted."""
        maillog.defect(error)
        self._line.abort()
        return TROUBLE
