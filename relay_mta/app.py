"""The only place where everybody is known: builds every object from a `Config`, starts them, and drains them.

Starting either succeeds whole or raises one `RelayError` and leaves nothing behind. Stopping lets mails in hand come to
their end for `drain_seconds`; sessions between mails get 421 (RFC 5321 §3.8).
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from relay_mta import __version__, maillog, templatefolder
from relay_mta.config import CompanyConfig, Config, ListenerConfig, OAuthConfig
from relay_mta.conversation import Relay
from relay_mta.core.errors import LedgerError, RelayError
from relay_mta.core.ports import Login, Tokens
from relay_mta.core.tenancy import Proof
from relay_mta.gate import Gate
from relay_mta.ledger.secret import load_or_create
from relay_mta.ledger.tinydb import TinyLedger
from relay_mta.login import PasswordLogin, TokenLogin
from relay_mta.oauth import GoogleTokens, MicrosoftTokens
from relay_mta.rulebook import Rulebook
from relay_mta.setting import Setting
from relay_mta.signing import signers_of
from relay_mta.smtp.budget import Budget
from relay_mta.smtp.census import Census
from relay_mta.smtp.limits import Limits
from relay_mta.smtp.pool import Bounds, Pool
from relay_mta.smtp.server import Listener, listen
from relay_mta.smtp.tls import Certificate
from relay_mta.smtp.upstream import SmtpUpstream
from relay_mta.users import UserFile
from relay_mta.web.app import WebServer, create_app, serve_web

COMPACT_SECONDS = 24 * 3600.0
"""How often the ledger is compacted: what was deleted leaves the disk within a day."""

CERTIFICATE_SECONDS = 10.0
"""How often the listeners' certificate files are looked at."""

