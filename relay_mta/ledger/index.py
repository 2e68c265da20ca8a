"""What the embedded ledger looks up, in memory: relays by id, copy key, candidate and token, who wants no link
again, and every chain's head.

Built from the stored entries at opening and led on by each new one. `add` returns how to take itself back, for a write
that could not be made durable. Every look-up is constant time; no I/O, no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay_mta.core.credit import Kind, after
from relay_mta.core.ports import EntryState


@dataclass(eq=False, slots=True)
class Relay:
    """One relay as its entries leave it. `held_at` is an entry's `at`."""

    id: str
    company: str
    copy_key: str
    candidate_key: str
    token: str
    held_at: str
    state: EntryState = "held"


class Index:
    """The look-ups. An entry is given as its stored document."""

    def __init__(self) -> None:
        self.relays: dict[str, Relay] = {}
        self._copies: dict[tuple[str, str], Relay] = {}
        self._candidates: dict[tuple[str, str], list[Relay]] = {}
        self._tokens: dict[bytes, list[Relay]] = {}
        self._heads: dict[str, tuple[int, str]] = {}
        self._suppressed: dict[tuple[str, str], str] = {}

    def head(self, company: str) -> tuple[int, str]:
        """The last entry's `seq` and `hash`; (0, "") before the first."""
        return self._heads.get(company, (0, ""))

    def copy(self, company: str, copy_key: str) -> Relay | None:
        """The relay of this very mail to this candidate."""
        return self._copies.get((company, copy_key))

    def candidate_token(self, company: str, candidate_key: str) -> str | None:
        """The token that the candidate has already: that of their newest relay that was not reversed."""
        relays = self._candidates.get((company, candidate_key), ())
        return next((relay.token for relay in reversed(relays) if relay.state != "reversed"), None)

    def token(self, token: str) -> Relay | None:
        """The newest relay of a token; one that was released or reversed only if there is no other."""
        # The hash is what is compared, so that the time says nothing about how much of a guess was right.
        relays = self._tokens.get(_hashed(token), ())
        live = (relay for relay in reversed(relays) if relay.state not in ("released", "reversed"))
        return next(live, relays[-1] if relays else None)

    def suppressed(self, company: str, candidate_key: str) -> bool:
        """Whether the candidate wants no link again from this company."""
        return (company, candidate_key) in self._suppressed

    def add(self, entry: Mapping[str, Any]) -> Callable[[], None]:
        """Take in a company's next entry; returns what takes it back (newest first).

        Raises `ValueError` if it is not the next one, or no entry that may follow.
        """
        company, kind, relay_id = entry["company"], entry["kind"], entry.get("relay", "")
        head = self.head(company)
        if (entry["seq"], entry.get("prev", "")) != (head[0] + 1, head[1]):
            raise ValueError("it does not follow the entry before it")
        if kind == "suppressed":
            undo = self._suppress((company, entry["candidate_key"]), entry["at"])
        else:
            undo = self._advance(entry, kind, relay_id) if relay_id else _nothing
        self._heads[company] = (entry["seq"], entry["hash"])

        def take_back() -> None:
            undo()
            self._heads[company] = head

        return take_back

    def _suppress(self, candidate: tuple[str, str], at: str) -> Callable[[], None]:
        if candidate in self._suppressed:
            return _nothing
        self._suppressed[candidate] = at

        def take_back() -> None:
            del self._suppressed[candidate]

        return take_back

    def _advance(self, entry: Mapping[str, Any], kind: Kind, relay_id: str) -> Callable[[], None]:
        relay = self.relays.get(relay_id)
        before = relay.state if relay else None
        state = after(before, kind)
        if state is None:
            raise ValueError(f"no {kind} entry may follow {before or 'nothing'}")
        if relay is None or before is None:
            return self._begin(entry, relay_id)
        relay.state = state

        def take_back() -> None:
            relay.state = before

        return take_back

    def _begin(self, entry: Mapping[str, Any], relay_id: str) -> Callable[[], None]:
        company, token = entry["company"], entry["token"]
        relay = Relay(relay_id, company, entry["copy_key"], entry["candidate_key"], token, entry["at"])
        copy = (company, relay.copy_key)
        if copy in self._copies:
            raise ValueError("its copy key belongs to another relay")
        candidates = self._candidates.setdefault((company, relay.candidate_key), [])
        tokens = self._tokens.setdefault(_hashed(token), [])
        self.relays[relay_id] = self._copies[copy] = relay
        candidates.append(relay)
        tokens.append(relay)

        def take_back() -> None:
            del self.relays[relay_id], self._copies[copy]
            candidates.remove(relay)
            tokens.remove(relay)

        return take_back


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _nothing() -> None:
    pass
