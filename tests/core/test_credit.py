"""Entries, their chain, their states and what they add up to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from relay_mta.core import credit
from relay_mta.core.company import CreditTerms
from relay_mta.core.credit import KINDS, STATES, TRANSITIONS, Balance, Entry, Kind, balance, sealed, verify

START = datetime(2026, 1, 1, 9, 0, tzinfo=UTC)
NOW = START + timedelta(days=3650)
TEN = CreditTerms(date(2026, 1, 1))
TWO = CreditTerms(date(2026, 1, 1), relays_per_credit=2)


class Book:
    """Writes one company's chain, an hour between two entries unless told."""

    def __init__(self, company: str = "acme") -> None:
        self.company = company
        self.entries: list[Entry] = []
        self.at = START

    def add(
        self, kind: Kind, relay: str = "", candidate: str = "", *, amount: int = 0, at: datetime | None = None
    ) -> Entry:
        self.at = at or self.at + timedelta(hours=1)
        entry = sealed(
            Entry(
                company=self.company,
                seq=len(self.entries) + 1,
                id=f"e{len(self.entries) + 1}",
                kind=kind,
                at=credit.timestamp(self.at),
                relay=relay,
                candidate_key=candidate,
                amount=amount,
                prev=self.entries[-1].hash if self.entries else "",
            )
        )
        self.entries.append(entry)
        return entry

    def relay(self, relay: str, *kinds: Kind, candidate: str = "", at: datetime | None = None) -> None:
        for kind in kinds or ("held", "relayed"):
            self.add(kind, relay, candidate or relay, at=at)

    def balance(self, *terms: CreditTerms, now: datetime = NOW) -> Balance:
        return balance(self.entries, terms, now)


@pytest.fixture
def book() -> Book:
    return Book()


# --- entries and the chain ------------------------------------------------------------------------------------------


def test_an_entry_survives_its_document(book: Book) -> None:
    entry = book.add("held", "r1", "c1")
    assert Entry.of(entry.document()) == entry
    assert "reason" not in entry.document()
    with pytest.raises(TypeError):
        Entry.of({**entry.document(), "subject": "no such field"})


def test_the_hash_of_an_entry_is_fixed() -> None:
    """Stored ledgers depend on it. Computed by hand: SHA-256 of the label line and the canonical JSON."""
    entry = sealed(Entry(company="acme", seq=1, id="e1", kind="held", at="2026-01-01T00:00:00.000000Z", relay="e1"))
    text = (
        b'relay-mta entry 1\n{"at":"2026-01-01T00:00:00.000000Z","company":"acme","id":"e1","kind":"held",'
        b'"relay":"e1","seq":1}'
    )
    assert entry.hash == credit.hashlib.sha256(text).hexdigest()


def test_a_whole_chain_verifies(book: Book) -> None:
    other = Book("beta")
    for number in range(5):
        book.relay(f"r{number}")
        other.relay(f"s{number}")
    mixed = [entry for pair in zip(book.entries, other.entries, strict=True) for entry in pair]
    heads = {"acme": book.entries[3].hash, "beta": other.entries[-1].hash}
    assert verify(mixed, heads=heads) == ()
    assert verify([]) == ()


def test_verify_says_where_it_was_altered(book: Book) -> None:
    for number in range(4):
        book.relay(f"r{number}")
    (found,) = verify(
        [*book.entries[:3], replace(book.entries[3], at="2026-02-02T00:00:00.000000Z"), *book.entries[4:]]
    )
    assert (found.company, found.seq) == ("acme", 4)
    assert str(found) == "acme: entry 4: its content was altered"


@pytest.mark.parametrize("name", [name for name in Entry.__slots__ if name != "hash"])
def test_every_field_is_hashed(book: Book, name: str) -> None:
    entry = book.add("held", "r1", "c1")
    other: object = 7 if isinstance(getattr(entry, name), int) else "other"
    assert verify([replace(entry, **{name: other})])  # type: ignore[arg-type]  # the name is a field's


def test_an_altered_entry_sealed_again_breaks_the_next(book: Book) -> None:
    for number in range(3):
        book.relay(f"r{number}")
    forged = sealed(replace(book.entries[2], reason="forged"))
    (found,) = verify([*book.entries[:2], forged, *book.entries[3:]])
    assert (found.seq, found.reason) == (4, "it does not follow the entry before it")


