"""What is wrong in a configuration between its keys: two companies in one network, a listener without its certificate.

`values` looks at one key at a time. Here the plain TOML is looked at, so that one mistake never hides another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from relay_mta import senders
from relay_mta.core.address import within
from relay_mta.tables import attempt, tables
from relay_mta.tomllines import KeyPath
from relay_mta.values import HostPort, as_host, as_host_port, as_size, domain, shown


def relations(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong between keys, as (the key to blame, what is wrong and what was expected). `data` is the plain TOML,
    so that one mistake never hides another; values that are wrong in themselves are passed over here."""
    companies = [(index, company) for index, company in tables(data, "company")]
    yield from _listeners(data)
    yield from _twice(("company",), companies, "id", "each company needs an id of its own")
    for index, company in companies:
        yield from _twice(
            ("company", index, "credits"), tables(company, "credits"), "from", "one date starts one terms"
        )
        yield from _dkim(index, company)
    yield from senders.relations(data, companies)
    yield from _loops(data, companies)
    limits = data.get("limits")
    if isinstance(limits, Mapping):
        budget = attempt(as_size, limits.get("memory_budget", "1GiB"))
        largest = attempt(as_size, limits.get("max_size", "50MiB"))
        if budget and largest and largest > budget:
            key = "max_size" if "max_size" in limits else "memory_budget"
            yield ("limits", key), "one mail of max_size does not fit into memory_budget; expected max_size below it"


def _listeners(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    seen: set[HostPort] = set()
    places: list[tuple[KeyPath, Mapping[str, Any]]]
    places = [(("listener", index), table) for index, table in tables(data, "listener")]
    web = data.get("web")
    if isinstance(web, Mapping):
        places.append((("web",), web))
    for path, table in places:
        if table.get("tls") in ("starttls", "implicit"):
            for key in ("cert", "key"):
                if key not in table:
                    yield (*path, key), f'is missing; expected a PEM file, because tls = "{table["tls"]}"'
        address = attempt(as_host_port, table.get("address", "127.0.0.1:8080" if path == ("web",) else None))
        if address is not None and address.port and address in seen:
            yield (*path, "address"), "is listened on already; expected an address and port of its own"
        elif address is not None:
            seen.add(address)


def _twice(
    path: KeyPath, tables: list[tuple[int, Mapping[str, Any]]], key: str, expected: str
) -> Iterator[tuple[KeyPath, str]]:
    seen: set[str] = set()
    for index, table in tables:
        value = table.get(key)
        if isinstance(value, (str, date)):
            if str(value) in seen:
                yield (*path, index, key), f"{shown(value)} stands here a second time; {expected}"
            seen.add(str(value))


def _dkim(index: int, company: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """What signing needs, and a domain that the company may sign for (RFC 7489 §3.1.1: aligned with From's)."""
    path: KeyPath = ("company", index)
    for key, expected in (("dkim_selector", "the name of the DKIM record"), ("dkim_key", "a PEM file")):
        if company.get("dkim") == "resign" and key not in company:
            yield (*path, key), f'is missing; expected {expected}, because dkim = "resign"'
    own = company.get("domains")
    domains = [name for name in (attempt(domain, each) for each in (own if isinstance(own, list) else ())) if name]
    signing = attempt(domain, company.get("dkim_domain"))
    if signing and domains and not within(signing, domains):
        yield (
            (*path, "dkim_domain"),
            f'"{signing}" is none of the company\'s domains; expected one of {", ".join(domains)}',
        )


def _loops(data: Mapping[str, Any], companies: list[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[KeyPath, str]]:
    own = {attempt(as_host_port, table.get("address")) for _, table in tables(data, "listener")}
    for index, company in companies:
        upstream = company.get("upstream")
        if isinstance(upstream, Mapping):
            host, port = attempt(as_host, upstream.get("host")), upstream.get("port", 25)
            if host and isinstance(port, int) and HostPort(host, port) in own:
                text = "is this relay's own listener; expected the company's outbound mail server"
                yield ("company", index, "upstream", "host"), text
