"""Single values of config.toml: a host, a size, a network, as a person writes them and as the program takes them.

Each reader takes what TOML gave and raises `ValueError` with what is wrong with it; `schema` says what was expected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import ValidationInfo

from relay_mta.core.fold import clean
from relay_mta.core.ip import ClientNetwork, Network
from relay_mta.secretsource import SecretSource

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")  # RFC 1123 §2.1; "_" stands in real zones
_SIZE = re.compile(r"(\d{1,12}) ?(B|KiB|MiB|GiB)")
_SECONDS = re.compile(r"(\d{1,6}) ?(s|min)")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "s": 1, "min": 60}
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]")
_URL_TEXT = re.compile(r"[!#-;=?-\[\]_a-z~]+")  # RFC 3986 §2: ASCII that may stand in a URL, nothing that needs quoting


_SECRET_NAMES = {
    "env": ("environment variable", re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")),
    "credential": ("credential", re.compile(r"(?!\.\.?\Z)[A-Za-z0-9_.-]{1,100}")),
}


class HostPort(NamedTuple):
    host: str
    port: int


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


def mail_domain(value: Any) -> str:
    name = domain(value)
    if "." not in name and name != "localhost":
        raise ValueError(f"{shown(value)} would take in a whole top-level domain")
    return name


def partner(value: Any) -> str:
    text = _text(value)
    local, at, name = text.rpartition("@")
    if not at:
        return mail_domain(text)
    if not local or re.search(r"[\s<>,;]", local):
        raise ValueError(f"{shown(text)} is not an address")
    return f"{local.lower()}@{mail_domain(name)}"


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


def client_network(value: Any) -> ClientNetwork:
    """A network, or a table that says whether strangers send from it too."""
    if not isinstance(value, Mapping):
        return ClientNetwork(as_network(value), shared=False)
    unknown = [key for key in value if key not in ("network", "shared")]
    if unknown:
        raise ValueError(f"has an unknown key {shown(unknown[0])}")
    if "network" not in value:
        raise ValueError("has no network")
    if not isinstance(value.get("shared", False), bool):
        raise ValueError(f"its shared is {shown(value['shared'])}, not true or false")
    return ClientNetwork(as_network(value["network"]), shared=value.get("shared", False))


def secret_source(value: Any, info: ValidationInfo) -> SecretSource:
    """Where a secret is kept. That it is there is found out when it is needed."""
    if not isinstance(value, Mapping):
        raise ValueError("is not a table: a secret never stands in the configuration itself")
    if len(value) != 1:
        raise ValueError("names no place" if not value else "names more than one place")
    ((kind, name),) = value.items()
    # Nothing of this table is quoted: where a name should stand, somebody may have written the secret.
    if kind not in ("file", "env", "credential"):
        raise ValueError("names a place of an unknown kind")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"its {kind} is {'empty' if isinstance(name, str) else 'not a string'}")
    if kind == "file":
        return SecretSource("file", str(beside(name, info)))
    what, pattern = _SECRET_NAMES[kind]
    if not pattern.fullmatch(name):
        raise ValueError(f"has no {what}'s name (is it the secret itself?)")
    return SecretSource("env" if kind == "env" else "credential", name)


def header_name(value: Any) -> str:
    """A header field's name, in lower case (RFC 5322 §3.6.8)."""
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z0-9-]{1,76}", text) or not text.lower().startswith("x-"):
        raise ValueError(f"{shown(text)} cannot be the field's name")
    if text.lower() in ("x-career-relay", "x-career-relay-loop"):
        raise ValueError(f"{shown(text)} is a field of the relay's own")
    return text.lower()


def login(value: Any) -> str:
    text = _text(value)
    if len(text) > 255 or _UNSEEN.search(text):
        raise ValueError(f"{shown(text)} cannot be a login")
    return text


def web_url(value: Any) -> str:
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


def base_url(value: Any) -> str:
    url = web_url(value)
    if "?" in url or "#" in url:
        raise ValueError(f"{shown(value)} has a query or a fragment")
    return url.rstrip("/")


def name(value: Any) -> str:
    text = _text(value).strip()
    if len(text) > 100:
        raise ValueError(f"is {len(text)} characters long")
    if _UNSEEN.search(text):
        raise ValueError("holds control or invisible characters")
    return text


def keyword(value: Any) -> str:
    text = name(value)
    if len("".join(clean(text).split())) < 3:
        raise ValueError(f"{shown(text)} is too short: it would stand in too many subjects")
    return text


def selector(value: Any) -> str:
    """A DKIM selector (RFC 6376 §3.1): labels of a domain name."""
    text = _text(value).lower()
    if len(text) > 63 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise ValueError(f"{shown(value)} cannot be a selector")
    return text


def company_id(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[a-z0-9-]{1,32}", text):
        raise ValueError(f"{shown(text)} cannot be an id")
    return text


def ledger(value: Any) -> str:
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


def as_seconds(value: Any) -> float:
    seconds = _quantity(value, _SECONDS)
    if not 0 <= seconds <= 86_400:
        raise ValueError(f"{shown(value)} is out of range")
    return float(seconds)


def as_patience(value: Any) -> float:
    """A time for somebody else to do something in."""
    seconds = as_seconds(value)
    if seconds < 1:
        raise ValueError(f"{shown(value)} leaves nobody any time")
    return seconds


def beside(value: Any, info: ValidationInfo) -> Path:
    """A path, counted from the configuration file's folder."""
    text = _text(value)
    if "\0" in text:
        raise ValueError("holds a NUL character")
    folder = info.context["folder"] if info.context else Path()
    try:
        return Path(folder, Path(text).expanduser())
    except RuntimeError:
        raise ValueError(f"{shown(text)} names nobody's home") from None


def file(value: Any, info: ValidationInfo) -> Path:
    path = beside(value, info)
    if not os.path.isfile(path):
        raise ValueError(f"{shown(value)} is not there or not a file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{shown(value)} cannot be read: {error.strerror}") from None
    return path


def data_dir(value: Any, info: ValidationInfo) -> Path:
    path = beside(value, info)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ValueError(f"{shown(value)} is not a folder")
    return path


def own_directory(value: Any, info: ValidationInfo) -> Path | None:
    path = beside(value, info)
    if os.path.isdir(path):
        return path
    if value in ("rules", "templates") and not os.path.lexists(path):
        return None  # the defaults: the shipped files alone, where nobody has put their own beside the configuration
    raise ValueError(f"{shown(value)} is not there or not a folder")


def folder(value: Any, info: ValidationInfo) -> Path:
    path = beside(value, info)
    if not os.path.isdir(path):
        raise ValueError(f"{shown(value)} is not there or not a folder")
    return path