@pytest.mark.parametrize("gone", [0, 2, 4])
def test_a_dropped_entry_is_found(book: Book, gone: int) -> None:
    for number in range(3):
        book.relay(f"r{number}")
    (found,) = verify([*book.entries[:gone], *book.entries[gone + 1 :]])
    assert (found.seq, found.reason) == (gone + 1, f"entry {gone + 2} stands in its place")


def test_a_cut_end_is_found_by_a_head_noted_earlier(book: Book) -> None:
    for number in range(3):
        book.relay(f"r{number}")
    assert verify(book.entries[:-1]) == ()
    (found,) = verify(book.entries[:-1], heads={"acme": book.entries[-1].hash})
    assert found.seq == 6
    (found,) = verify([], heads={"gone": "aa"})
    assert (found.company, found.seq) == ("gone", 1)


def test_a_commitment_binds_every_field_and_the_salt() -> None:
    personal = {"address": "taro@example.org", "sender": ""}
    one = credit.commitment("ab" * 16, personal)
    assert one != credit.commitment("cd" * 16, personal)
    assert one != credit.commitment("ab" * 16, {**personal, "sender": "x"})
    assert one == credit.commitment("ab" * 16, dict(reversed(personal.items())))


@pytest.mark.parametrize(("kind", "amount"), [("redeemed", 0), ("redeemed", -1), ("held", 1), ("relayed", -1)])
def test_an_amount_that_the_kind_cannot_have(book: Book, kind: Kind, amount: int) -> None:
    with pytest.raises(ValueError, match="amount"):
        book.add(kind, amount=amount)


def test_timestamps_are_utc_with_microseconds() -> None:
    tokyo = datetime.fromisoformat("2026-01-01T00:00:00+09:00")
    assert credit.timestamp(tokyo) == "2025-12-31T15:00:00.000000Z"
    assert credit.moment(credit.timestamp(tokyo)) == tokyo


# --- states ---------------------------------------------------------------------------------------------------------

# What each state allows, row by row: every pair that is not here writes nothing.
ALLOWED: dict[str | None, dict[str, str]] = {
    None: {"held": "held"},
    "held": {"relayed": "relayed", "released": "released", "registered": "registered", "reversed": "reversed"},
    "released": {"held": "held", "relayed": "relayed", "registered": "registered"},
    "relayed": {"visited": "visited", "registered": "registered", "reversed": "reversed"},
    "visited": {"registered": "registered", "reversed": "reversed"},
    "registered": {"reversed": "reversed"},
    "reversed": {},
}


@pytest.mark.parametrize(("state", "kind"), list(itertools.product((None, *STATES), KINDS)))
def test_every_pair(state: credit.EntryState | None, kind: Kind) -> None:
    assert credit.after(state, kind) == ALLOWED[state].get(kind)


def test_no_entry_changes_nothing() -> None:
    """What is written moves the state, so that a repetition is always seen as one."""
    assert all(state != new for (state, _), new in TRANSITIONS.items())


# --- balance --------------------------------------------------------------------------------------------------------


def test_nothing() -> None:
    assert balance([], [], NOW) == Balance()
    assert balance([], [TEN], NOW) == Balance(to_next=10)


def test_ten_relayed_candidates_make_one_credit(book: Book) -> None:
    for number in range(9):
        book.relay(f"r{number}")
    assert book.balance(TEN) == Balance(relays=9, counted=9, to_next=1)
    book.relay("r9")
    assert book.balance(TEN) == Balance(relays=10, counted=10, credits_earned=1, available=1, to_next=10)


def test_held_and_released_do_not_count(book: Book) -> None:
    book.relay("r1", "held")
    book.relay("r2", "held", "released")
    book.relay("r3", "held", "released", "held", "relayed")
    assert book.balance(TWO) == Balance(relays=1, counted=1, in_doubt=1, to_next=1)


def test_a_candidate_counts_once_within_the_window(book: Book) -> None:
    book.relay("r1", candidate="c1", at=START)
    book.relay("r2", candidate="c1", at=START + timedelta(days=364, hours=23))
    assert book.balance(TEN).counted == 1
    book.relay("r3", candidate="c1", at=START + timedelta(days=365))
    assert book.balance(TEN).counted == 2
    assert book.balance(TEN).relays == 3


def test_a_reversed_relay_gives_its_place_to_the_candidates_next(book: Book) -> None:
    book.relay("r1", candidate="c1")
    book.relay("r2", candidate="c1")
    book.add("reversed", "r1", "c1")
    assert book.balance(TEN) == Balance(relays=1, counted=1, to_next=9)
    book.add("reversed", "r2", "c1")
    assert book.balance(TEN) == Balance(to_next=10)


