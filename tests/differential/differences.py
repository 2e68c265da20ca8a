"""The differences between the two ways, and the file that lists each with its reason.

In `differences.toml` a difference is a pair of answers, and `at` are its places: `topic: dialog: step`. Where a dialog
ended on either way there is nothing more to compare but the mails that arrived.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from tests.differential.client import ENDS
from tests.differential.ways import Pair, Told

FILE = Path(__file__).parent / "differences.toml"
NOTHING = "(nothing)"
NO_REASON = ""

_HEAD = """\
# How an SMTP client is answered differently by relay-mta than by the Postfix behind it, and why.
# `python -m tests.differential.renew` writes this file anew and keeps the reasons; a reason of "" fails the tests.
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """What one place's answers are."""

    place: str
    direct: str
    relayed: str


@dataclass(slots=True)
class Listed:
    """The file: `reasons` by name, and each difference's reason's name, in the file's order."""

    reasons: dict[str, str] = field(default_factory=dict)
    named: dict[Difference, str] = field(default_factory=dict)


def found(pairs: Iterable[Pair]) -> list[Difference]:
    """All differences, in the dialogs' order."""
    return [difference for pair in pairs for difference in _between(pair)]


def _between(pair: Pair) -> Iterator[Difference]:
    direct, relayed = pair.direct.answers(), pair.relayed.answers()
    steps = _comparable(pair.direct, pair.relayed)
    for step in (*steps, "arrived"):
        here, there = direct.get(step, NOTHING), relayed.get(step, NOTHING)
        if here != there:
            yield Difference(f"{pair.dialog.topic}: {pair.dialog.name}: {step}", here or NOTHING, there or NOTHING)


def _comparable(direct: Told, relayed: Told) -> list[str]:
    """The steps up to the first at which either connection ended, in their order."""
    steps = list(dict.fromkeys(step for told in (direct, relayed) for step, _ in told.transcript))
    steps.sort(key=_number)
    ends = [step for told in (direct, relayed) for step, answer in told.transcript if answer.endswith(ENDS)]
    last = min(map(_number, ends), default=_number("quit"))
    return [step for step in steps if _number(step) <= last]


def _number(step: str) -> int:
    if step == "greeting":
        return 0
    number = step.partition(" ")[0]
    return int(number) if number.isdecimal() else 1_000_000


def load() -> Listed:
    """Read the file."""
    with FILE.open("rb") as file:
        table = tomllib.load(file)
    listed = Listed(table.get("reasons", {}))
    for entry in table.get("difference", []):
        for place in entry["at"]:
            listed.named[Difference(place, entry["direct"], entry["relayed"])] = entry["reason"]
    return listed


def write(differences: Iterable[Difference], known: Listed) -> None:
    """Write the file, with the known reasons. The same pair of answers at a new place has no reason yet."""
    named = [(known.named.get(difference, NO_REASON), difference) for difference in differences]
    named.sort(key=lambda item: (item[0], item[1].direct, item[1].relayed))  # stable: places stay in order
    lines = [_HEAD, "[reasons]"]
    used = {name for name, _ in named}
    lines += [f"{name} = {_string(known.reasons.get(name, ''))}" for name in sorted(used - {NO_REASON})]
    for (name, direct, relayed), group in groupby(named, lambda item: (item[0], item[1].direct, item[1].relayed)):
        lines += ["", "[[difference]]", f"reason = {_string(name)}"]
        lines += [f"direct = {_string(direct)}", f"relayed = {_string(relayed)}", "at = ["]
        lines += [f"    {_string(difference.place)}," for _, difference in group]
        lines += ["]"]
    FILE.write_text("\n".join(lines) + "\n", "utf-8")


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
