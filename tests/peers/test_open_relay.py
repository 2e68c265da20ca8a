"""nmap looks at the relay from an address that is no company's: none of its sixteen tricks gets a mail through."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence

import pytest

from tests.peers.doors import Door, ManyDoors
from tests.peers.sink import Sink
from tests.peers.tap import Tap

pytestmark = [pytest.mark.real("nmap"), pytest.mark.real("smtp-sink")]


def test_it_is_no_open_relay(open_doors: Callable[[Sequence[Door]], ManyDoors]) -> None:
    with Sink() as sink, Tap(sink.port) as tap:
        # The sink takes anything from anybody: the look is worth something.
        assert "open relay (16/16 tests)" in look(sink.port)
        relay = open_doors([Door("acme", "127.0.0.2", tap.port)])
        found = look(relay.smtp_port)
        assert f"{relay.smtp_port}/tcp open" in found
        assert "Server is an open relay" not in found, found
        assert "event=stranger" in relay.said()
        # It has asked itself, at its start, what the upstream offers.
        assert not any(b"MAIL" in each or b"RCPT" in each for each in tap.sent)


def look(port: int) -> str:
    """What nmap's scripts say of a port. "+": run them although it is not the usual one."""
    done = subprocess.run(
        ["nmap", "-Pn", "-n", "-p", str(port), "--script", "+smtp-open-relay,+smtp-commands", "127.0.0.1"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout
