"""The memory budget: never above its limit, never below zero, everything comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta.smtp.budget import Budget


def test_what_is_not_free_is_not_given() -> None:
    budget = Budget(100)
    first = budget.reserve(60)
    assert first is not None
    assert budget.reserve(41) is None
    assert budget.used == 60
    with budget.reserve(40) or pytest.fail("40 bytes are free"):
        assert budget.used == 100
        assert not first.grow(61)
        assert first.grow(10)
        assert first.size == 60
    assert budget.used == 60
    first.release()
    first.release()
    assert budget.used == 0


def test_nothing_negative() -> None:
    with pytest.raises(ValueError):
        Budget(-1)
    with pytest.raises(ValueError):
        Budget(1).reserve(-1)


@given(st.integers(0, 50), st.lists(st.tuples(st.sampled_from("rgsx"), st.integers(0, 30), st.integers(0, 9))))
def test_used_is_the_sum_of_the_leases_and_within_the_limit(limit: int, steps: list[tuple[str, int, int]]) -> None:
    budget = Budget(limit)
    leases = []
    for step, size, which in steps:
        if step == "r":
            if (lease := budget.reserve(size)) is not None:
                leases.append(lease)
        elif leases:
            lease = leases[which % len(leases)]
            if step == "g":
                assert lease.grow(size) == (lease.size >= size)
            elif step == "s":
                lease.resize(size)
            else:
                lease.release()
        assert 0 <= budget.used == sum(lease.size for lease in leases) <= limit
