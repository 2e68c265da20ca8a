"""What stands in rule files and can have no effect: only what is certain, and cheap to know.

*In a rule*: the same phrase twice; a phrase within whose every match lies a match of another one (where only the line
of a match counts: not for evidence, guards, and points beside the event, which depend on where in its line a match
stands); a phrase that goes on behind the end of a sentence. *A rule*: one whose `unless` stands in each of its phrases;
a guard of nothing; one that does what another one does already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from relay_mta.core.errors import Problem
from relay_mta.core.phrase import Phrase, PhraseError, parse
from relay_mta.core.rulefile import EVIDENCE, Rule, RuleFiles

_BEYOND = re.compile(r"[。!?]+[^。!?)」』\"'*]")
_QUOTING = re.compile("[「『]")


def without_effect(found: RuleFiles) -> Iterator[Problem]:
    """What can have no effect, in load order."""
    same: dict[object, Rule] = {}
    for rule in found.rules.values():
        phrases = _parsed(rule.find, found.words)
        yield from _phrases(rule, phrases)
        yield from _rule(rule, phrases, found)
        does = _does(rule, phrases)
        earlier = same.setdefault(does, rule)
        if earlier is not rule:
            where = f"{earlier.id} ({earlier.file}:{earlier.line})"
            yield Problem(rule.file, f"find: the rule does what {where} does already", rule.line, key=rule.id)


def _does(rule: Rule, phrases: Sequence[Phrase]) -> object:
    """All of a rule that can change a verdict; equal for rules that do the same."""
    guard = (rule.side, rule.reach, frozenset(rule.until), rule.only, rule.spares) if rule.kind == "guard" else ()
    looks = (frozenset(phrase.slots for phrase in phrases), frozenset(rule.regex), frozenset(rule.unless), rule.gap)
    return rule.kind, tuple(sorted(rule.weights.items())), looks, guard


def _parsed(written: Sequence[str], words: Mapping[str, tuple[str, ...]]) -> list[Phrase]:
    parsed = []
    for one in written:
        try:
            parsed.append(parse(one, words))
        except PhraseError:  # a problem already
            continue
    return parsed


def _phrases(rule: Rule, phrases: Sequence[Phrase]) -> Iterator[Problem]:
    only_the_line_counts = rule.kind not in (*EVIDENCE, "guard") and "event" not in rule.weights
    first: dict[tuple[frozenset[str], ...], Phrase] = {}
    for phrase in phrases:
        earlier = first.setdefault(phrase.slots, phrase)
        if earlier is not phrase:
            told = "a second time" if earlier.written == phrase.written else f"already, as {earlier.written!r}"
            yield Problem(rule.file, f"find: {phrase.written!r} stands there {told}", rule.line, key=rule.id)
            continue
        if all(_BEYOND.search(word) and not _QUOTING.search(word) for slot in phrase.slots[:1] for word in slot):
            text = f"find: {phrase.written!r} goes on behind the end of a sentence, and no rule looks beyond it"
            yield Problem(rule.file, text, rule.line, key=rule.id)
        for other in phrases if only_the_line_counts else ():
            if other is not phrase and other.slots != phrase.slots and _always_within(other, phrase):
                text = f"find: {phrase.written!r} adds nothing: wherever it stands, {other.written!r} stands too"
                yield Problem(rule.file, text, rule.line, key=rule.id)
                break


def _rule(rule: Rule, phrases: Sequence[Phrase], found: RuleFiles) -> Iterator[Problem]:
    if rule.unless and phrases and not rule.regex:
        voids = [one for one in _parsed(rule.unless, found.words) if len(one.slots) == 1]
        if all(any(_within_some_slot(void, phrase) for void in voids) for phrase in phrases):
            text = "unless: each phrase of the rule contains one of these: it can never match"
            yield Problem(rule.file, text, rule.line, key=rule.id)
    of = [found.rules[id].kind for id in rule.only if id in found.rules]
    if rule.kind == "guard" and rule.only and not any(kind in EVIDENCE for kind in of):
        text = "only: none of these rules is there as evidence: the guard has nothing to take back"
        yield Problem(rule.file, text, rule.line, key=rule.id)


def _always_within(inner: Phrase, outer: Phrase) -> bool:
    """Whether wherever `outer` is found, `inner` is found in the same line: both without a gap."""
    return len(outer.slots) == 1 and len(inner.slots) == 1 and _within_some_slot(inner, outer)


def _within_some_slot(inner: Phrase, outer: Phrase) -> bool:
    """Whether each word of one of `outer`'s slots holds a word of `inner` (which has a single slot)."""
    return any(all(any(_holds(word, part) for part in inner.slots[0]) for word in slot) for slot in outer.slots)


def _holds(word: str, part: str) -> bool:
    """Whether a match of `word` always has a match of `part` in it: as a text, and at the ends of Latin words."""
    bare, sought = word.strip("*"), part.strip("*")
    at = bare.find(sought) if sought else -1
    while at >= 0:
        end = at + len(sought)
        head = _open(bare[:at][-1:], sought[0], free=part.startswith("*"), edge=not word.startswith("*"))
        if head and _open(bare[end : end + 1], sought[-1], free=part.endswith("*"), edge=not word.endswith("*")):
            return True
        at = bare.find(sought, at + 1)
    return False


def _open(beside: str, end: str, *, free: bool, edge: bool) -> bool:
    """Whether a word always ends here; `edge`: where nothing stands beside it, the outer word ends too and is whole."""
    if free or not _latin(end):
        return True
    return edge if not beside else not _latin(beside)


def _latin(character: str) -> bool:
    return character.isascii() and character.isalnum()
