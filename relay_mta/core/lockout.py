"""Who has been refused too often of late, and is refused without asking anybody for a while.

A telephone with last month's password tries every few minutes, for ever; an upstream that counts refusals would in the
end turn away the relay's address, and with it everybody. So the third refusal of one key starts a pause in which the
same key is refused here; every further refusal doubles it.

Keys are the caller's (hashes, never a password). The memory is bounded: the keys that were refused longest ago are
forgotten first. No clock: `now` is in seconds and never goes back.
"""

from __future__ import annotations

from collections import OrderedDict

TRIES = 3
"""Refusals in a row that cost nothing: a person mistypes."""


class Lockout:
    """`tries` refusals of a key start a pause of `first` seconds, which doubles up to `longest`."""

    def __init__(self, *, tries: int = TRIES, first: float = 60.0, longest: float = 3600.0, keys: int = 10_000) -> None:
        self._tries = tries
        self._first = first
        self._longest = longest
        self._keys = keys
        self._refused: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def left(self, key: bytes, now: float) -> float:
        """Seconds for which a key is still locked out; 0.0: it is not."""
        _, until = self._refused.get(key, (0, now))
        return max(0.0, until - now)

    def refused(self, key: bytes, now: float) -> None:
        """A key was refused by whoever decides on it."""
        count = self._refused.pop(key, (0, 0.0))[0] + 1
        over = count - self._tries
        pause = min(self._longest, self._first * 2.0 ** min(over, 32)) if over >= 0 else 0.0
        self._refused[key] = (count, now + pause)
        while len(self._refused) > self._keys:
            self._refused.popitem(last=False)

    def accepted(self, key: bytes) -> None:
        """A key is good after all: what was counted against it is forgotten."""
        self._refused.pop(key, None)
