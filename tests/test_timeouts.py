"""How long an upstream may take is the configuration's to say, stage by stage."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from relay_mta.config import load
from relay_mta.core.timeouts import Timeouts
from tests.houses import firm, houses
from tests.smtp.peers import STALL, ScriptedUpstream
from tests.test_relay import HARMLESS, HR


@pytest.mark.parametrize(
    ("stage", "key"), [(b"MAIL", "mail"), (b"RCPT", "rcpt"), (b"DATA", "data_start"), (b".", "data_end")]
)
async def test_an_upstream_that_keeps_silent_is_given_up_in_its_time(tmp_path: Path, stage: bytes, key: str) -> None:
    patience = Timeouts(**{key: 0.3})
    async with (
        ScriptedUpstream({stage: STALL}) as upstream,
        houses(tmp_path, firm(upstream, to={"timeouts": patience})) as relay,
    ):
        start = time.monotonic()
        assert (await relay.send(HARMLESS, sender=HR)).startswith(b"451 4.4.")
        assert time.monotonic() - start < 20, "the others are minutes"
    assert upstream.accepted == []


def test_a_configuration_that_says_nothing_says_what_the_code_does() -> None:
    example = Path(__file__).resolve().parent.parent / "config.example.toml"
    assert [each.upstream.timeouts for each in load(example).companies] == [Timeouts()]
