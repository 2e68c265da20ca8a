"""What every ledger store promises, as tests. A store's test module subclasses `LedgerContract` and says how its ledger
is opened; pytest then runs all of this on it.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from relay_mta.core import credit, link
from relay_mta.core.company import CreditTerms
from relay_mta.core.credit import Entry
from relay_mta.core.errors import LedgerError
from relay_mta.core.ports import AlreadyClaimedError, Candidacy, Held, OptedOutError
from relay_mta.core.record import RecipientRecord, Record
from relay_mta.core.reply import Reply

START = datetime(2026, 4, 1, 0, 0, tzinfo=UTC)
TERMS = CreditTerms(START.date(), relays_per_credit=2)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


def candidacy(mail: str = "m1", candidate: str = "taro", company: str = "acme") -> Candidacy:
    return Candidacy(
        company=company,
        copy_key=f"copy:{company}:{mail}:{candidate}",
        candidate_key=f"candidate:{company}:{candidate}",
        ruleset="0123abcd",
        verdict="rejection 9.0/5.0",
        address=f"{candidate}@candidate.example",
        sender="hr@acme.example",
        message_id=f"<{mail}@acme.example>",
        language="ja",
    )


def record(*recipients: tuple[str, str], deferrals: int = 0) -> Record:
    made = []
    for forward_path, status in recipients:
        refusal = Reply(550, (b"5.1.1 no such user", b"\xff\x00 \\ \xe3\x81\x82")) if status == "refused" else None
        made.append(RecipientRecord(forward_path, status, True, refusal))  # type: ignore[arg-type]  # a Status
    return Record(tuple(made), deferrals)


TWO = record(("taro@candidate.example", "sent"), ("hanako@candidate.example", "pending"))


class LedgerContract(ABC):
    """`open` gives a ledger on the same data each time; `close` closes it in an orderly way."""

    @abstractmethod
    async def open(self) -> Any: ...

    async def close(self, ledger: Any) -> None:
        await ledger.close()

    @pytest.fixture(autouse=True)
    def _clock(self) -> None:
        self.clock = Clock()

    @pytest_asyncio.fixture
    async def ledger(self, _clock: None, place: None) -> AsyncIterator[Any]:
        ledger = await self.open()
        yield ledger
        await self.close(ledger)

    @abstractmethod
    def place(self, *fixtures: Any) -> None:
        """A fixture that makes an empty place for the data."""

    async def count(self, ledger: Any, company: str = "acme") -> credit.Balance:
        return credit.balance(await ledger.entries(company), [TERMS], self.clock.now)

    # --- hold, settle, release ---

    async def test_a_hold_is_an_entry_and_a_token(self, ledger: Any) -> None:
        held = await ledger.hold(candidacy())
        assert (held.company, held.state) == ("acme", "held")
        assert link.is_token(held.token)
        (entry,) = await ledger.entries()
        assert entry.kind == "held"
        assert (entry.company, entry.seq, entry.relay, entry.token) == ("acme", 1, held.relay, held.token)
        assert (entry.ruleset, entry.verdict) == ("0123abcd", "rejection 9.0/5.0")
        assert entry.at == "2026-04-01T00:00:00.000000Z"
        assert len(entry.commitment) == 64

    async def test_no_entry_holds_personal_data(self, ledger: Any) -> None:
        held = await ledger.hold(candidacy())
        await ledger.settle(held)
        texts = [str(value) for entry in await ledger.entries() for value in entry.document().values()]
        for personal in ("taro@", "candidate.example", "hr@acme.example", "<m1@"):
            assert not [text for text in texts if personal in text]

    async def test_the_same_mail_is_held_once(self, ledger: Any) -> None:
        first = await ledger.hold(candidacy())
        assert not first.in_doubt
        assert await ledger.hold(candidacy()) == replace(first, in_doubt=True)
        await ledger.settle(first)
        assert await ledger.hold(candidacy()) == replace(first, state="relayed")
        assert [entry.kind for entry in await ledger.entries()] == ["held", "relayed"]

    async def test_the_same_mail_at_the_same_time_is_held_once(self, ledger: Any) -> None:
        found = await asyncio.gather(*(ledger.hold(candidacy()) for _ in range(20)))
        assert len({held.relay for held in found}) == 1
        assert [held.in_doubt for held in found].count(False) == 1
        assert len(await ledger.entries()) == 1

    async def test_settle_is_idempotent(self, ledger: Any) -> None:
        held = await ledger.hold(candidacy())
        await asyncio.gather(*(ledger.settle(held) for _ in range(5)))
        await ledger.settle(held)
        assert [entry.kind for entry in await ledger.entries()] == ["held", "relayed"]

    async def test_a_released_mail_is_held_again_with_the_same_link(self, ledger: Any) -> None:
        held = await ledger.hold(candidacy())
        await ledger.release(held, "spliced-refused")
        await ledger.release(held, "spliced-refused")
        assert await ledger.hold(candidacy()) == held
        await ledger.settle(held)
        entries = await ledger.entries()
        assert [entry.kind for entry in entries] == ["held", "released", "held", "relayed"]
        assert entries[1].reason == "spliced-refused"
        assert {entry.relay for entry in entries} == {held.relay}
        assert entries[0].commitment == entries[2].commitment
        assert (await self.count(ledger)).counted == 1

    async def test_a_settled_relay_stays_settled(self, ledger: Any) -> None:
        held = await ledger.hold(candidacy())
        await ledger.settle(held)
        await ledger.release(held, "late")
        assert [entry.kind for entry in await ledger.entries()] == ["held", "relayed"]

    async def test_an_acceptance_behind_a_release_counts(self, ledger: Any) -> None:
        held = await ledger.hold(candidacy())
        await ledger.release(held, "early")
        await ledger.settle(held)
        assert (await self.count(ledger)).counted == 1

    async def test_another_mail_to_the_candidate_has_the_same_link_and_counts_once(self, ledger: Any) -> None:
        first = await ledger.hold(candidacy("m1"))
        second = await ledger.hold(candidacy("m2"))
        assert second.relay != first.relay
        assert second.token == first.token
        await ledger.settle(first)
        await ledger.settle(second)
        found = await self.count(ledger)
        assert (found.relays, found.counted, found.to_next) == (2, 1, 1)

    async def test_two_mails_at_the_same_time_share_the_link(self, ledger: Any) -> None:
        found = await asyncio.gather(*(ledger.hold(candidacy(f"m{number}")) for number in range(10)))
        assert len({held.token for held in found}) == 1
        assert len({held.relay for held in found}) == 10

    async def test_a_reversed_relay_does_not_hand_on_its_link(self, ledger: Any) -> None:
        first = await ledger.hold(candidacy("m1"))
        await ledger.settle(first)
        await ledger.advance(first.relay, "reversed", reason="not-a-rejection", by="console:ops")
        second = await ledger.hold(candidacy("m2"))
        assert second.token != first.token
        last = (await ledger.entries())[1:3]
        assert [(entry.reason, entry.by) for entry in last] == [("", ""), ("not-a-rejection", "console:ops")]
        again = await ledger.hold(candidacy("m1"))
        assert again == replace(first, state="reversed"), "the retry of a reversed mail stays reversed"

    async def test_candidates_and_companies_are_apart(self, ledger: Any) -> None:
        taro = await ledger.hold(candidacy())
        hanako = await ledger.hold(candidacy(candidate="hanako"))
        elsewhere = await ledger.hold(candidacy(company="beta"))
        assert len({taro.token, hanako.token, elsewhere.token}) == 3
        assert [entry.seq for entry in await ledger.entries("acme")] == [1, 2]
        assert [entry.seq for entry in await ledger.entries("beta")] == [1]
        assert await ledger.entries("gamma") == []
        assert len(await ledger.entries()) == 3

    async def test_an_unknown_relay_is_an_error(self, ledger: Any) -> None:
        stranger = Held("no-such-relay", "acme", "a" * 26, "held")
        with pytest.raises(LedgerError, match="no relay"):
            await ledger.settle(stranger)
        with pytest.raises(LedgerError, match="no relay"):
            await ledger.release(stranger, "x")
        assert await ledger.entries() == []

    async def test_the_chain_is_whole(self, ledger: Any) -> None:
        for number in range(6):
            held = await ledger.hold(candidacy("m", f"c{number}", "acme" if number % 2 else "beta"))
            await (ledger.settle(held) if number % 3 else ledger.release(held, "x"))
        entries = await ledger.entries()
        assert len(entries) == 12
        assert credit.verify(entries) == ()
        assert len({entry.id for entry in entries}) == 12
        assert credit.verify([replace(entries[0], verdict="none"), *entries[1:]])

    # --- links ---

    async def test_a_token_leads_to_its_newest_relay(self, ledger: Any) -> None:
        first = await ledger.hold(candidacy("m1"))
        self.clock.forward(days=1)
        second = await ledger.hold(candidacy("m2"))
        target = await ledger.by_token(first.token)
        assert (target.relay, target.company, target.language) == (second.relay, "acme", "ja")
        assert target.held_at == START + timedelta(days=1)

    async def test_a_token_leads_past_a_released_relay(self, ledger: Any) -> None:
        first = await ledger.hold(candidacy("m1"))
        await ledger.settle(first)
        second = await ledger.hold(candidacy("m2"))
        await ledger.release(second, "spliced-refused")
        target = await ledger.by_token(first.token)
        assert target.relay == first.relay

    @pytest.mark.parametrize("token", ["", "a" * 26, "A" * 26, "x", "é" * 26, "\udcff", "a" * 10_000, "../" * 8])
    async def test_an_unknown_or_malformed_token_leads_nowhere(self, ledger: Any, token: str) -> None:
        await ledger.hold(candidacy())
        assert await ledger.by_token(token) is None

    # --- opting out ---

    async def test_who_opted_out_is_held_no_more(self, ledger: Any) -> None:
        first = await ledger.hold(candidacy("m1"))
        await ledger.settle(first)
        assert await ledger.suppress(first.token) and await ledger.suppress(first.token)
        for mail in ("m1", "m2"):
            with pytest.raises(OptedOutError):
                await ledger.hold(candidacy(mail))
        assert (await ledger.hold(candidacy("m1", "jiro"))).state == "held"
        assert (await ledger.hold(candidacy("m1", company="beta"))).state == "held"  # each company for itself
        entries = await ledger.entries("acme")
        assert [entry.kind for entry in entries] == ["held", "relayed", "suppressed", "held"]
        assert credit.verify(entries) == ()
        assert credit.balance(entries, [TERMS], self.clock()).counted == 1, "what was relayed stays counted"
        assert (await ledger.by_token(first.token)).relay == first.relay, "the link leads where it led"

    @pytest.mark.parametrize("token", ["", "a" * 26, "\udcff", "a" * 10_000])
    async def test_an_unknown_token_opts_nobody_out(self, ledger: Any, token: str) -> None:
        await ledger.hold(candidacy())
        assert not await ledger.suppress(token)
        assert [entry.kind for entry in await ledger.entries()] == ["held"]

    # --- delivery records ---

    async def test_a_mail_is_claimed_by_one_attempt(self, ledger: Any) -> None:
        assert not await ledger.pending("k")
        assert await ledger.claim("k") is None
        assert await ledger.pending("k")
        with pytest.raises(AlreadyClaimedError):
            await ledger.claim("k")
        assert await ledger.claim("other") is None
        ledger.unclaim("k")
        ledger.unclaim("k")
        assert not await ledger.pending("k")
        assert await ledger.claim("k") is None

    async def test_a_record_comes_back_as_it_was(self, ledger: Any) -> None:
        await ledger.claim("k")
        full = record(
            ("taro@candidate.example", "sent"),
            ("b\udcff\udce3@x.example", "pending"),
            ("株@例え.jp", "refused"),
            ('"a b"@x', "unknown"),
            deferrals=2,
        )
        await ledger.record("k", TWO)
        await ledger.record("k", full)
        ledger.unclaim("k")
        assert await ledger.pending("k")
        assert await ledger.claim("k") == full

    async def test_a_closed_record_is_forgotten(self, ledger: Any) -> None:
        await ledger.claim("k")
        await ledger.record("k", TWO)
        await ledger.close_record("k")
        await ledger.close_record("k")
        with pytest.raises(AlreadyClaimedError):
            await ledger.claim("k")
        ledger.unclaim("k")
        assert not await ledger.pending("k")
        assert await ledger.claim("k") is None

    async def test_only_the_attempt_that_claimed_writes(self, ledger: Any) -> None:
        with pytest.raises(LedgerError, match="claimed"):
            await ledger.record("k", TWO)
        assert await ledger.claim("k") is None

    async def test_a_record_expires_five_days_after_its_creation(self, ledger: Any) -> None:
        await ledger.claim("k")
        await ledger.record("k", TWO)
        self.clock.forward(days=3)
        await ledger.record("k", record(("a@x", "pending")))
        ledger.unclaim("k")
        self.clock.forward(days=2, seconds=-1)
        assert await ledger.claim("k") == record(("a@x", "pending"))
        ledger.unclaim("k")
        self.clock.forward(seconds=1)
        assert not await ledger.pending("k")
        assert await ledger.claim("k") is None
        await ledger.record("k", TWO)
        ledger.unclaim("k")
        self.clock.forward(days=4)
        assert await ledger.claim("k") == TWO, "the new record has a life of its own"

    # --- durability ---

    async def test_all_of_it_is_there_after_a_reopening(self, place: None) -> None:
        ledger = await self.open()
        held = await ledger.hold(candidacy("m1"))
        released = await ledger.hold(candidacy("m1", "hanako"))
        await ledger.settle(held)
        await ledger.release(released, "x")
        await ledger.claim("k")
        await ledger.record("k", TWO)
        await ledger.claim("gone")
        await ledger.record("gone", TWO)
        await ledger.close_record("gone")
        before: list[Entry] = await ledger.entries()
        await self.close(ledger)
        for _ in range(2):
            ledger = await self.open()
            assert await ledger.entries() == before
            assert (await ledger.by_token(held.token)).relay == held.relay
            assert await ledger.claim("k") == TWO
            assert await ledger.claim("gone") is None
            assert await ledger.hold(candidacy("m1")) == replace(held, state="relayed")
            assert (await ledger.hold(candidacy("m2"))).token == held.token
            await ledger.release(await ledger.hold(candidacy("m2")), "x")
            before = await ledger.entries()
            assert credit.verify(before) == ()
            await self.close(ledger)

    async def test_a_cancelled_hold_leaves_a_hold_or_nothing(self, ledger: Any) -> None:
        for turns in range(4):
            task = asyncio.create_task(ledger.hold(candidacy(f"m{turns}", f"c{turns}")))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        held = await asyncio.gather(*(ledger.hold(candidacy(f"m{turns}", f"c{turns}")) for turns in range(4)))
        assert {each.state for each in held} == {"held"}
        entries = await ledger.entries()
        assert len(entries) == 4
        assert credit.verify(entries) == ()

    async def test_after_closing_nothing_is_written(self, place: None) -> None:
        ledger = await self.open()
        held = await ledger.hold(candidacy())
        await self.close(ledger)
        await self.close(ledger)
        with pytest.raises(LedgerError, match="closed"):
            await ledger.hold(candidacy("m2"))
        with pytest.raises(LedgerError, match="closed"):
            await ledger.settle(held)
