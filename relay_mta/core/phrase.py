"""The phrases that an admin writes, and the one pass over a text that finds all of them.

    "採用を(お|)見送"        choices in round brackets; an empty one means "or nothing"
    "{role}に採用"           {name} stands for any of the words of that name in [words]
    "{wish}…{not-met}"       … is a gap: up to so many characters (the rule's `gap`), within one sentence
    "appl*"                  a phrase that begins or ends in a Latin letter matches whole words; * opens that end

What stands between gaps is expanded into plain words, which go through the same `fold` as the text; then a single
Aho-Corasick automaton finds every word of every rule at once, and only phrases whose words were met are put together.
No phrase can therefore cost more than its words' occurrences.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import ahocorasick

from relay_mta.core import fold

MOST_WORDS = 20_000
"""What one stretch between gaps may expand to; a mistake such as {a}{b}{c} of long lists is refused, not compiled."""
DEEPEST = 20
"""Brackets within brackets."""
CACHED = 4096
"""Stretches of phrases whose words are remembered: a rule set has two thousand, and a reload changes a few."""
MOST_CHAINS = 64
"""How many beginnings of one phrase are followed in one text; a real sentence has one or two."""

_BREAKS = str.maketrans("\n\u2028\u2029", "   ")
_TOKEN = re.compile(r"…|\.\.\.|\{([^{}]*)\}|[(){}|]|[^(){}|….]+|\.")


class PhraseError(ValueError):
    """A phrase that cannot be read; `str()` is one line that says why."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A readable phrase: `slots[i]` are the words, one of which must stand in place i."""

    written: str
    slots: tuple[frozenset[str], ...]


def parse(written: str, words: Mapping[str, Sequence[str]]) -> Phrase:
    """Read one phrase. Raises `PhraseError`."""
    slots: list[frozenset[str]] = []
    for stretch in _stretches(written):
        expanded = _fold(tuple(_expand(stretch, words, ())))
        if not expanded:
            raise PhraseError("nothing to look for before, after or between its gaps")
        slots.append(expanded)
    return Phrase(written, tuple(slots))


@lru_cache(maxsize=CACHED)
def _fold(words: tuple[str, ...]) -> frozenset[str]:
    """The words in the form in which texts are compared; all at once, because one phrase may stand for thousands."""
    for word in words:
        if "*" in word.strip("*"):
            raise PhraseError(f"* stands inside {word!r}; it may only begin or end what stands between gaps")
    bare_words = (word.strip("*").translate(_BREAKS) for word in words)
    folded = fold.fold(fold.clean("\n".join(bare_words))).split("\n")
    starred = zip(words, folded, strict=True)
    return frozenset(
        ("*" if word.startswith("*") else "") + bare.strip() + ("*" if word.endswith("*") else "")
        for word, bare in starred
        if bare.strip() or word.strip("*") != word
    )


@lru_cache(maxsize=CACHED)
def _edges(words: frozenset[str]) -> tuple[tuple[str, bool, bool], ...]:
    """Of each word what stands in a text, and whether it must begin and end there: it does in a Latin letter."""
    found = []
    for word in words:
        bare = word.strip("*")
        if bare:
            head = bare[0].isascii() and bare[0].isalnum() and not word.startswith("*")
            found.append((bare, head, bare[-1].isascii() and bare[-1].isalnum() and not word.endswith("*")))
    return tuple(found)


def _stretches(written: str) -> list[list[tuple[str, str]]]:
    """Tokens (kind, text) between gaps; kinds: "text", "name", "(", "|", ")"."""
    stretches: list[list[tuple[str, str]]] = [[]]
    depth = 0
    for token in _TOKEN.finditer(written):
        text = token[0]
        if text in ("…", "..."):
            if depth:
                raise PhraseError("a gap (…) cannot stand inside round brackets")
            stretches.append([])
        elif token[1] is not None:
            stretches[-1].append(("name", token[1].strip()))
        elif text in "(|)":
            depth += {"(": 1, ")": -1, "|": 0}[text]
            if depth > DEEPEST:
                raise PhraseError(f"more than {DEEPEST} brackets within each other")
            if depth < 0 or (text == "|" and not depth):
                raise PhraseError(f"{text!r} without its opening bracket")
            stretches[-1].append((text, text))
        elif text in "{}":
            raise PhraseError(f"{text!r} without its partner")
        else:
            stretches[-1].append(("text", text))
    if depth:
        raise PhraseError("'(' without its closing bracket")
    return stretches


def _expand(
    tokens: Sequence[tuple[str, str]], words: Mapping[str, Sequence[str]], inside: tuple[str, ...]
) -> list[str]:
    """All plain words that a stretch stands for."""
    factors: list[list[str]] = []
    position = 0
    while position < len(tokens):
        kind, text = tokens[position]
        if kind == "text":
            factors.append([text])
        elif kind == "name":
            factors.append(_named(text, words, inside))
        else:  # "(": gather its choices up to the bracket that closes it
            choices: list[list[tuple[str, str]]] = [[]]
            depth = 1
            while depth:
                position += 1
                kind, text = tokens[position]
                depth += {"(": 1, ")": -1}.get(kind, 0)
                if kind == "|" and depth == 1:
                    choices.append([])
                elif depth:
                    choices[-1].append((kind, text))
            factors.append([one for choice in choices for one in _expand(choice, words, inside)])
        position += 1
    count = 1
    for factor in factors:
        count *= len(factor)
    if count > MOST_WORDS:
        raise PhraseError(f"it stands for {count} words, more than {MOST_WORDS}: put a gap (…) between its lists")
    return ["".join(parts) for parts in product(*factors)]


