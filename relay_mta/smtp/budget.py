"""One bound on the bytes of all mails that are held in memory at once.

Every mail being received takes a `Lease` on the budget before its 354 and grows it with what arrives; when the budget
is spent, new mail is deferred with 452 4.3.1 instead of the process being killed for its memory. Promises: `used` never
exceeds `limit` and never falls below zero, and a lease gives back exactly what it took, once. Not thread-safe: it
belongs to one event loop.
"""

from __future__ import annotations

from types import TracebackType


class Budget:
    """`limit` bytes, shared by all listeners of the process."""

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError("a budget cannot be negative")
        self.limit = limit
        self._used = 0

    @property
    def used(self) -> int:
        """Bytes leased at this moment."""
        return self._used

    def reserve(self, size: int) -> Lease | None:
        """A lease of `size` bytes, or None if they are not free."""
        lease = Lease(self)
        return lease if lease.resize(size) else None

    def _take(self, size: int) -> bool:
        if self._used + size > self.limit:
            return False
        self._used += size
        return True


class Lease:
    """Some bytes of a budget. As a context manager it is released on the way out."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that this lease holds."""
        return self._size

    def resize(self, size: int) -> bool:
        """Hold exactly `size` bytes from now on. False, and nothing changes, if the budget does not have them."""
        if size < 0:
            raise ValueError("a lease cannot be negative")
        if not self._budget._take(size - self._size):
            return False
        self._size = size
        return True

    def grow(self, size: int) -> bool:
        """Hold at least `size` bytes from now on. False, and nothing changes, if the budget does not have them."""
        return size <= self._size or self.resize(size)

    def release(self) -> None:
        """Give everything back. May be called more than once."""
        self.resize(0)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
