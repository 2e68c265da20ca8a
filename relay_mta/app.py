"""The only place where everybody is known: builds every object from a `Config`, starts them, and drains them.

Starting either succeeds whole or raises one `RelayError` and leaves nothing behind. Stopping lets mails in hand come to
their end for `drain_seconds`; sessions between mails get 421 (RFC 5321 §3.8).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from relay_mta import __version__, maillog, templatefolder
from relay_mta.config import Config, ListenerConfig
from relay_mta.conversation import Gate, Relay
from relay_mta.core.errors import LedgerError, RelayError
from relay_mta.ledger.secret import load_or_create
from relay_mta.ledger.tinydb import TinyLedger
from relay_mta.relay import Setting
from relay_mta.rulebook import Rulebook
from relay_mta.signing import signers_of
from relay_mta.smtp.budget import Budget
from relay_mta.smtp.limits import Limits
from relay_mta.smtp.server import Listener, listen
from relay_mta.smtp.tls import server_context
from relay_mta.smtp.upstream import SmtpUpstream
from relay_mta.web.app import WebServer, create_app, serve_web

COMPACT_SECONDS = 24 * 3600.0
"""How often the ledger is compacted: what was deleted leaves the disk within a day."""

PROBE_SECONDS = 300.0
"""How often each upstream is asked what it offers, should no mail have asked it in the meantime."""


class App:
    """One process: listeners, web, and one ledger. Call `start` and `stop` once each, in one event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = contextlib.AsyncExitStack()
        self._listeners: list[Listener] = []
        self._web: WebServer | None = None
        self._ledger: TinyLedger | None = None
        self._rulebook: Rulebook | None = None
        self._reloads: set[asyncio.Task[None]] = set()

    @property
    def ledger(self) -> TinyLedger:
        """The open ledger."""
        assert self._ledger is not None
        return self._ledger

    @property
    def smtp_ports(self) -> tuple[int, ...]:
        """The ports that are really bound, in the configuration's order."""
        return tuple(listener.port for listener in self._listeners)

    @property
    def web_port(self) -> int:
        """The web's port that is really bound."""
        assert self._web is not None
        return self._web.port

    @property
    def rulebook(self) -> Rulebook:
        """The rules in force."""
        assert self._rulebook is not None
        return self._rulebook

    def reload_rules(self) -> None:
        """Read the rule files again, changed or not, without waiting for it; nothing before the start is through."""
        if self._rulebook is not None:
            task = asyncio.create_task(self._rulebook.reload(again=True))
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    async def start(self) -> None:
        """Start everything, or raise a `RelayError` and leave nothing running."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> int:
        """Drain; returns how many sessions had to be aborted."""
        counts = await asyncio.gather(*(listener.drain(self._config.drain_seconds) for listener in self._listeners))
        await self._stack.aclose()
        return sum(counts)

    async def _start(self) -> None:
        config = self._config
        rulebook = Rulebook(
            config.rule_folders(), {each.company.id: config.rule_folders(each) for each in config.companies}
        )
        await rulebook.open()
        self._rulebook = rulebook
        templates = templatefolder.load(config.template_folders())
        own_templates = templatefolder.load_own(config)
        ledger = self._ledger = TinyLedger(config.data_dir)
        self._stack.push_async_callback(ledger.close)
        if ledger.storage.torn:
            maillog.journal_torn(size=ledger.storage.torn)
        signers = signers_of(config)
        setting = Setting(
            hostname=config.hostname,
            base_url=config.web.base_url,
            max_received=config.max_received,
            secret=load_or_create(config.data_dir, fresh=ledger.empty),
            ledger=ledger,
            rules=rulebook.shared,
            templates=templates,
            now=lambda: datetime.now(UTC),
            unique=lambda: secrets.token_hex(8),
            tried=rulebook.count,
            missed=rulebook.count_missed,
        )
        gates = self._gates()
        companies = {gate.company.id: gate.company for gate in gates}
        app = create_app(links=ledger, companies=companies, base_url=config.web.base_url, health=self._health)
        self._web = await serve_web(app, config.web.host, config.web.port)
        self._stack.push_async_callback(self._web.stop)

        def setting_of(id: str) -> Setting:
            return replace(
                setting,
                rules=rulebook.of(id),
                templates=own_templates.get(id, templates),
                signing=signers.get(id),
            )

        relay = Relay(gates, setting_of, max_size=config.max_size)
        budget = Budget(config.memory_budget)
        for listener in config.listeners:
            self._listeners.append(await self._listen(listener, relay, budget))
        for chore in (self._probe(gates), self._compact(ledger), rulebook.watch()):
            self._stack.push_async_callback(_end, asyncio.create_task(chore))
        maillog.started(
            version=__version__,
            listeners=[f"{c.host}:{port}" for c, port in zip(config.listeners, self.smtp_ports, strict=True)],
            web=f"{config.web.host}:{self.web_port}",
            rules=rulebook.shared.hash,
            companies=len(gates),
        )

    def _gates(self) -> list[Gate]:
        gates = []
        for each in self._config.companies:
            try:
                upstream = SmtpUpstream(
                    each.upstream.host,
                    each.upstream.port,
                    hostname=self._config.hostname,
                    tls=each.upstream.tls,
                    ca_file=each.upstream.ca_file,
                )
            except OSError as error:
                text = f"{each.upstream.ca_file}: cannot be used as CA file: {error.strerror or error}"
                raise RelayError(text) from None
            gates.append(Gate(each.company, each.clients, upstream, each.upstream.host, each.hide_client))
        return gates

    async def _listen(self, config: ListenerConfig, relay: Relay, budget: Budget) -> Listener:
        context = None
        if config.tls != "none":
            assert config.cert is not None
            try:
                context = server_context(config.cert, config.key)
            except OSError as error:
                raise RelayError(f"{config.cert}: cannot be used as certificate: {error.strerror or error}") from None
        place = f"{config.host}:{config.port}"
        try:
            listener = await listen(
                host=config.host,
                port=config.port,
                hostname=self._config.hostname,
                front=relay,
                budget=budget,
                tls=config.tls,
                ssl_context=context,
                max_size=self._config.max_size,
                on_error=maillog.defect,
                limits=Limits(connections=self._config.max_connections),
                name=place,
            )
        except OSError as error:
            raise RelayError(f"{place}: cannot listen for SMTP here: {error.strerror or error}") from None
        self._stack.push_async_callback(listener.drain, 0.0)
        return listener

    async def _probe(self, gates: list[Gate]) -> None:
        while True:
            await asyncio.gather(*(gate.probe(self._config.hostname) for gate in gates))
            await asyncio.sleep(PROBE_SECONDS)

    @staticmethod
    async def _compact(ledger: TinyLedger) -> None:
        while True:
            await asyncio.sleep(COMPACT_SECONDS)
            try:
                await ledger.compact()
            except LedgerError as error:
                maillog.ledger_trouble(id="-", company="-", step="compact", error=error)

    def _health(self) -> Mapping[str, object]:
        storage = self.ledger.storage
        broken = storage.broken or storage.failing
        return {
            "status": "trouble" if broken else "ok",  # stale rules are no trouble: every mail is relayed and judged
            "ledger": "trouble" if broken else "ok",
            "rules": self.rulebook.status(),
            "version": __version__,
        }


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a chore and wait until it has let go of everything."""
    task.cancel()
    await asyncio.wait([task], timeout=5)


def run(config: Config) -> int:
    """Serve in the foreground until SIGTERM or SIGINT; SIGHUP reads the rules again. The process's exit status."""
    maillog.configure()
    return asyncio.run(_serve(config))


async def _serve(config: Config) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ended.set)
    app = App(config)
    loop.add_signal_handler(signal.SIGHUP, app.reload_rules)
    await app.start()
    await ended.wait()
    maillog.stopping(seconds=config.drain_seconds)
    maillog.stopped(aborted=await app.stop())
    return 0
