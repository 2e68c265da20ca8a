"""The schema of config.toml: every key, its default, what it must look like, and what was expected when it does not.

The models check one key at a time (`config` looks at what is wrong between keys). A reader raises `ValueError` with
what is wrong; the key's description says what was expected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import date
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo

from relay_mta.core.company import OFF_KEYWORDS
from relay_mta.core.fold import clean

Network = IPv4Network | IPv6Network

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")  # RFC 1123 §2.1; "_" stands in real zones
_SIZE = re.compile(r"(\d{1,12}) ?(B|KiB|MiB|GiB)")
_SECONDS = re.compile(r"(\d{1,6}) ?(s|min)")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1, "min": 60}
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]")
_URL_TEXT = re.compile(r"[!#-;=?-\[\]_a-z~]+")  # RFC 3986 §2: ASCII that may stand in a URL, nothing that needs quoting


class HostPort(NamedTuple):
    host: str
    port: int


# --- readers of one value -------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a string")
    if not value.strip():
        raise ValueError("is empty")
    return value


def shown(value: Any) -> str:
    """A TOML value as a person would recognise it, short and on one line."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = _UNSEEN.sub("?", str(value))
    text = text if len(text) <= 60 else text[:59] + "…"
    return f'"{text}"' if isinstance(value, str) else text


def domain(value: Any) -> str:
    """A domain name in lower case, an internationalised one as its A-labels (RFC 5890 §2.3.2.1)."""
    text = _text(value)
    try:
        ascii_text = text.encode("idna").decode("ascii").lower() if not text.isascii() else text.lower()
    except UnicodeError:
        raise ValueError(f"{shown(text)} is not a domain name") from None
    if "@" in text:
        raise ValueError(f"{shown(text)} is an address")
    if len(ascii_text) > 253 or not all(_LABEL.fullmatch(label) for label in ascii_text.split(".")):
        raise ValueError(f"{shown(text)} is not a domain name")
    if ascii_text.rpartition(".")[2].isdigit():
        raise ValueError(f"{shown(text)} is not a domain name")
    return ascii_text


def _mail_domain(value: Any) -> str:
    name = domain(value)
    if "." not in name and name != "localhost":
        raise ValueError(f"{shown(value)} would take in a whole top-level domain")
    return name


def _partner(value: Any) -> str:
    text = _text(value)
    local, at, name = text.rpartition("@")
    if not at:
        return _mail_domain(text)
    if not local or re.search(r"[\s<>,;]", local):
        raise ValueError(f"{shown(text)} is not an address")
    return f"{local.lower()}@{_mail_domain(name)}"


def as_host(value: Any) -> str:
    text = _text(value)
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ip_address(bare))
    except ValueError:
        return domain(bare)


def as_host_port(value: Any) -> HostPort:
    text = _text(value)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not port.isascii():
        raise ValueError(f"{shown(text)} has no port")
    if int(port) > 65535:
        raise ValueError(f"port {port[:9]} is above 65535")
    if not host:
        raise ValueError(f"{shown(text)} has no host")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{shown(text)} is an IPv6 address without brackets")
    return HostPort(as_host(host), int(port))


def as_network(value: Any) -> Network:
    text = _text(value)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{shown(text)} is not an IP network") from None
    if "/" in text and str(network.network_address) != str(ip_address(text.partition("/")[0])):
        raise ValueError(f'{shown(text)} has host bits set: "{network}"?')
    if network.prefixlen == 0:
        raise ValueError(f"{shown(text)} would let the whole Internet send as this company")
    return network


def _web_url(value: Any) -> str:
    """An absolute http(s) URL in plain ASCII without userinfo; the host in lower case."""
    text = _text(value)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{shown(text)} is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shown(text)} is not an http or https URL")
    if "@" in parts.netloc:
        raise ValueError("names a user or a password")
    host = as_host(parts.hostname)
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    url = parts._replace(netloc=netloc).geturl()
    if len(url) > 500 or not _URL_TEXT.fullmatch(url.replace("%", "-").lower()):
        raise ValueError(f"{shown(text)} has characters that a URL must percent-encode, or is too long")
    return url


def _base_url(value: Any) -> str:
    url = _web_url(value)
    if "?" in url or "#" in url:
        raise ValueError(f"{shown(value)} has a query or a fragment")
    return url.rstrip("/")


def _name(value: Any) -> str:
    text = _text(value).strip()
    if len(text) > 100:
        raise ValueError(f"is {len(text)} characters long")
    if _UNSEEN.search(text):
        raise ValueError("holds control or invisible characters")
    return text


def _keyword(value: Any) -> str:
    text = _name(value)
    if len("".join(clean(text).split())) < 3:
        raise ValueError(f"{shown(text)} is too short: it would stand in too many subjects")
    return text


def _selector(value: Any) -> str:
    """A DKIM selector (RFC 6376 §3.1): labels of a domain name."""
    text = _text(value).lower()
    if len(text) > 63 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError(f"{shown(value)} cannot be a selector")
    return text