def test_redeemed_and_adjusted(book: Book) -> None:
    for number in range(6):
        book.relay(f"r{number}")
    book.add("redeemed", amount=2)
    book.add("adjusted", amount=5)
    book.add("adjusted", amount=-1)
    found = book.balance(TWO)
    assert (found.credits_earned, found.credits_used, found.adjusted, found.available) == (3, 2, 4, 5)


def test_a_reversal_may_leave_a_debt(book: Book) -> None:
    book.relay("r1")
    book.relay("r2")
    book.add("redeemed", amount=1)
    book.add("reversed", "r1", "r1")
    assert book.balance(TWO).available == -1


def test_earn_on_registered(book: Book) -> None:
    terms = CreditTerms(date(2026, 1, 1), relays_per_credit=1, earn_on="registered")
    book.relay("r1", "held", "relayed", "visited")
    assert book.balance(terms) == Balance(relays=1, to_next=1)
    book.add("registered", "r1", "r1")
    assert book.balance(terms) == Balance(relays=1, counted=1, credits_earned=1, available=1, to_next=1, registered=1)


def test_a_registration_out_of_doubt_is_a_delivery(book: Book) -> None:
    book.relay("r1", "held", "registered")
    assert book.balance(TWO) == Balance(relays=1, counted=1, to_next=1, registered=1)


def test_before_the_first_terms_nothing_counts(book: Book) -> None:
    book.relay("r1", at=START)
    assert book.balance(CreditTerms(date(2026, 1, 2), 1)) == Balance(relays=1, to_next=1)
    assert book.balance() == Balance(relays=1)


def test_a_days_border_is_utc(book: Book) -> None:
    book.relay("r1", at=datetime(2026, 1, 31, 23, 59, 59, 999999, UTC))
    book.relay("r2", at=datetime(2026, 2, 1, tzinfo=UTC))
    assert book.balance(CreditTerms(date(2026, 2, 1))).counted == 1


def dated(*terms: tuple[int, int]) -> Sequence[CreditTerms]:
    return [CreditTerms(date(2026, month, 1), per) for month, per in terms]


def test_todays_terms_do_not_judge_a_past_month(book: Book) -> None:
    for number in range(10):
        book.relay(f"r{number}", at=START)
    old = dated((1, 5))
    assert book.balance(*old).credits_earned == 2
    for later in (
        dated((1, 5), (3, 100)),
        dated((3, 1), (1, 5)),
        [*old, CreditTerms(date(2026, 3, 1), 1, "registered")],
    ):
        assert book.balance(*later).credits_earned == 2


def test_what_is_left_over_carries_into_the_next_terms(book: Book) -> None:
    for number in range(7):
        book.relay(f"r{number}", at=START)
    terms = dated((1, 10), (3, 5))
    assert book.balance(*terms).to_next == 1, "seven are in hand, five are asked for: the next one completes it"
    book.relay("r7", at=START + timedelta(days=90))
    found = book.balance(*terms)
    assert (found.credits_earned, found.to_next) == (1, 2)


def test_a_relay_earns_once_across_terms(book: Book) -> None:
    terms = [CreditTerms(date(2026, 1, 1), 1), CreditTerms(date(2026, 2, 1), 1, "registered", count_window_days=1)]
    book.relay("r1", at=START)
    book.relay("r1", "visited", "registered", at=START + timedelta(days=60))
    assert book.balance(*terms).counted == 1


def test_as_of_an_earlier_moment(book: Book) -> None:
    book.relay("r1", at=START)
    book.relay("r2", at=START + timedelta(days=1))
    book.add("reversed", "r1", "r1", at=START + timedelta(days=2))
    assert book.balance(TWO, now=START + timedelta(hours=1)).counted == 1
    assert book.balance(TWO, now=START + timedelta(days=1)).credits_earned == 1
    assert book.balance(TWO, now=START + timedelta(days=2)).credits_earned == 0


def test_a_clock_that_jumped_back_counts_nobody_twice(book: Book) -> None:
    book.relay("r1", candidate="c1", at=START + timedelta(days=400))
    book.relay("r2", candidate="c1", at=START)
    assert book.balance(TEN).counted == 1


def test_several_companies_are_refused(book: Book) -> None:
    with pytest.raises(ValueError, match="one company"):
        balance([book.add("held", "r1"), Book("beta").add("held", "s1")], [TEN], NOW)