SPARE_FILES = 32
"""File descriptors that are neither a client's nor an upstream's: the ledger, the web, listeners, the event loop."""

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
        self._certificates: dict[str, Certificate] = {}
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

    def reload(self) -> None:
        """Read the rule files again, changed or not, without waiting for it, and certificates that have changed;
        nothing before the start is through."""
        self.renew_certificates()
        if self._rulebook is not None:
            task = asyncio.create_task(self._rulebook.reload(again=True))
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    def renew_certificates(self) -> None:
        """Take the certificates whose files have changed; one that cannot be used is logged, and the old one stays."""
        for place, certificate in self._certificates.items():
            try:
                if certificate.renew():
                    maillog.certificate_renewed(listener=place)
            except OSError as error:
                maillog.certificate_refused(listener=place, error=error)

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
        gates = [self._gate(each) for each in config.companies]
        proofs = {each.company.id: _proof(each) for each in config.companies}
        own = {each.company.id: each for each in config.companies}
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
                upstream_name=own[id].upstream.host,
                hide_client=own[id].hide_client,
                proof=proofs[id],
                loop_mark=own[id].loop_mark,
            )

        relay = Relay(gates, setting_of, secret=setting.secret, max_size=config.max_size)
        budget = Budget(config.memory_budget)
        census = Census(_places(config), config.max_connections_per_client)
        for listener in config.listeners:
            self._listeners.append(await self._listen(listener, relay, budget, census))
        for chore in (self._probe(gates), self._compact(ledger), rulebook.watch(), self._look_at_certificates()):
            self._stack.push_async_callback(_end, asyncio.create_task(chore))
        maillog.started(
            version=__version__,
            listeners=[f"{c.host}:{port}" for c, port in zip(config.listeners, self.smtp_ports, strict=True)],
            web=f"{config.web.host}:{self.web_port}",
            rules=rulebook.shared.hash,
            companies=len(gates),
        )

    def _gate(self, each: CompanyConfig) -> Gate:
        upstream = each.upstream
        try:
            connector = SmtpUpstream(
                upstream.host,
                upstream.port,
                hostname=self._config.hostname,
                tls=upstream.tls,
                ca_file=upstream.ca_file,
                forward=upstream.forward,
                timeouts=upstream.timeouts,
            )
        except OSError as error:
            text = f"{upstream.ca_file}: cannot be used as CA file: {error.strerror or error}"
            raise RelayError(text) from None
        pool = Pool(
            connector,
            own_login=upstream.login.user if upstream.login else None,
            bounds=Bounds(upstream.max_connections, upstream.max_per_login, upstream.wait),
        )
        self._stack.push_async_callback(pool.close)
        return Gate(
            each.company,
            each.clients,
            pool,
            auth=each.auth,
            users=UserFile(each.users) if each.users is not None else None,
            login=_login(each),
            listeners=frozenset(
                listener.place
                for listener in self._config.listeners
                if listener.companies is None or each.company.id in listener.companies
            ),
        )

    async def _listen(self, config: ListenerConfig, relay: Relay, budget: Budget, census: Census) -> Listener:
        certificate = None
        if config.tls != "none":
            assert config.cert is not None
            try:
                certificate = self._certificates[config.place] = Certificate(config.cert, config.key)
            except OSError as error:
                raise RelayError(f"{config.cert}: cannot be used as certificate: {error.strerror or error}") from None
        try:
            listener = await listen(
                host=config.host,
                port=config.port,
                hostname=self._config.hostname,
                front=relay,
                budget=budget,
                tls=config.tls,
                ssl_context=certificate.context if certificate else None,
                max_size=self._config.max_size,
                on_error=maillog.defect,
                limits=self._limits(),
                census=census,
                refuse_bare_newline=self._config.bare_newline == "refuse",
                auth_in_clear=config.auth_in_clear,
                name=config.place,
            )
        except OSError as error:
            raise RelayError(f"{config.place}: cannot listen for SMTP here: {error.strerror or error}") from None
        self._stack.push_async_callback(listener.drain, 0.0)
        return listener

    def _limits(self) -> Limits:
        config = self._config
        return Limits(
            command=config.command_seconds,
            data_idle=config.data_seconds,
            data_rate=config.min_data_rate,
            bad_commands=config.max_bad_commands,
            commands=config.max_commands,
            recipients=config.max_recipients,
            auth_failures=config.max_auth_failures,
        )

    async def _look_at_certificates(self) -> None:
        while self._certificates:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            self.renew_certificates()

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


def _places(config: Config) -> int:
    """How many clients there can be: as configured, or as many as there are file descriptors for. Past these the system
    refuses connections, over and over, before anybody could say 421 to them."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = SPARE_FILES + sum(each.upstream.max_connections for each in config.companies)
    if allowed == resource.RLIM_INFINITY or config.max_connections <= allowed - others:
        return config.max_connections
    places = max(1, min(config.max_connections, allowed - others, allowed // 2))
    maillog.few_files(allowed=allowed, places=places, wanted=config.max_connections)
    return places


def _proof(each: CompanyConfig) -> Proof | None:
    return Proof(each.proof.header, each.proof.value.read().strip()) if each.proof is not None else None


def _login(each: CompanyConfig) -> Login | None:
    config = each.upstream.login
    if config is None:
        return None
    if config.password is not None:
        return PasswordLogin(config.user, config.password, config.mechanism)
    assert config.oauth is not None  # one of them, as `senders` sees to
    return TokenLogin(config.user, _tokens(config.oauth, config.user))


def _tokens(config: OAuthConfig, user: str) -> Tokens:
    if config.provider == "google":
        assert config.service_account is not None
        return GoogleTokens(account=config.service_account.read, subject=user, token_url=config.token_url)
    secret = config.secret
    assert secret is not None
    return MicrosoftTokens(
        tenant=config.tenant,
        client_id=config.client_id,
        secret=lambda: secret.read().decode("utf-8", "replace"),
        token_url=config.token_url,
    )


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a chore and wait until it has let go of everything."""
    task.cancel()
    await asyncio.wait([task], timeout=5)
