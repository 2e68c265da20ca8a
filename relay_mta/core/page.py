"""One rendition of a mail, prepared for judging: its sentences for people and the same sentences folded for matching.

The lines of a page are the subject, the blocks of the opening (`core.sentence`), the sentences of the new text, and
then what rules look at beside these: quoted text, signature, header fields, names of attachments … `parts` says which
is which. Line n of `folded` is the folded form of `shown[n]`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from relay_mta.core import fold, kana, names, sentence
from relay_mta.core.verdict import Language

LONGEST_JUDGED: Final = 16_384
"""Characters of a rendition's new text that are judged: a rejection says so on its first page."""
LONGEST_SUBJECT: Final = 500
LONGEST_BESIDE: Final = 16_384
"""Characters of any other part."""
ANSWERED: Final = "answered"
"""The part of a subject that starts with Re: or Fwd:; as "subject" for all but evidence."""

_WRITTEN = ("subject", ANSWERED, "opening", "new")
_REPLY = re.compile(r"\s*(?:(?:re|aw|fw|fwd|返信|転送)\s*(?:\[\d+\])?\s*[:>]\s*)+", re.I)
_KANA_KANJI = re.compile("[\u3041-\u30ff\u3400-\u9fff]")
_LATIN = re.compile("[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Page:
    """One rendition prepared: `shown` lines for people, `folded` the same lines for matching, with their parts.

    `opening` and `new` are those of `shown` that are these parts.
    """

    shown: tuple[str, ...]
    parts: tuple[str, ...]
    folded: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    opening: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def subject(self) -> str:
        """The folded subject; "" if there is none."""
        return self.folded[: self.ends[0]] if self.parts and self.parts[0] in ("subject", ANSWERED) else ""

    @property
    def words(self) -> str:
        """The folded lines of what the sender wrote now: subject, opening and new text."""
        last = max((n for n, part in enumerate(self.parts) if part in _WRITTEN), default=None)
        return "" if last is None else self.folded[: self.ends[last]]

    def addressed(self) -> tuple[frozenset[str], int]:
        """The names under which the mail addresses its reader, and the line from which it shows a letter to somebody
        else (past the new text, if it shows none)."""
        reader = names.addressees(self.opening, self.new[0] if self.new else "")
        before = int(self.parts[0] in ("subject", ANSWERED)) + len(self.opening)
        return reader, before + names.turns_to_another(self.new, reader)

    def line_of(self, offset: int) -> int:
        return bisect_left(self.ends, offset)

    def language(self) -> Language:
        """Of the new text; Japanese if it has a quarter as many Japanese letters as Latin ones: they say more each."""
        text = "".join(line for line, part in zip(self.shown, self.parts, strict=True) if part == "new")
        return "ja" if len(_KANA_KANJI.findall(text)) * 4 >= len(_LATIN.findall(text)) else "en"


def prepare(subject: str, text: str, beside: Mapping[str, str] = MappingProxyType({})) -> Page:
    """Prepare a rendition; a subject that is an answer or a forward has the part `ANSWERED`: no evidence.

    `beside`: further parts and their texts ("\\n" between lines); "quoted" and "signature" are cut into sentences.
    """
    subject = " ".join(fold.clean(subject[:LONGEST_SUBJECT]).split())
    direct = _REPLY.match(subject)
    found = sentence.split(fold.clean(text[:LONGEST_JUDGED]))
    shown: list[str] = [subject] if subject else []
    parts: list[str] = ["subject"] if subject else []
    if direct:
        parts = [ANSWERED]
    shown.extend(found.opening)
    parts.extend(["opening"] * len(found.opening))
    shown.extend(found.new)
    parts.extend(["new"] * len(found.new))
    for part, written in beside.items():
        cleaned = fold.clean(written[:LONGEST_BESIDE])
        lines = sentence.split(cleaned).new if part in ("quoted", "signature") else cleaned.split("\n")
        shown.extend(lines)
        parts.extend([part] * len(lines))
    if not shown:
        shown, parts = [""], ["new"]
    folded = fold.fold(kana.spell("\n".join(shown)))
    starts, ends, position = [], [], 0
    for line in folded.split("\n"):
        starts.append(position)
        position += len(line) + 1
        ends.append(position - 1)
    return Page(tuple(shown), tuple(parts), folded, tuple(starts), tuple(ends), found.opening, found.new)
