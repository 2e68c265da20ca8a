"""Asks the running relay which rules are in force: a GET of the health check at the address that [web] names."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from relay_mta.config import Config
from relay_mta.core.errors import RelayError

SECONDS = 5.0
LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Status:
    """`state`: "current", or "stale" while rule files are broken and the last good set stays in force.

    `problems` are the first of `problem_count` problems, as many as the relay tells. `companies` are those that have a
    rule folder of their own, with their hash; `trials` counts the mails that met a rule on probation,
    `missed` the rejections that were exempt, by reason.
    """

    state: str
    hash: str
    loaded_at: str
    problems: tuple[str, ...]
    problem_count: int
    companies: Mapping[str, str]
    trials: Mapping[str, int]
    missed: Mapping[str, int]
    version: str


def ask(config: Config) -> Status:
    """The state of the relay that runs with this configuration. Raises `RelayError` if none answers."""
    host, port = _local(config.web.host), config.web.port
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not port:
        raise RelayError("web.address has port 0: the relay took any free port, so it cannot be asked")
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", "/healthz", headers={"Accept": "application/json"})
        body = connection.getresponse().read(LONGEST)
    except (OSError, http.client.HTTPException) as error:
        told = getattr(error, "strerror", None) or type(error).__name__
        raise RelayError(f"{place}: no relay answers here: {told}; does it run, with this configuration?") from None
    finally:
        connection.close()
    try:
        return _status(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RelayError(f"{place}: something answers here, but not a relay that tells of its rules") from None


def _local(host: str) -> str:
    """Where a listener can be reached from its own machine: one on all addresses at the loopback address."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return host


def _status(told: Any) -> Status:
    rules = told["rules"]
    return Status(
        state=str(rules["state"]),
        hash=str(rules["hash"]),
        loaded_at=str(rules["loaded_at"]),
        problems=tuple(str(problem) for problem in rules["problems"]),
        problem_count=int(rules["problem_count"]),
        trials={str(id): int(count) for id, count in rules["trials"].items()},
        missed={str(reason): int(count) for reason, count in rules.get("missed", {}).items()},
        companies={str(id): str(own["hash"]) for id, own in rules["companies"].items()},
        version=str(told["version"]),
    )
