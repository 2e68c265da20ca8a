"""The rules, read once: it takes more than half a second to read the shipped ones, and a rule set never changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from relay_mta.core.rules import RuleSet

_parse = lru_cache(maxsize=16)(RuleSet.parse)


def parsed_once(files: Sequence[tuple[str, bytes]]) -> RuleSet:
    """What `RuleSet.parse` makes of these files, which it is asked only the first time."""
    return _parse(tuple(files))
