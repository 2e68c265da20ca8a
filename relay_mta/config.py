"""config.toml → a frozen `Config`.

What it promises: everything that is wrong is reported at once, each as `file:line: key: what is wrong; what was
expected`; an unknown key is an error; nothing is guessed or coerced ("25" is not a port, `true` is not a number).
Relative paths count from the configuration file's folder. What it does not do: open sockets, resolve names, create
folders, or find out whether the upstream answers.

`schema` holds the keys with their defaults; the rooms get the plain values of this module and never see a model.
Elements of lists are counted from 1 in what a person reads: `company[2]` is the second company.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from relay_mta.core.company import Agency, Company, CreditTerms
from relay_mta.core.errors import ConfigError, Problem
from relay_mta.core.ip import ClientNetwork
from relay_mta.core.timeouts import Timeouts
from relay_mta.findings import finding, problems
from relay_mta.relations import relations
from relay_mta.schema import CompanyModel, ConfigModel, UpstreamModel
from relay_mta.secretsource import SecretSource
from relay_mta.tomllines import KeyPath
from relay_mta.values import shown


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """Where SMTP clients connect. `cert` and `key` are there unless `tls` is "none". Port 0: any free port.

    `companies`: the ids of those that it serves; None: all. `auth_in_clear`: logins are taken without TLS.
    """

    host: str
    port: int
    tls: Literal["none", "starttls", "implicit"] = "none"
    cert: Path | None = None
    key: Path | None = None
    companies: tuple[str, ...] | None = None
    auth_in_clear: bool = False

    @property
    def place(self) -> str:
        """Host and port, as a person knows it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Where the web listens, and `base_url`: what goes into the mails, without a slash at its end."""

    host: str
    port: int
    base_url: str


@dataclass(frozen=True, slots=True)
class OAuthConfig:
    """Where the relay gets its tokens: `tenant`, `client_id` and `secret` with Microsoft, `service_account` (the JSON
    key file) with Google."""

    provider: Literal["microsoft", "google"]
    tenant: str = ""
    client_id: str = ""
    secret: SecretSource | None = None
    service_account: SecretSource | None = None
    token_url: str | None = None


@dataclass(frozen=True, slots=True)
class LoginConfig:
    """The relay's own login at an upstream: with a password, or with OAuth. `mechanism` None: the best offered."""

    user: str
    password: SecretSource | None = None
    mechanism: Literal["PLAIN", "LOGIN", "CRAM-MD5"] | None = None
    oauth: OAuthConfig | None = None


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """A company's outbound server. `ca_file`: trust these certificates instead of the system's. `wait`: seconds."""

    host: str
    port: int = 25
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = "opportunistic"
    ca_file: Path | None = None
    forward: Literal["none", "xclient", "proxy"] = "none"
    max_connections: int = 20
    max_per_login: int = 3
    wait: float = 10.0
    login: LoginConfig | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, slots=True)
class ProofConfig:
    """The header field, in lower case, that tells a company's mails from those of strangers, and its secret value."""

    header: str
    value: SecretSource


@dataclass(frozen=True, slots=True)
class DkimKey:
    """With what a company signs. The file may still be to be made."""

    path: Path
    selector: str
    domain: str


@dataclass(frozen=True, slots=True)
class CompanyConfig:
    """A company with what stands around it: who may send as it, and where its mail goes.

    `hide_client`: our Received field does not name the client's address. `rules` and `templates`: folders of its own
    rule files and block templates, on top of everybody's. `dkim_key` is there if it signs (`dkim = "resign"`), `users`
    (a file, which may still be to be made) if `auth` is "users".
    """

    company: Company
    clients: tuple[ClientNetwork, ...]
    upstream: UpstreamConfig
    auth: Literal["none", "upstream", "users"] = "none"
    users: Path | None = None
    proof: ProofConfig | None = None
    loop_mark: bool = False
    hide_client: bool = False
    rules: Path | None = None
    templates: Path | None = None
    dkim_key: DkimKey | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. Sizes in bytes, times in seconds; every path is ready to use.

    `rules_directory` and `templates_directory`: files on top of the shipped ones; None: the shipped ones alone.
    `source`: the file it was read from.
    """

    hostname: str
    data_dir: Path
    ledger: str
    listeners: tuple[ListenerConfig, ...]
    web: WebConfig
    rules_directory: Path | None
    companies: tuple[CompanyConfig, ...]
    memory_budget: int = 1 << 30
    max_size: int = 50 << 20
    max_received: int = 50
    max_connections: int = 500
    max_connections_per_client: int = 100
    max_recipients: int = 1000
    max_commands: int = 5000
    max_bad_commands: int = 20
    max_auth_failures: int = 3
    command_seconds: float = 300.0
    data_seconds: float = 180.0
    min_data_rate: int = 256
    bare_newline: Literal["normalize", "refuse"] = "normalize"
    drain_seconds: float = 30.0
    source: Path | None = None
    templates_directory: Path | None = None

    def template_folders(self, company: CompanyConfig | None = None) -> tuple[Path, ...]:
        """The folders on top of the shipped block templates, as `rule_folders`."""
        folders = (self.templates_directory, company.templates if company is not None else None)
        return tuple(folder for folder in folders if folder is not None)

    def rule_folders(self, company: CompanyConfig | None = None) -> tuple[Path, ...]:
        """The folders on top of the shipped rules, for a company, or for those that have none of their own."""
        folders = (self.rules_directory, company.rules if company is not None else None)
        return tuple(folder for folder in folders if folder is not None)


def load(path: Path) -> Config:
    """Read a configuration file. Raises `ConfigError` with all that is wrong in it."""
    text = _read(path)
    return parse(text, source=path)


def parse(text: str, *, source: Path) -> Config:
    """Read the text of a configuration; `source` names it in problems, and its folder is where relative paths begin."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((_syntax_problem(source, text, str(error)),)) from None
    except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
        raise ConfigError((Problem(str(source), "is not TOML that can be read; expected plain tables"),)) from None
    try:
        model = ConfigModel.model_validate(data, context={"folder": source.parent})
        found: list[tuple[KeyPath, str]] = []
    except ValidationError as error:
        model = None
        found = [finding(details) for details in error.errors(include_url=False)]
    found.extend(relations(data))
    if model is None or found:
        raise ConfigError(tuple(problems(source, text, found)))
    return _config(model, source)


