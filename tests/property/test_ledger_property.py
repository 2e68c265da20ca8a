"""The ledger under any order of calls, repetitions, disk failures, crashes and cuts."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core import credit
from relay_mta.core.company import CreditTerms
from relay_mta.core.credit import Entry, Kind
from relay_mta.core.errors import LedgerError
from relay_mta.core.ports import AlreadyClaimedError, Candidacy, Held
from relay_mta.core.record import RecipientRecord, Record
from relay_mta.ledger import journal
from relay_mta.ledger.journal import Journal, encode_change
from relay_mta.ledger.tinydb import TinyLedger, read

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TERMS = [CreditTerms(date(2026, 1, 1), relays_per_credit=2)]
CANDIDATES = 3


def candidacy(mail: int, candidate: int) -> Candidacy:
    return Candidacy(
        "acme",
        f"copy{mail}-{candidate}",
        f"candidate{candidate}",
        "hash",
        "rejection",
        f"c{candidate}@x",
        "hr@y",
        "",
        "ja",
    )


# One call: what, which mail, which candidate.
Call = tuple[str, int, int]
CALLS = st.tuples(
    st.sampled_from(["hold", "settle", "release", "record", "close", "compact", "break", "mend", "kill", "reopen"]),
    st.integers(0, 1),
    st.integers(0, CANDIDATES - 1),
)


class Model:
    """What must be true of a ledger after what it acknowledged; drives one through any calls."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.ledger = TinyLedger(data_dir, clock=lambda: NOW)
        self.held: dict[tuple[int, int], Held] = {}
        self.state: dict[tuple[int, int], str] = {}
        self.records: dict[str, Record] = {}
        self.disk = mock.patch.object(os, "fdatasync", side_effect=OSError(errno.EIO, "Input/output error"))
        self.bad = False

    async def run(self, calls: list[list[Call]]) -> None:
        try:
            for group in calls:
                alone = [call for call in group if call[0] in ("break", "mend", "kill", "reopen")]
                for call in alone:
                    await self.do(*call)
                await asyncio.gather(*(self.do(*call) for call in group if call not in alone))
                self.check(await self.ledger.entries())
            self.mend()
            await self.ledger.close()
            self.check(list(read(self.data_dir).entries))
        finally:
            self.mend()
            self.ledger.storage.close()

    async def do(self, what: str, mail: int, candidate: int) -> None:
        key = (mail, candidate)
        try:
            await getattr(self, f"do_{what}")(key)
        except LedgerError:
            assert self.bad

    async def do_hold(self, key: tuple[int, int]) -> None:
        held = await self.ledger.hold(candidacy(*key))
        assert self.held.setdefault(key, held).token == held.token
        assert self.held[key].relay == held.relay
        if self.state.get(key) != "relayed":
            self.state[key] = "held"

    async def do_settle(self, key: tuple[int, int]) -> None:
        if key in self.held:
            await self.ledger.settle(self.held[key])
            self.state[key] = "relayed"

    async def do_release(self, key: tuple[int, int]) -> None:
        if key in self.held:
            await self.ledger.release(self.held[key], "reason")

    async def do_record(self, key: tuple[int, int]) -> None:
        mail_key, made = f"mail{key[0]}", Record((RecipientRecord(f"c{key[1]}@x", "sent", True),))
        try:
            earlier = await self.ledger.claim(mail_key)
        except AlreadyClaimedError:
            return
        try:
            assert earlier == self.records.get(mail_key)
            await self.ledger.record(mail_key, made)
            self.records[mail_key] = made
        finally:
            self.ledger.unclaim(mail_key)

    async def do_close(self, key: tuple[int, int]) -> None:
        mail_key = f"mail{key[0]}"
        try:
            await self.ledger.claim(mail_key)
        except AlreadyClaimedError:
            return
        try:
            await self.ledger.close_record(mail_key)
            self.records.pop(mail_key, None)
        finally:
            self.ledger.unclaim(mail_key)

    async def do_compact(self, _: tuple[int, int]) -> None:
        await self.ledger.compact()

    async def do_break(self, _: tuple[int, int]) -> None:
        if not self.bad:
            self.disk.start()
            self.bad = True

    async def do_mend(self, _: tuple[int, int]) -> None:
        self.mend()

    async def do_kill(self, _: tuple[int, int]) -> None:
        """No orderly close; the disk is another one afterwards."""
        self.ledger.storage.close()
        self.mend()
        self.ledger = TinyLedger(self.data_dir, clock=lambda: NOW)

    async def do_reopen(self, _: tuple[int, int]) -> None:
        await self.ledger.close()
        await self.do_kill((0, 0))

    def mend(self) -> None:
        if self.bad:
            self.disk.stop()
            self.bad = False

    def check(self, entries: list[Entry]) -> None:
        assert credit.verify(entries) == ()
        relayed = {key for key, state in self.state.items() if state == "relayed"}
        found = credit.balance(entries, TERMS, NOW)
        assert found.relays == len(relayed), "every acknowledged settlement is there, once"
        assert found.counted == len({candidate for _, candidate in relayed}), "and every candidate counts once"
        assert found.credits_earned == found.counted // 2
        tokens = defaultdict(set)
        for entry in entries:
            if entry.kind == "held":
                tokens[entry.candidate_key].add(entry.token)
        assert all(len(found) == 1 for found in tokens.values()), "a candidate keeps the same link"
        assert len({token for found in tokens.values() for token in found}) == len(tokens)


