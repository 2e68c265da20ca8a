"""Signs: single words and short phrases, each with points that say how much a mail that has it reads like a rejection.

Evidence says *that* something is declined, in one sentence; signs say, from the rest of the wording, what kind of mail
it stands in: a letter to an applicant thanks for an application and wishes well, a letter to a supplier speaks of a
quotation, one that asks for an answer by Friday goes on with the matter. A sign counts once, however often it stands
there. The shipped points were measured (rules/README.md).

All signs are found in one pass over the folded page; a sign of Latin letters is a whole word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import ahocorasick

_NOT_LATIN = re.compile("[^a-z0-9]+")


class Signs:
    """Folded words and their points. Build once, then look into as many texts as you like."""

    def __init__(self, points: Mapping[str, float]) -> None:
        self._points = {word: value for word, value in points.items() if value}
        self._beside_kana, self._latin = ahocorasick.Automaton(), ahocorasick.Automaton()
        for word in self._points:
            spelt = _NOT_LATIN.sub(" ", word).strip()
            if word.isascii() and spelt:
                self._latin.add_word(f" {spelt} ", word)
            else:
                self._beside_kana.add_word(word, word)
        self._beside_kana.make_automaton()
        self._latin.make_automaton()

    def find(self, text: str) -> list[tuple[str, float]]:
        """The signs of a folded text and their points, the weightiest first."""
        met: set[str] = set()
        if len(self._beside_kana):
            met.update(word for _, word in self._beside_kana.iter(text))
        if len(self._latin):
            spelt = "\n".join(f" {_NOT_LATIN.sub(' ', line).strip()} " for line in text.split("\n"))
            met.update(word for _, word in self._latin.iter(spelt))
        found = [(word, self._points[word]) for word in met]
        found.sort(key=lambda each: (-abs(each[1]), each[0]))
        return found
