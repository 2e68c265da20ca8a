"""A company's way through the relay: who may send as it, and where its mail goes; and which one a session belongs to.

A company is known by the listener, by the login's domain, by the client's network, or by the sender's domain, whichever
is certain first. The configuration makes sure that there is never more than one answer (`relations`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from relay_mta import maillog
from relay_mta.core import ip, sasl
from relay_mta.core.address import listed
from relay_mta.core.company import Company
from relay_mta.core.envelope import Client
from relay_mta.core.ip import ClientNetwork
from relay_mta.core.ports import Login, Upstream

Auth = Literal["none", "upstream", "users"]

CARRIED = ("8BITMIME", "SMTPUTF8", "DSN")
"""Extensions that pass through us without our help: their parameters go up verbatim."""


class Users(Protocol):
    """A company's own users."""

    async def verify(self, login: str, password: bytes) -> bool:
        """Whether the password is the login's; takes the same time for an unknown login. Raises `RelayError`."""
        ...


@dataclass(slots=True, eq=False)
class Gate:
    """One company's way through. `listeners`: the names of those that serve it; None: all. `login`: the relay's own at
    the upstream. `users` are there where `auth` is "users".

    `extensions` is what its upstream offered when last asked, None before the first time. Until then all that we can
    carry is offered: a client that misses an extension may bounce a mail for good, while one that was promised too much
    gets a 451 (`Line`) and learns better.
    """

    company: Company
    networks: tuple[ClientNetwork, ...]
    upstream: Upstream
    auth: Auth = "none"
    users: Users | None = None
    login: Login | None = None
    listeners: frozenset[str] | None = None
    extensions: Mapping[str, str] | None = None

    def learn(self, extensions: Mapping[str, str]) -> None:
        """Remember what the upstream offers."""
        self.extensions = dict(extensions)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """By which SASL mechanisms its clients may log in."""
        if self.auth == "users":
            return sasl.PASSWORDS
        if self.auth == "none":
            return ()
        if self.extensions is None:
            return sasl.PASSWORDS
        offered = self.extensions.get("AUTH", "").upper().split()
        return tuple(each for each in sasl.CARRIED if each in offered)

    def shared(self, client: Client) -> bool:
        """Strangers send from where this client is: the narrowest of the company's networks around it says so."""
        around = self._around(client)
        narrowest = max((each.network.prefixlen for each in around), default=0)
        return not around or any(each.shared for each in around if each.network.prefixlen == narrowest)

    def holds(self, client: Client) -> bool:
        """The client is in one of the company's networks."""
        return bool(self._around(client))

    def _around(self, client: Client) -> list[ClientNetwork]:
        address = ip.parsed(client.address)
        return [each for each in self.networks if address is not None and address in each.network]

    async def probe(self, hostname: str) -> None:
        """Ask the upstream what it offers, before any client needs it. Trouble is logged; the first mail asks again."""
        try:
            session = await self.upstream.open(Client("127.0.0.1", helo=hostname), fresh=True)
            self.learn(session.extensions)
            await session.quit()
        except Exception as error:  # whatever it is: it must not end the round of the others
            maillog.upstream_trouble(id="-", company=self.company.id, stage="probe", error=error)


@dataclass(frozen=True, slots=True)
class Admission:
    """The companies that a session may still turn out to be: `by_network` without a login, `by_login` with one."""

    by_network: tuple[Gate, ...] = ()
    by_login: tuple[Gate, ...] = ()
    possible: tuple[Gate, ...] = field(init=False)

    def __post_init__(self) -> None:
        every = (*self.by_network, *(gate for gate in self.by_login if gate not in self.by_network))
        object.__setattr__(self, "possible", every)

    def of_login(self, login: str) -> Gate | None:
        """Whose login it is: by its domain, unless there is only one company to log in to."""
        return _the_one(self.by_login, login)

    def of_sender(self, reverse_path: str) -> Gate | None:
        """Whose sender it is: by its domain, unless the network is one company's."""
        return _the_one(self.by_network, reverse_path)


def admitted(gates: Iterable[Gate], client: Client) -> Admission:
    """Who a client may be, from where it connected and from what address."""
    here = [gate for gate in gates if gate.listeners is None or client.listener in gate.listeners]
    return Admission(
        tuple(gate for gate in here if gate.holds(client)), tuple(gate for gate in here if gate.auth != "none")
    )


def common_extensions(gates: Sequence[Gate], max_size: int) -> dict[str, str]:
    """What all of these companies' upstreams offer and we can carry; SIZE is the smallest limit, ours included."""
    found: dict[str, str] = {}
    known = [gate.extensions for gate in gates if gate.extensions is not None]
    if all("SIZE" in offered for offered in known):
        limits = [int(offered["SIZE"]) for offered in known if offered["SIZE"].isdecimal()]
        found["SIZE"] = str(min([limit for limit in limits if limit] + [max_size]))
    found.update((name, "") for name in CARRIED if all(name in offered for offered in known))
    return found


def common_mechanisms(gates: Sequence[Gate]) -> tuple[str, ...]:
    """By which all of these may log in."""
    if not gates:
        return ()
    return tuple(each for each in sasl.CARRIED if all(each in gate.mechanisms for gate in gates))


def _the_one(gates: Sequence[Gate], path: str) -> Gate | None:
    if len(gates) == 1:
        return gates[0]
    found = [gate for gate in gates if listed(path, gate.company.domains)]
    return found[0] if len(found) == 1 else None
