"""The rules in force while the relay runs: the last good rule set of each company, and how a newer one takes its place.

Promises: what `of` returns is always a whole, good set; all companies change over together, by one assignment, and a
mail keeps the set that it was given. Files are read and compiled in a thread, never in the loop of the mails. A saved
file takes effect within two seconds. A broken file changes nothing: the last good set stays in force, `status` says
"stale" with all problems, and the log names the first. At the start there is no last good set: `open` raises.

Two things notice a change. watchfiles tells at once; and once a second a look at names, sizes and times finds what the
kernel does not tell: a link whose target was changed, a network mount, a folder that was moved away and came back, or
that there are no notifications to be had.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from watchfiles import awatch

from relay_mta import maillog, rulefolder
from relay_mta.core.errors import Problem, RuleError
from relay_mta.core.rules import RuleSet
from relay_mta.rulefolder import Stamp

LOOK_SECONDS = 1.0
"""How often the folders are looked at when nothing is told."""
GROUP_SECONDS = 0.3
"""Changes that follow each other so closely become one reload: an editor saves by writing, renaming and deleting."""
MOST_TOLD = 20
"""Problems that `status` lists; `relay-mta rules check` lists all."""

Folders = tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Edition:
    """All sets in force, by their folders, and what keeps files that are newer than a set from taking its place."""

    sets: Mapping[Folders, RuleSet]
    loaded_at: datetime
    problems: Mapping[Folders, tuple[Problem, ...]]

    def all_problems(self) -> tuple[Problem, ...]:
        """Each once: what is wrong in a shared file is wrong for every company."""
        return tuple(dict.fromkeys(problem for found in self.problems.values() for problem in found))


class Rulebook:
    """One set for each different sequence of folders. `companies`: those of each company, by id; () is the shipped set.

    `open` first; then `of` may be called at any time, and `watch` runs for as long as changes shall be noticed.
    """

    def __init__(self, shared: Folders, companies: Mapping[str, Folders]) -> None:
        self._shared = shared
        self._companies = dict(companies)
        self._keys = tuple(dict.fromkeys((shared, *companies.values())))
        self._folders = tuple(dict.fromkeys(folder for key in self._keys for folder in key))
        self._edition: _Edition | None = None
        self._tried: dict[Folders, rulefolder.Gathered] = {}
        self._seen: Stamp = ()
        self._trials: Counter[str] = Counter()
        self._missed: Counter[str] = Counter()
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Load for the first time. Raises `RuleError` with everything that is wrong."""
        self._seen, self._tried = await asyncio.to_thread(self._gather)
        sets, problems = await asyncio.to_thread(_parse, self._tried)
        first = _Edition(sets, datetime.now(UTC), problems)
        if problems:
            raise RuleError(first.all_problems())
        self._edition = first

    def of(self, company: str) -> RuleSet:
        """The set of a company, by its id; of any other: the one for companies without folders of their own."""
        return self._now().sets[self._companies.get(company, self._shared)]

    @property
    def shared(self) -> RuleSet:
        """The set for companies without a folder of their own."""
        return self._now().sets[self._shared]

    def count(self, trials: Sequence[str]) -> None:
        """A mail met these rules on probation."""
        self._trials.update(trials)

    def count_missed(self, reason: str) -> None:
        """A rejection was exempt for this reason."""
        self._missed[reason] += 1

    def status(self) -> dict[str, object]:
        """For the health check, all of it JSON: `state` is "current", or "stale" while files are broken; `trials`
        counts the mails that met a rule on probation, `missed` the rejections that were exempt, since the start."""
        now = self._now()
        problems = now.all_problems()
        own = {
            id: {"hash": now.sets[key].hash, "rules": len(now.sets[key].rules)}
            for id, key in self._companies.items()
            if key != self._shared
        }
        return {
            "state": "stale" if problems else "current",
            "hash": self.shared.hash,
            "loaded_at": now.loaded_at.isoformat(timespec="seconds"),
            "problems": [str(problem) for problem in problems[:MOST_TOLD]],
            "problem_count": len(problems),
            "companies": own,
            "trials": dict(sorted(self._trials.items())),
            "missed": dict(sorted(self._missed.items())),
        }

    async def reload(self, *, again: bool = False) -> None:
        """Read the files and put them in force if they are good; files that read as before are left alone unless
        `again`. One at a time; never raises `RuleError`."""
        async with self._turn:
            try:
                await self._reload(again=again)
            except Exception as error:  # a defect of ours must not end the watch, and must not pass unseen
                maillog.defect(error)
                problem = Problem("rules", f"the rules could not be loaded: {maillog.described(error)}")
                self._tried = {}
                self._change({}, dict.fromkeys(self._keys, (problem,)))

    async def watch(self) -> None:
        """Reload whenever something changed, until cancelled."""
        while self._folders:
            async with contextlib.aclosing(self._changes()) as changes:
                async for told in changes:
                    if told or await asyncio.to_thread(rulefolder.stamp, self._folders) != self._seen:
                        await self.reload()

    async def _changes(self) -> AsyncGenerator[bool, None]:
        """True when watchfiles tells of a change, False when it is time to look; ends when it must be begun anew."""
        if await asyncio.to_thread(self._all_there):
            with contextlib.suppress(OSError):  # no notifications to be had, or a folder went just now
                watch = awatch(
                    *self._folders,
                    watch_filter=None,
                    debounce=int(GROUP_SECONDS * 1000),
                    rust_timeout=int(LOOK_SECONDS * 1000),
                    yield_on_timeout=True,
                    recursive=False,
                )
                async with contextlib.aclosing(watch):
                    async for changes in watch:
                        yield bool(changes)
                        if not await asyncio.to_thread(self._all_there):
                            break  # a folder that comes back is another one to the kernel
        await asyncio.sleep(LOOK_SECONDS)
        yield False

    async def _reload(self, *, again: bool) -> None:
        self._seen, gathered = await asyncio.to_thread(self._gather)
        changed = {key: found for key, found in gathered.items() if again or found != self._tried.get(key)}
        if changed:
            sets, problems = await asyncio.to_thread(_parse, changed)
            self._tried = gathered
            self._change(sets, problems)

    def _change(self, sets: Mapping[Folders, RuleSet], problems: Mapping[Folders, tuple[Problem, ...]]) -> None:
        """Put good sets in force and keep the last good one where there are problems, all in one assignment."""
        before = self._now()
        left = {key: found for key, found in before.problems.items() if key not in sets}
        loaded_at = datetime.now(UTC) if sets else before.loaded_at
        self._edition = _Edition({**before.sets, **sets}, loaded_at, {**left, **problems})
        for key, rules in sets.items():
            maillog.rules_loaded(companies=self._names(key), rules=rules.hash, count=len(rules.rules))
        if problems:
            told = self._edition.all_problems()
            maillog.rules_refused(first=str(told[0]), count=len(told), rules=self.shared.hash)

    def _gather(self) -> tuple[Stamp, dict[Folders, rulefolder.Gathered]]:
        seen = rulefolder.stamp(self._folders)  # before reading: what changes meanwhile is another stamp
        return seen, {key: rulefolder.gather(key) for key in self._keys}

    def _names(self, key: Folders) -> tuple[str, ...]:
        return tuple(id for id, folders in self._companies.items() if folders == key)

    def _now(self) -> _Edition:
        assert self._edition is not None, "open first"
        return self._edition

    def _all_there(self) -> bool:
        return all(folder.is_dir() for folder in self._folders)


def _parse(
    gathered: Mapping[Folders, rulefolder.Gathered],
) -> tuple[dict[Folders, RuleSet], dict[Folders, tuple[Problem, ...]]]:
    """The sets that are good, and what is wrong with the others."""
    sets: dict[Folders, RuleSet] = {}
    problems: dict[Folders, tuple[Problem, ...]] = {}
    for key, found in gathered.items():
        try:
            sets[key] = rulefolder.parse(found)
        except RuleError as error:
            problems[key] = error.problems
    return sets, problems
