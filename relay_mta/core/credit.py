"""What a ledger entry is, how entries are chained, which may follow which, and what they add up to.

The ledger is append-only: a relayed candidate is a row of entries that share a `relay`, and its state is where
`TRANSITIONS` leads through them. A balance is always a fold over entries, never a stored number; all amounts are
integers and count whole credits.

**The chain.** Per company, `seq` counts from 1 and every entry hashes the one before it. Hashed is the canonical JSON
of all fields but `hash`, with empty fields ("" and 0) left out: a field that a later version adds leaves every older
hash as it is. The personal record of a candidate lies outside; the entry holds a salted commitment to it (SHA-256 over
salt and record), so that the record can be erased and the chain stays whole, and while the record is there it can be
proven to be the one that was committed to. A chain cut off at its end looks whole, so `verify` takes heads that were
noted elsewhere.

**The count.** An entry is judged by the terms in force on its own day (UTC) and in the order of `seq`, so that neither
today's policy nor a clock that jumped re-judges the past. Before the first terms nothing counts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

from relay_mta.core.company import CreditTerms
from relay_mta.core.ports import EntryState

Kind = Literal["held", "relayed", "released", "visited", "registered", "reversed", "redeemed", "adjusted", "suppressed"]
STATES: tuple[EntryState, ...] = get_args(EntryState)
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger. Nothing in it is personal data in clear, and none is ever changed or removed.

    `at` is UTC, ISO 8601 with microseconds and "Z". `relay` is the id of the relay's first `held` entry, "" for
    `redeemed`, `adjusted`, and `suppressed` (this candidate wants no link again). `token` stands in `held` entries
    only. `amount` counts credits: those used, for `redeemed` (positive), those given or taken, for `adjusted`
    (signed). `by` names the operator's account of an entry made by hand.
    """

    company: str
    seq: int
    id: str
    kind: Kind
    at: str
    relay: str = ""
    copy_key: str = ""
    candidate_key: str = ""
    token: str = ""
    ruleset: str = ""
    verdict: str = ""
    reason: str = ""
    commitment: str = ""
    amount: int = 0
    by: str = ""
    prev: str = ""
    hash: str = ""

    def document(self) -> dict[str, str | int]:
        """The entry as a store keeps it: its fields that are not empty."""
        return {name: value for name in _FIELDS if (value := getattr(self, name)) not in ("", 0)}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Entry:
        """The entry of a stored document; `TypeError` if it lacks a field or has one that is not ours."""
        return cls(**document)


_FIELDS = tuple(field.name for field in fields(Entry))


# --- the chain ------------------------------------------------------------------------------------------------------


def timestamp(moment: datetime) -> str:
    """An entry's `at` of an aware moment."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(at: str) -> datetime:
    """The aware moment of an entry's `at`; `ValueError` if it is none."""
    return datetime.fromisoformat(at).astimezone(UTC)


def canonical(document: Mapping[str, object]) -> bytes:
    """The one JSON text of a document: sorted keys, no spaces, ASCII only."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def sealed(entry: Entry) -> Entry:
    """The entry with its `hash`. `ValueError` for an amount that its kind cannot have."""
    if entry.amount <= 0 if entry.kind == "redeemed" else entry.amount != 0 and entry.kind != "adjusted":
        raise ValueError(f"a {entry.kind} entry cannot have the amount {entry.amount}")
    return replace(entry, hash=_digest(entry))


def commitment(salt: str, personal: Mapping[str, str]) -> str:
    """The commitment to a personal record under its salt (hex, 128 bits or more). Both are erased together."""
    return hashlib.sha256(b"relay-mta personal 1\n" + salt.encode("ascii") + b"\n" + canonical(personal)).hexdigest()


@dataclass(frozen=True, slots=True)
class Break:
    """Where a company's chain stops being what was written: at the entry `seq`, because of `reason`."""

    company: str
    seq: int
    reason: str

    def __str__(self) -> str:
        return f"{self.company}: entry {self.seq}: {self.reason}"


def verify(entries: Iterable[Entry], *, heads: Mapping[str, str] | None = None) -> tuple[Break, ...]:
    """The first break of every company's chain, in the order met; () says that nothing was altered, put in, swapped or
    dropped. Entries of one company come in their order. `heads` (company → hash), noted at an earlier time, must be
    among the hashes: they show an end that was cut off."""
    last: dict[str, Entry] = {}
    missing = dict(heads or {})
    broken: dict[str, Break] = {}
    for entry in entries:
        before = last.get(entry.company)
        reason = _flaw(entry, before)
        if reason and entry.company not in broken:
            expected = before.seq + 1 if before else 1
            broken[entry.company] = Break(entry.company, expected, reason)
        last[entry.company] = entry
        if missing.get(entry.company) == entry.hash:
            del missing[entry.company]
    for company in missing:
        end = last[company].seq if company in last else 0
        broken.setdefault(company, Break(company, end + 1, "the chain ends before the head that was noted"))
    return tuple(broken.values())


def _flaw(entry: Entry, before: Entry | None) -> str:
    if entry.seq != (before.seq + 1 if before else 1):
        return f"entry {entry.seq} stands in its place"
    if entry.prev != (before.hash if before else ""):
        return "it does not follow the entry before it"
    if entry.hash != _digest(entry):
        return "its content was altered"
    return ""