def in_a_folder(scenario: Callable[[Path], Coroutine[Any, Any, None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(CALLS, min_size=1, max_size=5), max_size=12))
def test_any_calls_in_any_order_count_every_candidate_once(calls: list[list[Call]]) -> None:
    in_a_folder(lambda folder: Model(folder).run(calls))


# --- balance --------------------------------------------------------------------------------------------------------

KINDS: st.SearchStrategy[Kind] = st.sampled_from(["held", "relayed", "released", "visited", "registered", "reversed"])
EVENTS = st.lists(st.tuples(KINDS, st.integers(0, 5), st.integers(0, 400)), max_size=40)
CONTRACTS = st.lists(
    st.builds(
        CreditTerms,
        start=st.dates(date(2026, 1, 1), date(2027, 1, 1)),
        relays_per_credit=st.integers(1, 12),
        earn_on=st.sampled_from(["relayed", "registered"]),
        count_window_days=st.integers(0, 400),
    ),
    max_size=3,
    unique_by=lambda terms: terms.start,
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def chain(events: list[tuple[Kind, int, int]]) -> list[Entry]:
    """Entries as any callers might have brought about, valid or not; two relays share a candidate."""
    entries: list[Entry] = []
    for kind, relay, day in events:
        entry = Entry(
            company="acme",
            seq=len(entries) + 1,
            id=str(len(entries)),
            kind=kind,
            at=credit.timestamp(BEGIN + timedelta(days=day)),
            relay=f"r{relay}",
            candidate_key=f"c{relay // 2}",
            prev=entries[-1].hash if entries else "",
        )
        entries.append(credit.sealed(entry))
    return entries


@given(EVENTS, CONTRACTS, st.randoms(use_true_random=False))
def test_a_balance_adds_up(events: list[tuple[Kind, int, int]], contract: list[CreditTerms], chance: Any) -> None:
    entries = chain(events)
    now = BEGIN + timedelta(days=1000)
    found = credit.balance(entries, contract, now)
    assert 0 <= found.counted <= found.relays <= 6
    assert found.registered <= found.relays
    assert 0 <= found.credits_earned <= found.counted
    assert found.available == found.credits_earned
    assert (found.to_next >= 1) == bool(contract)
    mixed = list(entries)
    chance.shuffle(mixed)
    assert credit.balance(mixed, contract, now) == found
    repeated = chain([event for event in events for _ in range(2)])
    assert credit.balance(repeated, contract, now).counted == found.counted, "a repetition says nothing new"


@given(EVENTS, CONTRACTS, st.integers(0, 400), st.integers(1, 12))
def test_terms_to_come_do_not_touch_the_past(
    events: list[tuple[Kind, int, int]], contract: list[CreditTerms], day: int, per: int
) -> None:
    """Whatever is agreed from a day on, the balance as of the evening before stays what it was."""
    start = (BEGIN + timedelta(days=day)).date()
    known = [terms for terms in contract if terms.start < start]
    eve = BEGIN + timedelta(days=day, microseconds=-1)
    entries = chain(events)
    agreed = [*known, CreditTerms(start, per, "registered", 0)]
    assert credit.balance(entries, agreed, eve) == credit.balance(entries, known, eve)


# --- the journal's bytes --------------------------------------------------------------------------------------------

DOCUMENTS = st.none() | st.dictionaries(
    st.text(max_size=3), st.integers() | st.text(max_size=5) | st.booleans(), max_size=3
)
BATCHES = st.lists(
    st.lists(st.tuples(st.sampled_from(["t", "u"]), st.integers(1, 3), DOCUMENTS), min_size=1, max_size=4),
    min_size=1,
    max_size=6,
)


def written(folder: Path, batches: list[Any]) -> tuple[Path, list[dict[str, Any]]]:
    """A journal of these batches, and the tables after each."""
    log = Journal(folder)
    tables: dict[str, dict[str, Any]] = {}
    stages: list[dict[str, Any]] = [{}]
    for changes in batches:
        log.append([encode_change(table, str(key), document) for table, key, document in changes])
        for table, key, document in changes:
            rows = tables.setdefault(table, {})
            rows.pop(str(key), None)
            if document is not None:
                rows[str(key)] = document
        stages.append({name: dict(rows) for name, rows in tables.items() if rows})
    log.close()
    return log.path, stages


def found_in(folder: Path) -> dict[str, Any]:
    return {name: rows for name, rows in journal.read(folder).tables.items() if name != "meta" and rows}


@settings(max_examples=60, deadline=None)
@given(BATCHES, st.data())
def test_a_cut_leaves_whole_batches(batches: list[Any], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "ledger"
        path, stages = written(folder, batches)
        raw = path.read_bytes()
        size = data.draw(st.integers(0, len(raw)))
        path.write_bytes(raw[:size])
        assert found_in(folder) == stages[raw[:size].count(b"\n")]


@settings(max_examples=100, deadline=None)
@given(BATCHES, st.data())
def test_no_damage_is_read_as_something_else(batches: list[Any], data: st.DataObject) -> None:
    """Any overwritten stretch: refused, or some of the first batches. Never a state that there never was."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "ledger"
        path, stages = written(folder, batches)
        raw = bytearray(path.read_bytes())
        start = data.draw(st.integers(0, len(raw) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=20))
        raw[start : start + len(noise)] = noise
        path.write_bytes(raw)
        try:
            found = found_in(folder)
        except LedgerError as error:
            assert str(path) in str(error)
        else:
            assert found in stages
