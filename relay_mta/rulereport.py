"""What rules say, for a person who reads them: a list, one rule with all its spellings folded, and what a text meets.

Everything here is of rule files that are good (`read` raises otherwise) and returns plain values; `cli.rules` prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay_mta.core import fold, rulefile
from relay_mta.core.errors import RelayError
from relay_mta.core.page import prepare
from relay_mta.core.phrase import Finder, Phrase, PhraseError, parse
from relay_mta.core.rulefile import Rule
from relay_mta.core.rules import RuleSet
from relay_mta.rulecheck import Mention, mentions
from relay_mta.rulefolder import Gathered
from relay_mta.rulefolder import parse as parse_gathered

MOST_WORDS_SHOWN: Final = 12
"""Words of one stretch of a phrase that are shown; a list may stand for thousands."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """A phrase as written and as it is looked for: of each stretch between gaps the first words, and how many."""

    written: str
    stretches: tuple[tuple[tuple[str, ...], int], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """One rule. `history` is every table that speaks of it; `regex` pairs each expression with its folded form."""

    rule: Rule | None
    find: tuple[Spelling, ...]
    regex: tuple[tuple[str, str], ...]
    unless: tuple[Spelling, ...]
    until: tuple[Spelling, ...]
    history: tuple[Mention, ...]


@dataclass(frozen=True, slots=True)
class Met:
    """A rule that a text meets: by which phrases as written, and whether it `stands` (nothing in the text voids it or
    takes it back)."""

    rule: Rule
    phrases: tuple[str, ...]
    stands: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """A text as the rules see it: its sentences, folded; as a phrase (`spelling`, or else `trouble`); what it meets.

    `signs` and `signs_of_subject` are words in it and their points.
    """

    lines: tuple[str, ...]
    spelling: Spelling | None
    trouble: str
    met: tuple[Met, ...]
    signs: tuple[tuple[str, float], ...]
    signs_of_subject: tuple[tuple[str, float], ...]


class Rules:
    """Good rule files, to be asked about."""

    def __init__(self, gathered: Gathered) -> None:
        """Raises `RuleError`."""
        self.set: RuleSet = parse_gathered(gathered)
        self._mentions = tuple(mentions(gathered))
        self._files = rulefile.read(gathered.parts())

    def all(self) -> Sequence[Rule]:
        """The rules in force, in load order."""
        return tuple(self.set.rules.values())

    def show(self, id: str) -> Shown:
        """One rule by its id, also if it was dropped. Raises `RelayError` if there is none."""
        history = tuple(each for each in self._mentions if each.id == id)
        if not history:
            raise RelayError(f"there is no rule {id!r}; `relay-mta rules list` lists them")
        rule = self.set.rules.get(id)
        if rule is None:
            return Shown(None, (), (), (), (), history)
        regex = tuple((one, fold.fold_japanese(one)) for one in rule.regex)
        find, unless, until = (self._spellings(written) for written in (rule.find, rule.unless, rule.until))
        return Shown(rule, find, regex, unless, until, history)

    def explain(self, text: str) -> Explained:
        """What a text is to the rules: as a phrase, and as a sentence that they look at."""
        spelling, trouble = None, ""
        try:
            spelling = _spelling(parse(text, self._files.words))
        except PhraseError as error:
            trouble = str(error)
        page = prepare("", text)
        met = []
        for rule in self.set.rules.values():
            phrases = tuple(one for one in rule.find if self._stands_in(one, rule.gap, page.folded, page.ends))
            stands = self.set.stands(rule.id, text)
            if phrases or stands:
                met.append(Met(rule, phrases, stands))
        return Explained(
            tuple(dict.fromkeys(page.folded.split("\n"))), spelling, trouble, tuple(met), *self.set.signs_in(text)
        )

    def _stands_in(self, written: str, gap: int, folded: str, ends: Sequence[int]) -> bool:
        finder = Finder()
        number = finder.add(parse(written, self._files.words))
        finder.freeze()
        found = finder.find(folded)
        return number in set(found.candidates()) and bool(found.matches(number, gap, ends))

    def _spellings(self, written: Sequence[str]) -> tuple[Spelling, ...]:
        return tuple(_spelling(parse(one, self._files.words)) for one in written)


def _spelling(phrase: Phrase) -> Spelling:
    return Spelling(phrase.written, tuple((tuple(sorted(s)[:MOST_WORDS_SHOWN]), len(s)) for s in phrase.slots))


def weights_text(weights: Mapping[rulefile.Place, float]) -> str:
    """Points by place on one line: "8 in subject, new", or "6 in subject; 1 in new"; a kind without points: places."""
    by_points: dict[float, list[str]] = {}
    for place, points in weights.items():
        by_points.setdefault(points, []).append(place)
    return "; ".join(
        (f"{points:g} in " if points else "in ") + ", ".join(places) for points, places in by_points.items()
    )