def _digest(entry: Entry) -> str:
    document = entry.document()
    document.pop("hash", None)
    return hashlib.sha256(b"relay-mta entry 1\n" + canonical(document)).hexdigest()


# --- states ---------------------------------------------------------------------------------------------------------

TRANSITIONS: Mapping[tuple[EntryState | None, Kind], EntryState] = {
    (None, "held"): "held",
    ("held", "relayed"): "relayed",
    ("held", "released"): "released",
    ("held", "registered"): "registered",  # a person read it: it did arrive, whatever the connection said
    ("held", "reversed"): "reversed",
    ("released", "held"): "held",  # the same mail comes again
    ("released", "relayed"): "relayed",  # an upstream's 2xx is a fact, even behind a release
    ("released", "registered"): "registered",
    ("relayed", "visited"): "visited",
    ("relayed", "registered"): "registered",
    ("relayed", "reversed"): "reversed",
    ("visited", "registered"): "registered",
    ("visited", "reversed"): "reversed",
    ("registered", "reversed"): "reversed",
}
"""(state, kind of a new entry) → state. What is missing here writes nothing: the call was a repetition, came too late,
or says less than is known. Above all: nothing releases what the upstream accepted, a page opened while the upstream's
answer is out (a scanner on the way) proves no delivery, and what was reversed stays so."""


def after(state: EntryState | None, kind: Kind) -> EntryState | None:
    """The state that an entry of this kind leads a relay to; None if there is nothing to write."""
    return TRANSITIONS.get((state, kind))


# --- balance --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Balance:
    """What a company's entries add up to.

    `relays`: delivered and not reversed. `counted`: candidates that count under the terms of their day. `in_doubt`:
    held, the outcome is not known (or is just being awaited). `registered`: relays whose candidate registered.
    `available` = earned + adjusted − used; it is negative when a reversal took back what had been used. `to_next`:
    candidates still missing to the next credit under the terms of now; 0 if there are no terms.
    """

    relays: int = 0
    counted: int = 0
    credits_earned: int = 0
    credits_used: int = 0
    adjusted: int = 0
    available: int = 0
    to_next: int = 0
    in_doubt: int = 0
    registered: int = 0


def balance(entries: Iterable[Entry], terms: Sequence[CreditTerms], now: datetime) -> Balance:
    """What one company's entries up to `now` (aware) add up to, in any order given.

    A candidate counts when the entry that earns under that day's terms is written, once within their
    `count_window_days` from the last time that it counted; a reversed relay never does. A credit is earned by the entry
    that completes it; what is left over carries into the next terms. `ValueError` for entries of several companies.
    """
    until = timestamp(now)
    known = sorted((entry for entry in entries if entry.at <= until), key=lambda entry: entry.seq)
    if len({entry.company for entry in known}) > 1:
        raise ValueError("a balance is one company's")
    contract = sorted(terms, key=lambda each: each.start)
    earnings, states = _earnings(known, contract)
    void = {relay for relay, state in states.items() if state == "reversed"}
    counted = earned = progress = 0
    last: dict[str, datetime] = {}
    for earning in earnings:
        if earning.entry.relay in void:
            continue
        at = moment(earning.entry.at)
        before = last.get(earning.entry.candidate_key)
        if before is not None and at - before < timedelta(days=earning.terms.count_window_days):
            continue
        last[earning.entry.candidate_key] = at
        counted += 1
        gained, progress = divmod(progress + 1, earning.terms.relays_per_credit)
        earned += gained
    used = sum(entry.amount for entry in known if entry.kind == "redeemed")
    adjusted = sum(entry.amount for entry in known if entry.kind == "adjusted")
    current = _in_force(contract, until)
    tally = list(states.values())
    return Balance(
        relays=sum(state in ("relayed", "visited", "registered") for state in tally),
        counted=counted,
        credits_earned=earned,
        credits_used=used,
        adjusted=adjusted,
        available=earned + adjusted - used,
        to_next=max(1, current.relays_per_credit - progress) if current else 0,
        in_doubt=tally.count("held"),
        registered=tally.count("registered"),
    )


@dataclass(frozen=True, slots=True)
class _Earning:
    entry: Entry
    terms: CreditTerms


def _earnings(known: Sequence[Entry], contract: Sequence[CreditTerms]) -> tuple[list[_Earning], dict[str, EntryState]]:
    """The entries that earn under the terms of their day, at most one of each relay; and where every relay stands."""
    states: dict[str, EntryState] = {}
    earnings: dict[str, _Earning] = {}
    for entry in known:
        before = states.get(entry.relay)
        state = after(before, entry.kind)
        if state is None:
            continue
        states[entry.relay] = state
        terms = _in_force(contract, entry.at)
        if terms is None or entry.relay in earnings:
            continue
        # A registration of a relay that was still in doubt is its delivery, too.
        delivered = entry.kind in ("relayed", "registered") and before in ("held", "released")
        if delivered if terms.earn_on == "relayed" else entry.kind == "registered":
            earnings[entry.relay] = _Earning(entry, terms)
    return list(earnings.values()), states


def _in_force(contract: Sequence[CreditTerms], at: str) -> CreditTerms | None:
    day = date.fromisoformat(at[:10])
    return next((terms for terms in reversed(contract) if terms.start <= day), None)