# --- values ---------------------------------------------------------------------------------------------------------


def _config(model: ConfigModel, source: Path) -> Config:
    limits = model.limits
    return Config(
        hostname=model.hostname,
        data_dir=model.data_dir,
        ledger=model.ledger,
        listeners=tuple(
            ListenerConfig(
                each.address.host,
                each.address.port,
                each.tls,
                each.cert,
                each.key,
                tuple(each.companies) if each.companies is not None else None,
                each.auth_in_clear,
            )
            for each in model.listener
        ),
        web=WebConfig(model.web.address.host, model.web.address.port, model.web.base_url),
        rules_directory=model.rules.directory,
        templates_directory=model.templates.directory,
        companies=tuple(_company(each, source) for each in model.company),
        memory_budget=limits.memory_budget,
        max_size=limits.max_size,
        max_received=limits.max_received,
        max_connections=limits.max_connections,
        max_connections_per_client=limits.max_connections_per_client,
        max_recipients=limits.max_recipients,
        max_commands=limits.max_commands,
        max_bad_commands=limits.max_bad_commands,
        max_auth_failures=limits.max_auth_failures,
        command_seconds=limits.command_timeout,
        data_seconds=limits.data_timeout,
        min_data_rate=limits.min_data_rate,
        bare_newline=model.bare_newline,
        drain_seconds=limits.drain,
        source=source,
    )


def _company(model: CompanyModel, source: Path) -> CompanyConfig:
    terms = (
        CreditTerms(each.start, each.relays_per_credit, each.earn_on, each.count_window_days) for each in model.credits
    )
    company = Company(
        id=model.id,
        name=model.name,
        domains=tuple(model.domains),
        agency=Agency(model.agency.name, model.agency.url),
        partners=tuple(model.partners),
        mode=model.mode,
        exempt_senders=tuple(model.exempt_senders),
        only_senders=tuple(model.only_senders),
        off_keywords=tuple(model.off_keywords),
        allow_force=model.allow_force,
        placement=model.placement,
        dkim=model.dkim,
        several_to=model.several_to,
        max_copies=model.max_copies,
        split_deadline=model.split_deadline,
        credits=tuple(sorted(terms, key=lambda each: each.start)),
    )
    key = None
    if model.dkim_key is not None and model.dkim_selector is not None:
        key = DkimKey(model.dkim_key, model.dkim_selector, model.dkim_domain or model.domains[0])
    proof = None
    if model.proof_header is not None and model.proof_value is not None:
        proof = ProofConfig(model.proof_header, model.proof_value)
    users = (model.users or source.parent / f"users-{model.id}") if model.auth == "users" else None
    return CompanyConfig(
        company,
        tuple(model.clients),
        _upstream(model.upstream),
        auth=model.auth,
        users=users,
        proof=proof,
        loop_mark=model.loop_mark,
        hide_client=model.hide_client,
        rules=model.rules,
        templates=model.templates,
        dkim_key=key,
    )


def _upstream(model: UpstreamModel) -> UpstreamConfig:
    login = None
    if model.login is not None:
        oauth = None
        if (given := model.login.oauth) is not None:
            oauth = OAuthConfig(
                given.provider,
                given.tenant or "",
                given.client_id or "",
                given.secret,
                given.service_account,
                given.token_url,
            )
        mechanism = _MECHANISMS[model.login.mechanism]
        login = LoginConfig(model.login.user, model.login.password, mechanism, oauth)
    return UpstreamConfig(
        model.host,
        model.port,
        model.tls,
        model.ca_file,
        model.forward,
        model.max_connections,
        model.max_per_login,
        model.wait,
        login,
        Timeouts(**model.timeouts.model_dump()),
    )


_MECHANISMS: Mapping[str, Literal["PLAIN", "LOGIN", "CRAM-MD5"] | None] = {
    "auto": None,
    "plain": "PLAIN",
    "login": "LOGIN",
    "cram-md5": "CRAM-MD5",
}


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        text = "there is no such file; expected a configuration (config.example.toml shows one)"
    except IsADirectoryError:
        text = "is a folder; expected a TOML file"
    except (OSError, ValueError) as error:
        text = f"cannot be read: {getattr(error, 'strerror', None) or 'not a file name'}"
    else:
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ConfigError((Problem(str(path), "is not UTF-8; expected TOML saved as UTF-8", line),)) from None
    raise ConfigError((Problem(str(path), text),))


def _syntax_problem(source: Path, text: str, message: str) -> Problem:
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    line = column = None
    if place is not None:
        message = message[: place.start()]
        line, column = (int(place[1]), int(place[2])) if place[1] else (text.count("\n") + 1, None)
    return Problem(str(source), f"is not TOML: {shown(message)[1:-1]}", line, column)
