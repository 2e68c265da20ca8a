"""What is wrong in a configuration about who may send, and as whom the relay sends: two companies that cannot be told
apart, a password that would cross a network in clear, a network of strangers without a proof.

As `relations`, of which this is a part: plain TOML in, keys to blame out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.parse import urlsplit

from relay_mta.core.address import within
from relay_mta.core.ip import ClientNetwork, loopback
from relay_mta.tables import attempt, items, table, tables
from relay_mta.tomllines import KeyPath
from relay_mta.values import as_host, as_host_port, client_network, company_id, domain, shown, web_url

Found = Iterator[tuple[KeyPath, str]]
_PLACE = '{ file = "…" }, { env = "…" } or { credential = "…" }'


@dataclass(frozen=True, slots=True)
class _Sender:
    """What tells one company from another. `listeners`: by their places in the file."""

    index: int
    domains: tuple[str, ...]
    networks: tuple[tuple[int, ClientNetwork], ...]
    logs_in: bool
    listeners: frozenset[int]


def relations(data: Mapping[str, Any], companies: list[tuple[int, Mapping[str, Any]]]) -> Found:
    """What is wrong, as (the key to blame, what is wrong and what was expected)."""
    listeners = tables(data, "listener")
    yield from _listeners(listeners, companies)
    senders = [_sender(index, company, listeners) for index, company in companies]
    for (index, company), sender in zip(companies, senders, strict=True):
        path: KeyPath = ("company", index)
        yield from _entrances(path, company, sender, listeners)
        yield from _proof(path, company, sender)
        yield from _upstream((*path, "upstream"), table(company, "upstream"), company.get("auth"))
    for one, other in combinations(senders, 2):
        yield from _ambiguous(one, other)


def _sender(index: int, company: Mapping[str, Any], listeners: list[tuple[int, Mapping[str, Any]]]) -> _Sender:
    read = ((place, attempt(client_network, value)) for place, value in enumerate(items(company, "clients")))
    domains = (attempt(domain, each) for each in items(company, "domains"))
    serving = (
        place
        for place, each in listeners
        if not isinstance(each.get("companies"), list) or company.get("id") in each["companies"]
    )
    return _Sender(
        index,
        tuple(each for each in domains if each),
        tuple((place, each) for place, each in read if each is not None),
        company.get("auth") in ("upstream", "users"),
        frozenset(serving),
    )


def _listeners(listeners: list[tuple[int, Mapping[str, Any]]], companies: list[tuple[int, Mapping[str, Any]]]) -> Found:
    ids = {str(company["id"]) for _, company in companies if isinstance(company.get("id"), str)}
    for index, listener in listeners:
        for place, name in enumerate(items(listener, "companies")):
            if attempt(company_id, name) and name not in ids:
                text = f"{shown(name)} is no company's id; expected one of {', '.join(sorted(ids)) or 'those below'}"
                yield ("listener", index, "companies", place), text
        address = attempt(as_host_port, listener.get("address"))
        if listener.get("auth_in_clear") is True:
            if listener.get("tls") == "implicit":
                text = 'says nothing where tls = "implicit": there everything is encrypted; expected it left out'
                yield ("listener", index, "auth_in_clear"), text
            elif address is not None and not loopback(address.host):
                text = "would let passwords cross the network in clear; expected false, or a listener on loopback"
                yield ("listener", index, "auth_in_clear"), text


def _entrances(
    path: KeyPath, company: Mapping[str, Any], sender: _Sender, listeners: list[tuple[int, Mapping[str, Any]]]
) -> Found:
    """Somebody has to be able to send, by a network or by a login."""
    auth = company.get("auth", "none")
    if company.get("clients", []) == [] and auth == "none":
        what = "is empty" if "clients" in company else "is missing"
        text = f'{what}; expected a list of networks, or auth = "upstream" or "users" for clients that log in'
        yield (*path, "clients"), text
    if listeners and not sender.listeners and attempt(company_id, company.get("id")):
        yield (*path, "id"), "is not in the companies of any listener; expected one that serves it"
    serving = [each for place, each in listeners if place in sender.listeners]
    open_to_logins = [each for each in serving if each.get("tls", "none") != "none" or each.get("auth_in_clear")]
    if sender.logs_in and serving and not open_to_logins:
        text = (
            'lets nobody log in: none of its listeners has TLS; expected a listener with tls = "starttls" or "implicit"'
        )
        yield (*path, "auth"), text
    if "users" in company and auth in ("none", "upstream"):
        yield (*path, "users"), 'says nothing here; expected auth = "users" with it'


def _proof(path: KeyPath, company: Mapping[str, Any], sender: _Sender) -> Found:
    keys = ("proof_header", "proof_value")
    given = [key for key in keys if key in company]
    shared = any(network.shared for _, network in sender.networks)
    expected = {
        "proof_header": 'a field\'s name, such as "X-Acme-Relay"',
        "proof_value": f"its secret value, {_PLACE}",
    }
    for key in keys:
        if key not in given and (given or shared):
            why = "because strangers send from its shared networks" if shared else f"to go with {given[0]}"
            yield (*path, key), f"is missing; expected {expected[key]}, {why}"


def _upstream(path: KeyPath, upstream: Mapping[str, Any], auth: object) -> Found:
    host = attempt(as_host, upstream.get("host"))
    in_clear = upstream.get("tls", "opportunistic") in ("none", "opportunistic") and host and not loopback(host)
    if auth == "upstream" and in_clear:
        text = (
            'would let passwords cross the network in clear; expected "starttls" or "implicit" where auth = "upstream"'
        )
        yield (*path, "tls"), text
    login = table(upstream, "login")
    if not login:
        return
    if in_clear:
        text = 'would let the relay\'s login cross the network in clear; expected "starttls" or "implicit"'
        yield (*path, "tls"), text
    path = (*path, "login")
    if ("password" in login) == ("oauth" in login):
        what = "stands beside oauth" if "oauth" in login else "is missing"
        yield (*path, "password"), f"{what}; expected either a password or an oauth table"
    oauth = table(login, "oauth")
    if oauth and login.get("mechanism", "auto") != "auto":
        yield (*path, "mechanism"), "says nothing beside oauth, which is always XOAUTH2; expected it left out"
    needed = {"microsoft": ("tenant", "client_id", "secret"), "google": ("service_account",)}
    provider = str(oauth.get("provider"))
    for key in (key for keys in needed.values() for key in keys if provider in needed):
        if key in needed[provider] and key not in oauth:
            yield (*path, "oauth", key), f'is missing; expected it, because provider = "{provider}"'
        elif key in oauth and key not in needed[provider]:
            yield (*path, "oauth", key), f'says nothing where provider = "{provider}"; expected it left out'
    url = attempt(web_url, oauth.get("token_url"))
    if url and url.startswith("http:") and not loopback(_host_of(url)):
        yield (*path, "oauth", "token_url"), "would send the secret in clear; expected an https URL"


def _ambiguous(one: _Sender, other: _Sender) -> Found:
    """Two companies that a client might be, and nothing that says which."""
    if not one.listeners & other.listeners:
        return
    common = [each for each in other.domains if within(each, one.domains)]
    common += [each for each in one.domains if within(each, other.domains)]
    if not common:
        return
    for _, mine in one.networks:
        for place, theirs in other.networks:
            if mine.network.version == theirs.network.version and mine.network.overlaps(theirs.network):
                text = f'"{theirs.network}" overlaps "{mine.network}" of company[{one.index + 1}], and both have '
                text += f'"{common[0]}": which company sends from there? expected networks, domains or listeners that '
                yield ("company", other.index, "clients", place), text + "belong to one company"
    if one.logs_in and other.logs_in:
        text = (
            f'is ambiguous: clients of company[{one.index + 1}] log in too, and both have "{common[0]}": which company '
        )
        text += "does a login of it belong to? expected domains or listeners that belong to one company"
        yield ("company", other.index, "auth"), text


def _host_of(url: str) -> str:
    return urlsplit(url).hostname or ""
