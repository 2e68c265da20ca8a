"""A running relay for several companies, each with an upstream of its own: whole `App`s for tests of who may send."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from unittest import mock

from relay_mta import maillog
from relay_mta.app import App
from relay_mta.config import CompanyConfig, Config, ListenerConfig, LoginConfig, ProofConfig, UpstreamConfig, WebConfig
from relay_mta.core.company import Agency, Company
from relay_mta.core.ip import ClientNetwork
from relay_mta.core.rules import RuleSet
from relay_mta.gate import Gate
from relay_mta.secretsource import SecretSource
from tests.smtp.clients import Dialog
from tests.smtp.fronts import until
from tests.smtp.peers import ScriptedUpstream
from tests.smtp.test_tls import CA, certificate
from tests.test_relay import TARO, parsed_once

IN_CLEAR = ListenerConfig("127.0.0.1", 0, auth_in_clear=True)
"""A listener on loopback that takes logins without TLS, to keep the tests of everything else short."""


def secure_upstream(script: dict[bytes, Any] | None = None, **more: Any) -> ScriptedUpstream:
    """An upstream with STARTTLS; with `users`, logins are taken over TLS alone."""
    return ScriptedUpstream(script, ssl_context=certificate(), **more)


def kept(place: Path, name: str, secret: str) -> SecretSource:
    """A secret in a file."""
    (place / name).write_text(secret)
    return SecretSource("file", str(place / name))


def firm(
    upstream: ScriptedUpstream,
    id: str = "acme",
    *,
    domains: Sequence[str] = ("acme.example.jp",),
    networks: Sequence[str] = ("127.0.0.0/8",),
    shared: Sequence[str] = (),
    proof: tuple[str, SecretSource] | None = None,
    company: dict[str, Any] | None = None,
    to: dict[str, Any] | None = None,
    **more: Any,
) -> CompanyConfig:
    """A company whose mail goes to `upstream`, over TLS if that has any. `to`: what else stands in its `upstream`."""
    values: dict[str, Any] = {
        "id": id,
        "name": id,
        "domains": tuple(domains),
        "agency": Agency("agency", "https://agency.example/"),
        "mode": "relay",
    }
    secure: dict[str, Any] = {"tls": "none"}
    if upstream.ssl_context is not None:
        secure = {"tls": "implicit" if upstream.implicit_tls else "starttls", "ca_file": CA}
    place = {"host": "localhost", "port": upstream.port, **secure, **(to or {})}
    return CompanyConfig(
        Company(**{**values, **(company or {})}),
        (
            *(ClientNetwork(ip_network(each), shared=False) for each in networks),
            *(ClientNetwork(ip_network(each), shared=True) for each in shared),
        ),
        UpstreamConfig(**place),
        proof=ProofConfig(*proof) if proof else None,
        **more,
    )


def own_login(place: Path, user: str, password: str, mechanism: Any = None) -> LoginConfig:
    """The relay's own login, with its password in a file."""
    return LoginConfig(user, kept(place, f"password-{user}", password), mechanism)


@dataclass
class Houses:
    """A running relay, and ways to send through it."""

    app: App
    log: io.StringIO

    def dialog(self, *, listener: int = 0, source: str | None = None) -> Dialog:
        """A client that says what it is told."""
        return Dialog(self.app.smtp_ports[listener], source=source)

    async def send(self, raw: bytes, *recipients: str, sender: str, **where: Any) -> bytes:
        """One mail by a client of its own, without a login; the first refusal, or the reply to the final dot."""
        async with self.dialog(**where) as client:
            if not client.greeting.startswith(b"220"):
                return client.greeting
            await client.ehlo()
            return await mailed(client, raw, *recipients, sender=sender)

    def gate(self, id: str) -> Gate:
        gates: tuple[Gate, ...] = self.app._listeners[0]._state.front.gates  # type: ignore[attr-defined]  # the relay, behind its port
        return next(gate for gate in gates if gate.company.id == id)

    async def kinds(self) -> list[str]:
        return [entry.kind for entry in await self.app.ledger.entries()]

    def lines(self, event: str) -> list[str]:
        """The log's lines of one event."""
        return [line for line in self.log.getvalue().splitlines() if f"event={event} " in f"{line} "]


async def mailed(client: Dialog, raw: bytes, *recipients: str, sender: str) -> bytes:
    """One mail on a session that said EHLO; the first refusal, or the reply to the final dot."""
    answer = await client.say(f"MAIL FROM:<{sender}>".encode())
    for path in recipients or (TARO,):
        if answer.startswith(b"250"):
            answer = await client.say(f"RCPT TO:<{path}>".encode())
    if answer.startswith(b"250"):
        answer = await client.say(b"DATA")
    if not answer.startswith(b"354"):
        return answer
    await client.send(re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n")
    return await client.reply()


@asynccontextmanager
async def houses(
    place: Path, *companies: CompanyConfig, listeners: Sequence[ListenerConfig] = (IN_CLEAR,), **changes: Any
) -> AsyncIterator[Houses]:
    """A relay that has asked each upstream what it offers."""
    log = io.StringIO()
    maillog.configure(log)
    config = Config(
        hostname="relay.example.jp",
        data_dir=place / "var",
        ledger="tinydb:",
        listeners=tuple(listeners),
        web=WebConfig("127.0.0.1", 0, "https://relay.example.jp"),
        rules_directory=None,
        drain_seconds=1.0,
        companies=companies,
        **changes,
    )
    app = App(config)
    with mock.patch.object(RuleSet, "parse", parsed_once):
        await app.start()
    relay = Houses(app, log)
    try:
        probed = (relay.gate(each.company.id) for each in companies)
        await until(
            lambda gates=tuple(probed): all(g.extensions is not None or "stage=probe" in log.getvalue() for g in gates)
        )
        yield relay
    finally:
        await app.stop()