def _company_id(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[a-z0-9-]{1,32}", text):
        raise ValueError(f"{shown(text)} cannot be an id")
    return text


def _ledger(value: Any) -> str:
    text = _text(value)
    if text.startswith(("postgresql:", "postgres:")):
        raise ValueError("this version has no PostgreSQL ledger yet")
    if text != "tinydb:":
        raise ValueError(f"{shown(text)} is not a ledger")
    return text


def _quantity(value: Any, pattern: re.Pattern[str]) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and (match := pattern.fullmatch(value.strip())):
        number = int(match[1]) * _UNITS[match[2]]
    else:
        raise ValueError(f"{shown(value)} cannot be read")
    return number


def as_size(value: Any) -> int:
    size = _quantity(value, _SIZE)
    if not 1 << 10 <= size <= 1 << 40:
        raise ValueError(f"{shown(value)} is out of range")
    return size


def _seconds(value: Any) -> float:
    seconds = _quantity(value, _SECONDS)
    if not 0 <= seconds <= 86_400:
        raise ValueError(f"{shown(value)} is out of range")
    return float(seconds)


def _beside(value: Any, info: ValidationInfo) -> Path:
    """A path, counted from the configuration file's folder."""
    text = _text(value)
    if "\0" in text:
        raise ValueError("holds a NUL character")
    folder = info.context["folder"] if info.context else Path()
    try:
        return Path(folder, Path(text).expanduser())
    except RuntimeError:
        raise ValueError(f"{shown(text)} names nobody's home") from None


def _file(value: Any, info: ValidationInfo) -> Path:
    path = _beside(value, info)
    if not os.path.isfile(path):
        raise ValueError(f"{shown(value)} is not there or not a file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{shown(value)} cannot be read: {error.strerror}") from None
    return path


def _data_dir(value: Any, info: ValidationInfo) -> Path:
    path = _beside(value, info)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError(f"{shown(value)} is not a folder")
    return path


def _own_directory(value: Any, info: ValidationInfo) -> Path | None:
    path = _beside(value, info)
    if os.path.isdir(path):
        return path
    if value in ("rules", "templates") and not os.path.lexists(path):
        return None  # the defaults: the shipped files alone, where nobody has put their own beside the configuration
    raise ValueError(f"{shown(value)} is not there or not a folder")


def _folder(value: Any, info: ValidationInfo) -> Path:
    path = _beside(value, info)
    if not os.path.isdir(path):
        raise ValueError(f"{shown(value)} is not there or not a folder")
    return path


# --- the models -----------------------------------------------------------------------------------------------------


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Domain = Annotated[str, PlainValidator(domain)]
Seconds = Annotated[float, PlainValidator(_seconds)]
Size = Annotated[int, PlainValidator(as_size)]
File = Annotated[Path, PlainValidator(_file)]
Address = Annotated[HostPort, PlainValidator(as_host_port)]


def _default(value: object, expected: str) -> Any:
    """A field whose default stands as it would in the file and is read like any other value."""
    return Field(value, description=expected, validate_default=True)


_LISTEN = 'host:port, such as "127.0.0.1:2525" or "[::1]:2525"'


class ListenerModel(Model):
    address: Address = Field(description=_LISTEN)
    tls: Literal["none", "starttls", "implicit"] = Field("none", description='"none", "starttls" or "implicit"')
    cert: File | None = Field(None, description="a PEM file with the certificate chain")
    key: File | None = Field(None, description="a PEM file with the private key")


class WebModel(Model):
    address: Address = Field(HostPort("127.0.0.1", 8080), description=_LISTEN)
    base_url: Annotated[str, PlainValidator(_base_url)] = Field(
        description='the http(s) address that candidates open, without query, such as "https://relay.example.jp"'
    )


class RulesModel(Model):
    directory: Annotated[Path | None, PlainValidator(_own_directory)] = _default(
        "rules",
        'a folder with rule files of your own; left out, "rules" beside the configuration if there is such a folder',
    )


class TemplatesModel(Model):
    directory: Annotated[Path | None, PlainValidator(_own_directory)] = _default(
        "templates",
        'a folder with block templates of your own; left out, "templates" beside the configuration if there is such a '
        "folder",
    )


class LimitsModel(Model):
    memory_budget: Size = _default("1GiB", 'a size from 1KiB up, such as "1GiB" or a number of bytes')
    max_size: Size = _default("50MiB", 'a size from 1KiB up, such as "50MiB" or a number of bytes')
    max_received: int = Field(50, ge=1, le=1000, description="a whole number from 1 to 1000")
    max_connections: int = Field(500, ge=1, le=100_000, description="a whole number from 1 to 100000")
    drain: Seconds = _default("30s", 'a time up to a day, such as "30s" or a number of seconds')


class UpstreamModel(Model):
    host: Annotated[str, PlainValidator(as_host)] = Field(description="a host name or an IP address, without port")
    port: int = Field(25, ge=1, le=65535, description="a port number from 1 to 65535")
    tls: Literal["none", "opportunistic", "starttls", "implicit"] = Field(
        "opportunistic", description='"none", "opportunistic", "starttls" or "implicit"'
    )
    ca_file: File | None = Field(None, description="a PEM file with the certificates to trust")


class AgencyModel(Model):
    name: Annotated[str, PlainValidator(_name)] = Field(description="the agency's name, 1 to 100 characters")
    url: Annotated[str, PlainValidator(_web_url)] = Field(
        description='an http(s) URL, such as "https://agency.example/"'
    )


class CreditTermsModel(Model):
    start: date = Field(alias="from", description="a date without quotes, such as 2026-01-01")
    relays_per_credit: int = Field(10, ge=1, le=1_000_000, description="a whole number from 1 up")
    earn_on: Literal["relayed", "registered"] = Field("relayed", description='"relayed" or "registered"')
    count_window_days: int = Field(365, ge=1, le=36_500, description="a number of days from 1 up")


_SENDERS = 'a list of domains and addresses, such as ["sales.acme.example.jp", "ceo@acme.example.jp"]'


class CompanyModel(Model):
    id: Annotated[str, PlainValidator(_company_id)] = Field(
        description="1 to 32 of the characters a-z, 0-9 and hyphen, never changed again"
    )
    name: Annotated[str, PlainValidator(_name)] = Field(description="the company's name, 1 to 100 characters")
    domains: list[Annotated[str, PlainValidator(_mail_domain)]] = Field(
        min_length=1, description='a list of the company\'s own mail domains, such as ["acme.example.jp"]'
    )
    partners: list[Annotated[str, PlainValidator(_partner)]] = Field(
        [], description='a list of domains and addresses, such as ["agent.example", "hr@vendor.example"]'
    )
    mode: Literal["off", "observe", "relay"] = Field("observe", description='"off", "observe" or "relay"')
    clients: list[Annotated[Network, PlainValidator(as_network)]] = Field(
        min_length=1, description='a list of the company\'s IP networks, such as ["192.0.2.0/24", "2001:db8::25"]'
    )
    upstream: UpstreamModel = Field(description='a table, such as { host = "smtp.example.jp", port = 25 }')
    agency: AgencyModel = Field(description='a table, such as { name = "…", url = "https://agency.example/" }')
    exempt_senders: list[Annotated[str, PlainValidator(_partner)]] = Field([], description=_SENDERS)
    only_senders: list[Annotated[str, PlainValidator(_partner)]] = Field([], description=_SENDERS)
    off_keywords: list[Annotated[str, PlainValidator(_keyword)]] = Field(
        list(OFF_KEYWORDS), description='a list of texts, such as ["[no-relay]"]'
    )
    allow_force: bool = Field(False, description="true or false")
    placement: Literal["below", "end", "link"] = Field("below", description='"below", "end" or "link"')
    dkim: Literal["exempt", "resign", "remove"] = Field("exempt", description='"exempt", "resign" or "remove"')
    dkim_selector: Annotated[str, PlainValidator(_selector)] | None = Field(
        None, description='the selector of the DKIM record, such as "relay1"'
    )
    dkim_domain: Domain | None = Field(None, description="the domain that signs, one of the company's own")
    dkim_key: Annotated[Path, PlainValidator(_beside)] | None = Field(
        None, description="a PEM file with the private key (relay-mta dkim keygen makes one)"
    )
    several_to: bool = Field(False, description="true or false")
    max_copies: int = Field(20, ge=1, le=1000, description="a whole number from 1 to 1000")
    split_deadline: Seconds = _default("40s", 'a time up to a day, such as "40s" or a number of seconds')
    hide_client: bool = Field(False, description="true or false")
    rules: Annotated[Path, PlainValidator(_folder)] | None = Field(
        None, description="a folder with rule files of this company's own"
    )
    templates: Annotated[Path, PlainValidator(_folder)] | None = Field(
        None, description="a folder with block templates of this company's own"
    )
    credits: list[CreditTermsModel] = Field([], description="[[company.credits]] tables (in double brackets)")


class ConfigModel(Model):
    hostname: Domain = Field(description='the name that the relay greets with, such as "relay.example.jp"')
    data_dir: Annotated[Path, PlainValidator(_data_dir)] = _default("var", "a folder for the ledger")
    ledger: Annotated[str, PlainValidator(_ledger)] = Field("tinydb:", description='"tinydb:"')
    listener: list[ListenerModel] = Field(min_length=1, description="[[listener]] tables (in double brackets)")
    web: WebModel = Field(description="a [web] table with base_url")
    rules: RulesModel = _default({}, "a [rules] table")
    templates: TemplatesModel = _default({}, "a [templates] table")
    limits: LimitsModel = _default({}, "a [limits] table")
    company: list[CompanyModel] = Field(min_length=1, description="[[company]] tables (in double brackets)")
