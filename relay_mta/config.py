"""config.toml → a frozen `Config`.

What it promises: everything that is wrong is reported at once, each as `file:line: key: what is wrong; what was
expected`; an unknown key is an error; nothing is guessed or coerced ("25" is not a port, `true` is not a number).
Relative paths count from the configuration file's folder. What it does not do: open sockets, resolve names, create
folders, or find out whether the upstream answers.

`schema` holds the keys with their defaults; the rooms get the plain values of this module and never see a model.
Elements of lists are counted from 1 in what a person reads: `company[2]` is the second company.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from relay_mta.core.company import Agency, Company, CreditTerms
from relay_mta.core.errors import ConfigError, Problem
from relay_mta.relations import relations
from relay_mta.schema import CompanyModel, ConfigModel
from relay_mta.tomllines import KeyPath, key_lines, nearest_line
from relay_mta.values import Network, shown


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """Where SMTP clients connect. `cert` and `key` are there unless `tls` is "none". Port 0: any free port."""

    host: str
    port: int
    tls: Literal["none", "starttls", "implicit"] = "none"
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Where the web listens, and `base_url`: what goes into the mails, without a slash at its end."""

    host: str
    port: int
    base_url: str


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """A company's outbound server. `ca_file`: trust these certificates instead of the system's."""

    host: str
    port: int = 25
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = "opportunistic"
    ca_file: Path | None = None


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
    rule files and block templates, on top of everybody's. `dkim_key` is there if it signs (`dkim = "resign"`).
    """

    company: Company
    clients: tuple[Network, ...]
    upstream: UpstreamConfig
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
        found = [_finding(details) for details in error.errors(include_url=False)]
    found.extend(relations(data))
    if model is None or found:
        raise ConfigError(tuple(_problems(source, text, found)))
    return _config(model, source)


# --- values ---------------------------------------------------------------------------------------------------------


def _config(model: ConfigModel, source: Path) -> Config:
    limits = model.limits
    return Config(
        hostname=model.hostname,
        data_dir=model.data_dir,
        ledger=model.ledger,
        listeners=tuple(
            ListenerConfig(each.address.host, each.address.port, each.tls, each.cert, each.key)
            for each in model.listener
        ),
        web=WebConfig(model.web.address.host, model.web.address.port, model.web.base_url),
        rules_directory=model.rules.directory,
        templates_directory=model.templates.directory,
        companies=tuple(_company(each) for each in model.company),
        memory_budget=limits.memory_budget,
        max_size=limits.max_size,
        max_received=limits.max_received,
        max_connections=limits.max_connections,
        drain_seconds=limits.drain,
        source=source,
    )


def _company(model: CompanyModel) -> CompanyConfig:
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
    upstream = UpstreamConfig(model.upstream.host, model.upstream.port, model.upstream.tls, model.upstream.ca_file)
    key = None
    if model.dkim_key is not None and model.dkim_selector is not None:
        key = DkimKey(model.dkim_key, model.dkim_selector, model.dkim_domain or model.domains[0])
    return CompanyConfig(
        company, tuple(model.clients), upstream, model.hide_client, model.rules, model.templates, dkim_key=key
    )


# --- problems -------------------------------------------------------------------------------------------------------


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


def _problems(source: Path, text: str, found: list[tuple[KeyPath, str]]) -> Iterator[Problem]:
    lines = key_lines(text)
    placed = [(nearest_line(lines, path), path, what) for path, what in found]
    placed.sort(key=lambda each: each[0] or 0)
    for line, path, what in placed:
        yield Problem(str(source), what, line, key=_key_text(path))


def _key_text(path: KeyPath) -> str:
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step + 1}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", step)
            text += ("." if text else "") + (step if bare else shown(step))
    return text


_WRONG = {
    "string_type": "is not a string",
    "int_type": "is not a whole number",
    "bool_type": "is not true or false",
    "list_type": "is not a list",
    "date_type": "is not a date",
    "model_type": "is not a table",
    "literal_error": "is none of them",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
}


def _finding(details: ErrorDetails) -> tuple[KeyPath, str]:
    """One pydantic error as the key's path, what is wrong and what was expected."""
    path, kind = details["loc"], details["type"]
    if kind == "extra_forbidden":
        return path, _unknown_key(path)
    if kind == "missing":
        wrong = "is missing"
    elif kind == "value_error":
        wrong = str(details["ctx"]["error"])
    elif kind == "too_short":
        wrong = "is empty"
    else:
        wrong = f"{shown(details['input'])} {_WRONG.get(kind, 'is not valid')}"
    field = _field(path)
    return path, f"{wrong}; expected {field.description}" if field is not None else wrong


def _unknown_key(path: KeyPath) -> str:
    """Says what may have been meant: a key of this table, or one that slipped below a table's header."""
    key = str(path[-1])
    known = _keys(_model(path[:-1]))
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f'is an unknown key; did you mean "{close[0]}"?'
    if len(path) > 1 and key in _keys(ConfigModel):
        return "is an unknown key here; it belongs at the top of the file, above the first [table]"
    return f"is an unknown key; expected one of {', '.join(known)}"


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model(path: KeyPath) -> type[BaseModel]:
    """The model of the table at a path."""
    model: type[BaseModel] = ConfigModel
    for step in path:
        if isinstance(step, str):
            model = _inner(_fields(model)[step].annotation) or model
    return model


def _field(path: KeyPath) -> FieldInfo | None:
    names = [step for step in path if isinstance(step, str)]
    if not names:
        return None
    return _fields(_model(tuple(names[:-1]))).get(names[-1])


def _fields(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation: `Model`, or `list[Model]`."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
