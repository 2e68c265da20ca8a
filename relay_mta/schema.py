"""The schema of config.toml: every key, its default, what it must look like, and what was expected when it does not.

The models check one key at a time by the readers of `values` (`relations` looks at what is wrong between keys); the
key's description says what was expected.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from relay_mta import values
from relay_mta.core.company import OFF_KEYWORDS
from relay_mta.core.ip import ClientNetwork
from relay_mta.secretsource import SecretSource
from relay_mta.values import HostPort


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Domain = Annotated[str, PlainValidator(values.domain)]
Seconds = Annotated[float, PlainValidator(values.as_seconds)]
Patience = Annotated[float, PlainValidator(values.as_patience)]
Size = Annotated[int, PlainValidator(values.as_size)]
File = Annotated[Path, PlainValidator(values.file)]
Address = Annotated[HostPort, PlainValidator(values.as_host_port)]
Secret = Annotated[SecretSource, PlainValidator(values.secret_source)]

_PLACE = 'where it is kept: { file = "…" }, { env = "…" } or { credential = "…" }'
_TIME = 'a time up to a day, such as "30s" or a number of seconds'

_PATIENCE = 'a time from a second to a day, such as "5min" or a number of seconds'


def _default(value: object, expected: str) -> Any:
    """A field whose default stands as it would in the file and is read like any other value."""
    return Field(value, description=expected, validate_default=True)


_LISTEN = 'host:port, such as "127.0.0.1:2525" or "[::1]:2525"'


class ListenerModel(Model):
    address: Address = Field(description=_LISTEN)
    tls: Literal["none", "starttls", "implicit"] = Field("none", description='"none", "starttls" or "implicit"')
    cert: File | None = Field(None, description="a PEM file with the certificate chain")
    key: File | None = Field(None, description="a PEM file with the private key")
    companies: list[Annotated[str, PlainValidator(values.company_id)]] | None = Field(
        None, min_length=1, description='a list of ids of companies, such as ["acme"]'
    )
    auth_in_clear: bool = Field(False, description="true or false")


class WebModel(Model):
    address: Address = Field(HostPort("127.0.0.1", 8080), description=_LISTEN)
    base_url: Annotated[str, PlainValidator(values.base_url)] = Field(
        description='the http(s) address that candidates open, without query, such as "https://relay.example.jp"'
    )


class RulesModel(Model):
    directory: Annotated[Path | None, PlainValidator(values.own_directory)] = _default(
        "rules",
        'a folder with rule files of your own; left out, "rules" beside the configuration if there is such a folder',
    )


class TemplatesModel(Model):
    directory: Annotated[Path | None, PlainValidator(values.own_directory)] = _default(
        "templates",
        'a folder with block templates of your own; left out, "templates" beside the configuration if there is such a '
        "folder",
    )


class LimitsModel(Model):
    memory_budget: Size = _default("1GiB", 'a size from 1KiB up, such as "1GiB" or a number of bytes')
    max_size: Size = _default("50MiB", 'a size from 1KiB up, such as "50MiB" or a number of bytes')
    max_received: int = Field(50, ge=1, le=1000, description="a whole number from 1 to 1000")
    max_connections: int = Field(500, ge=1, le=100_000, description="a whole number from 1 to 100000")
    max_connections_per_client: int = Field(100, ge=1, le=100_000, description="a whole number from 1 to 100000")
    max_recipients: int = Field(1000, ge=100, le=100_000, description="a whole number from 100 to 100000")
    max_commands: int = Field(5000, ge=200, le=1_000_000, description="a whole number from 200 to 1000000")
    max_bad_commands: int = Field(20, ge=1, le=1000, description="a whole number from 1 to 1000")
    max_auth_failures: int = Field(3, ge=1, le=100, description="a whole number from 1 to 100")
    command_timeout: Patience = _default("5min", _PATIENCE)
    data_timeout: Patience = _default("3min", _PATIENCE)
    min_data_rate: int = Field(256, ge=1, le=1 << 30, description="a whole number of bytes per second from 1 up")
    drain: Seconds = _default("30s", _TIME)


class OAuthModel(Model):
    provider: Literal["microsoft", "google"] = Field(description='"microsoft" or "google"')
    tenant: str | None = Field(None, description="the tenant's id or domain")
    client_id: str | None = Field(None, description="the application's (client) id")
    secret: Secret | None = Field(None, description=_PLACE)
    service_account: Secret | None = Field(None, description=f"the service account's JSON key, {_PLACE}")
    token_url: Annotated[str, PlainValidator(values.web_url)] | None = Field(
        None, description="the URL of the token endpoint, if it is not the provider's own"
    )


class LoginModel(Model):
    user: Annotated[str, PlainValidator(values.login)] = Field(description="the user to log in as")
    password: Secret | None = Field(None, description=_PLACE)
    mechanism: Literal["auto", "plain", "login", "cram-md5"] = Field(
        "auto", description='"auto", "plain", "login" or "cram-md5"'
    )
    oauth: OAuthModel | None = Field(None, description='a table, such as { provider = "microsoft", … }')


class TimeoutsModel(Model):
    connect: Patience = _default("30s", _PATIENCE)
    mail: Patience = _default("5min", _PATIENCE)
    rcpt: Patience = _default("5min", _PATIENCE)
    data_start: Patience = _default("2min", _PATIENCE)
    data_block: Patience = _default("3min", _PATIENCE)
    data_end: Patience = _default("10min", _PATIENCE)


class UpstreamModel(Model):
    host: Annotated[str, PlainValidator(values.as_host)] = Field(
        description="a host name or an IP address, without port"
    )
    port: int = Field(25, ge=1, le=65535, description="a port number from 1 to 65535")
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = Field(
        "opportunistic", description='"none", "opportunistic", "starttls" or "implicit"'
    )
    ca_file: File | None = Field(None, description="a PEM file with the certificates to trust")
    forward: Literal["none", "xclient", "proxy"] = Field("none", description='"none", "xclient" or "proxy"')
    max_connections: int = Field(20, ge=1, le=10_000, description="a whole number from 1 to 10000")
    max_per_login: int = Field(3, ge=1, le=10_000, description="a whole number from 1 to 10000")
    wait: Seconds = _default("10s", _TIME)
    timeouts: TimeoutsModel = _default({}, 'a table, such as { data_end = "10min" }')
    login: LoginModel | None = Field(None, description='a table, such as { user = "…", password = { file = "…" } }')


class AgencyModel(Model):
    name: Annotated[str, PlainValidator(values.name)] = Field(description="the agency's name, 1 to 100 characters")
    url: Annotated[str, PlainValidator(values.web_url)] = Field(
        description='an http(s) URL, such as "https://agency.example/"'
    )


class CreditTermsModel(Model):
    start: date = Field(alias="from", description="a date without quotes, such as 2026-01-01")
    relays_per_credit: int = Field(10, ge=1, le=1_000_000, description="a whole number from 1 up")
    earn_on: Literal["relayed", "registered"] = Field("relayed", description='"relayed" or "registered"')
    count_window_days: int = Field(365, ge=1, le=36_500, description="a number of days from 1 up")


_SENDERS = 'a list of domains and addresses, such as ["sales.acme.example.jp", "ceo@acme.example.jp"]'


class CompanyModel(Model):
    id: Annotated[str, PlainValidator(values.company_id)] = Field(
        description="1 to 32 of the characters a-z, 0-9 and hyphen, never changed again"
    )
    name: Annotated[str, PlainValidator(values.name)] = Field(description="the company's name, 1 to 100 characters")
    domains: list[Annotated[str, PlainValidator(values.mail_domain)]] = Field(
        min_length=1, description='a list of the company\'s own mail domains, such as ["acme.example.jp"]'
    )
    partners: list[Annotated[str, PlainValidator(values.partner)]] = Field(
        [], description='a list of domains and addresses, such as ["agent.example", "hr@vendor.example"]'
    )
    mode: Literal["off", "observe", "relay"] = Field("observe", description='"off", "observe" or "relay"')
    clients: list[Annotated[ClientNetwork, PlainValidator(values.client_network)]] = Field(
        [],
        description='a list of the company\'s IP networks, such as ["192.0.2.0/24", { network = "2001:db8::/32", '
        "shared = true }]",
    )
    auth: Literal["none", "upstream", "users"] = Field("none", description='"none", "upstream" or "users"')
    users: Annotated[Path, PlainValidator(values.beside)] | None = Field(
        None, description="a file of users (relay-mta users add makes it)"
    )
    proof_header: Annotated[str, PlainValidator(values.header_name)] | None = Field(
        None, description='the name of a header field that begins with "X-", such as "X-Acme-Relay"'
    )
    proof_value: Secret | None = Field(None, description=_PLACE)
    loop_mark: bool = Field(False, description="true or false")
    upstream: UpstreamModel = Field(description='a table, such as { host = "smtp.example.jp", port = 25 }')
    agency: AgencyModel = Field(description='a table, such as { name = "…", url = "https://agency.example/" }')
    exempt_senders: list[Annotated[str, PlainValidator(values.partner)]] = Field([], description=_SENDERS)
    only_senders: list[Annotated[str, PlainValidator(values.partner)]] = Field([], description=_SENDERS)
    off_keywords: list[Annotated[str, PlainValidator(values.keyword)]] = Field(
        list(OFF_KEYWORDS), description='a list of texts, such as ["[no-relay]"]'
    )
    allow_force: bool = Field(False, description="true or false")
    placement: Literal["below", "end", "link"] = Field("below", description='"below", "end" or "link"')
    dkim: Literal["exempt", "resign", "remove"] = Field("exempt", description='"exempt", "resign" or "remove"')
    dkim_selector: Annotated[str, PlainValidator(values.selector)] | None = Field(
        None, description='the selector of the DKIM record, such as "relay1"'
    )
    dkim_domain: Domain | None = Field(None, description="the domain that signs, one of the company's own")
    dkim_key: Annotated[Path, PlainValidator(values.beside)] | None = Field(
        None, description="a PEM file with the private key (relay-mta dkim keygen makes one)"
    )
    several_to: bool = Field(False, description="true or false")
    max_copies: int = Field(20, ge=1, le=1000, description="a whole number from 1 to 1000")
    split_deadline: Seconds = _default("40s", _TIME)
    hide_client: bool = Field(False, description="true or false")
    rules: Annotated[Path, PlainValidator(values.folder)] | None = Field(
        None, description="a folder with rule files of this company's own"
    )
    templates: Annotated[Path, PlainValidator(values.folder)] | None = Field(
        None, description="a folder with block templates of this company's own"
    )
    credits: list[CreditTermsModel] = Field([], description="[[company.credits]] tables (in double brackets)")


class ConfigModel(Model):
    hostname: Domain = Field(description='the name that the relay greets with, such as "relay.example.jp"')
    data_dir: Annotated[Path, PlainValidator(values.data_dir)] = _default("var", "a folder for the ledger")
    ledger: Annotated[str, PlainValidator(values.ledger)] = Field("tinydb:", description='"tinydb:"')
    listener: list[ListenerModel] = Field(min_length=1, description="[[listener]] tables (in double brackets)")
    web: WebModel = Field(description="a [web] table with base_url")
    bare_newline: Literal["normalize", "refuse"] = Field("normalize", description='"normalize" or "refuse"')
    rules: RulesModel = _default({}, "a [rules] table")
    templates: TemplatesModel = _default({}, "a [templates] table")
    limits: LimitsModel = _default({}, "a [limits] table")
    company: list[CompanyModel] = Field(min_length=1, description="[[company]] tables (in double brackets)")
