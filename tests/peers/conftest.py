"""Relays that whole modules share; stopped whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.peers.doors import Door, ManyDoors


@pytest.fixture(scope="module")
def open_doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Sequence[Door]], ManyDoors]]:
    """open_doors([Door(…), …]) → a running relay; when the module is done it drains, and must not have raised."""
    made: list[ManyDoors] = []

    def make(doors: Sequence[Door]) -> ManyDoors:
        made.append(ManyDoors(tmp_path_factory.mktemp("relay"), doors))
        made[-1].start()
        return made[-1]

    yield make
    for relay in made:
        assert relay.stop() == 0, relay.said()
        assert "Traceback" not in relay.said(), relay.said()