def _named(name: str, words: Mapping[str, Sequence[str]], inside: tuple[str, ...]) -> list[str]:
    if name not in words:
        raise PhraseError(f"there is no list {name!r} in [words]")
    if name in inside:
        raise PhraseError(f"the list {name!r} contains itself")
    found = []
    for written in words[name]:
        stretches = _stretches(written)
        if len(stretches) != 1:
            raise PhraseError(f"the list {name!r} has a word with a gap (…): {written!r}")
        found.extend(_expand(stretches[0], words, (*inside, name)))
        if len(found) > MOST_WORDS:
            raise PhraseError(f"the list {name!r} stands for more than {MOST_WORDS} words")
    return found


class Finder:
    """All phrases of a rule set in one automaton. Add all, `freeze`, then look into as many texts as you like."""

    def __init__(self) -> None:
        self._slots: dict[frozenset[str], int] = {}
        self._phrases: dict[tuple[int, ...], int] = {}
        self._by_first: dict[int, list[int]] = {}
        self._chains: list[tuple[int, ...]] = []
        self._automaton = ahocorasick.Automaton()
        self._empty = True

    def add(self, phrase: Phrase) -> int:
        """The number under which `find` will look for the phrase."""
        chain = tuple(self._slots.setdefault(words, len(self._slots)) for words in phrase.slots)
        if chain not in self._phrases:
            self._phrases[chain] = len(self._chains)
            self._by_first.setdefault(chain[0], []).append(len(self._chains))
            self._chains.append(chain)
        return self._phrases[chain]

    def freeze(self) -> None:
        """Build the automaton."""
        slots_of: dict[str, list[tuple[int, bool, bool]]] = {}
        for words, slot in self._slots.items():
            for bare, head, tail in _edges(words):
                slots_of.setdefault(bare, []).append((slot, head, tail))
        add_word = self._automaton.add_word
        for bare, targets in slots_of.items():
            add_word(bare, (len(bare), any(h or t for _, h, t in targets), targets))
        self._empty = not slots_of
        self._automaton.make_automaton()

    def find(self, text: str) -> Occurrences:
        """Where the words stand in a folded text; its lines are its sentences."""
        starts: dict[int, list[tuple[int, int]]] = {}
        if self._empty:
            return Occurrences(starts, self._chains, self._by_first)
        for last, (length, whole, targets) in self._automaton.iter(text):
            start, end = last - length + 1, last + 1
            if whole:
                head_open = start == 0 or not _latin(text[start - 1])
                tail_open = end == len(text) or not _latin(text[end])
                for slot, head, tail in targets:
                    if (head_open or not head) and (tail_open or not tail):
                        starts.setdefault(slot, []).append((start, end))
            else:
                for slot, _, _ in targets:
                    starts.setdefault(slot, []).append((start, end))
        for spans in starts.values():
            spans.sort()
        return Occurrences(starts, self._chains, self._by_first)


def _latin(character: str) -> bool:
    return character.isascii() and character.isalnum()


@dataclass(frozen=True, slots=True)
class Occurrences:
    """What `Finder.find` met in one text: `spans` by slot, sorted."""

    spans: Mapping[int, Sequence[tuple[int, int]]]
    chains: Sequence[tuple[int, ...]]
    by_first: Mapping[int, Sequence[int]]

    def candidates(self) -> Iterator[int]:
        """The phrases all of whose words were met somewhere."""
        for slot in self.spans:
            for number in self.by_first.get(slot, ()):
                if all(other in self.spans for other in self.chains[number][1:]):
                    yield number

    def matches(self, number: int, gap: int, ends: Sequence[int]) -> list[tuple[int, int]]:
        """Spans of a phrase, none across a line; `ends` are the ends of the text's lines, sorted."""
        chain = self.chains[number]
        found = []
        for begin, first_end in self.spans[chain[0]][: MOST_CHAINS * 4]:
            if len(chain) == 1:
                found.append((begin, first_end))
                continue
            line_end = ends[bisect_left(ends, first_end)]
            reached = {first_end}
            for slot in chain[1:]:
                further: set[int] = set()
                spans = self.spans[slot]
                for at in sorted(reached)[:MOST_CHAINS]:
                    place = bisect_left(spans, (at, 0))
                    while place < len(spans) and spans[place][0] <= at + gap and spans[place][1] <= line_end:
                        further.add(spans[place][1])
                        place += 1
                reached = further
                if not reached:
                    break
            found.extend((begin, end) for end in sorted(reached)[:2])
        return found
