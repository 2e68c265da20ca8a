"""How many clients are connected, in all and from each address, whichever listener they came to.

One client must not take every place: a mail client with a broken loop, or somebody who only opens connections.
"""

from __future__ import annotations

from relay_mta.core.ip import household


class Census:
    """`total` places for everybody, `per_client` of them for one address. Belongs to one event loop."""

    def __init__(self, total: int, per_client: int) -> None:
        self.total = total
        self.per_client = per_client
        self._all = 0
        self._of: dict[str, int] = {}

    @property
    def present(self) -> int:
        """Clients that hold a place now."""
        return self._all

    def enter(self, address: str) -> bool:
        """Take a place for a client at an IP address; False, and nothing is taken, if there is none left for it."""
        key = household(address)
        if self._all >= self.total or self._of.get(key, 0) >= self.per_client:
            return False
        self._all += 1
        self._of[key] = self._of.get(key, 0) + 1
        return True

    def leave(self, address: str) -> None:
        """Give back a place that `enter` took."""
        key = household(address)
        left = self._of[key] - 1
        self._all -= 1
        if left:
            self._of[key] = left
        else:
            del self._of[key]
