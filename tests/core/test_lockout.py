"""Who was refused too often waits, everybody else does not: held against a model that forgets nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay_mta.core.lockout import TRIES, Lockout

KEYS = [b"hr", b"sales", b"ceo"]
keys = st.sampled_from(KEYS)


class AgainstAModel(RuleBasedStateMachine):
    """Every refusal of a key is kept with its time; the pause is worked out anew from them, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.lockout = Lockout(tries=3, first=60.0, longest=3600.0)
        self.refusals: dict[bytes, list[float]] = {key: [] for key in KEYS}

    def left(self, key: bytes) -> float:
        times = self.refusals[key]
        pause = 0.0
        for count in range(1, len(times) + 1):
            pause = 0.0 if count < 3 else 60.0 if count == 3 else min(2 * pause, 3600.0)
        return max(0.0, times[-1] + pause - self.now) if times else 0.0

    @rule(seconds=st.floats(0, 5000))
    def time_goes_on(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=keys, times=st.integers(1, 8))
    def somebody_is_refused(self, key: bytes, times: int) -> None:
        for _ in range(times):
            self.lockout.refused(key, self.now)
            self.refusals[key].append(self.now)

    @rule(key=keys)
    def somebody_waits_to_the_end_and_is_refused_again(self, key: bytes) -> None:
        self.now += self.left(key)
        assert self.lockout.left(key, self.now) == pytest.approx(0.0, abs=1e-6)
        self.somebody_is_refused(key, 1)

    @precondition(lambda self: any(self.refusals.values()))
    @rule(key=keys)
    def somebody_is_accepted(self, key: bytes) -> None:
        self.lockout.accepted(key)
        self.refusals[key] = []

    @invariant()
    def both_say_the_same(self) -> None:
        for key in KEYS:
            assert math.isclose(self.lockout.left(key, self.now), self.left(key), abs_tol=1e-6)


TestAgainstAModel = AgainstAModel.TestCase


def test_a_person_may_mistype_twice() -> None:
    lockout = Lockout()
    for _ in range(TRIES - 1):
        lockout.refused(b"hr", 0.0)
        assert lockout.left(b"hr", 0.0) == 0.0
    lockout.refused(b"hr", 0.0)
    assert lockout.left(b"hr", 0.0) == 60.0
    assert lockout.left(b"hr", 59.5) == 0.5
    assert lockout.left(b"hr", 60.0) == 0.0
    assert lockout.left(b"sales", 0.0) == 0.0


def test_the_pause_doubles_up_to_the_longest_and_stays_there() -> None:
    lockout = Lockout(tries=1, first=60.0, longest=1000.0)
    pauses = []
    for _ in range(2000):  # a telephone with an old password, for a year
        lockout.refused(b"hr", 0.0)
        pauses.append(lockout.left(b"hr", 0.0))
    assert pauses[:6] == [60.0, 120.0, 240.0, 480.0, 960.0, 1000.0]
    assert set(pauses[5:]) == {1000.0}


def test_success_clears_what_was_counted() -> None:
    lockout = Lockout()
    for _ in range(9):
        lockout.refused(b"hr", 0.0)
        lockout.refused(b"sales", 0.0)
    lockout.accepted(b"hr")
    lockout.accepted(b"nobody")
    assert lockout.left(b"hr", 0.0) == 0.0 and lockout.left(b"sales", 0.0) > 0
    lockout.refused(b"hr", 0.0)
    assert lockout.left(b"hr", 0.0) == 0.0


def test_asking_counts_nothing() -> None:
    lockout = Lockout(tries=2)
    lockout.refused(b"hr", 0.0)
    for _ in range(10):
        assert lockout.left(b"hr", 0.0) == 0.0
    lockout.refused(b"hr", 0.0)
    assert lockout.left(b"hr", 0.0) == 60.0


@given(st.integers(1, 5), st.lists(st.integers(0, 12), max_size=60))
def test_the_memory_is_bounded_and_the_oldest_is_forgotten_first(bound: int, refused: list[int]) -> None:
    lockout = Lockout(tries=1, keys=bound)
    for key in refused:
        lockout.refused(b"%d" % key, 0.0)
    last = list(dict.fromkeys(reversed(refused)))
    held = [key for key in range(13) if lockout.left(b"%d" % key, 0.0)]
    assert sorted(last[:bound]) == held
    assert len(lockout._refused) == len(held)
