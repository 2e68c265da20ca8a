"""What the end-to-end tests share: a relay as a real process, stopped whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.process import BASE_CONFIG, Relay


@pytest.fixture
def make_relay(tmp_path: Path) -> Iterator[Callable[..., Relay]]:
    """make_relay(upstream_port=…, config=…) → a Relay, not started."""
    made: list[Relay] = []

    def make(*, upstream_port: int, config: str = BASE_CONFIG) -> Relay:
        place = tmp_path / f"relay-{len(made)}"
        place.mkdir()
        made.append(Relay(place, config, upstream_port=upstream_port))
        return made[-1]

    yield make
    for relay in made:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()
