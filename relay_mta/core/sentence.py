"""Sentences of a mail's new text: the unit in which a rule looks, because what matters must be said in one sentence.

`split` undoes what mailers do to sentences and respects what writers do: lines that were wrapped at a column, also in
mid-word, are joined; a list's items, a table's rows, an addressee line, a blank line and a ruler end a sentence; so do
。 ! ? and an English full stop, but not within 「…」, so that a quoted sentence stays inside its quotation.

It also tells the *opening* apart: the lines above the first real sentence, where the addressee stands.

Linear; never raises. The input is cleaned (`core.fold.clean`), not folded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from relay_mta.core.fold import JAPANESE

OPENING_LINES = 8
"""The opening has at most so many lines; an addressee with company, division and title takes four."""
NARROWEST_COLUMN = 24
FEWEST_CUT_LINES = 4
SHORTEST_QUOTATION = 20
"""What stands within fewer characters of straight quotes is a label ("Not selected"), not speech."""
LONGEST_QUOTATION = 300
"""A 「 whose 」 does not come within so many characters is not a quotation but a slip."""

LINE = "¶"
"""Stands between the lines of an opening block."""

_RULER = re.compile(r"[-=_*#~+─━―ー・.|\s◆◇■□☆★○●\u2500-\u257f]{3,}")
_BULLET = re.compile(
    r"(?:[・●■◆◇○◎□▼▽▲△►▶※★☆*•▪◦‣>|]|[-+] |\(?\d{1,2}[.)] |\d{1,2} +(?=[\u3041-\u9fff])|[①-⑳]|[【〔\[])"
)
_BOX = re.compile(r"[^:|。.!?]{0,29}[^:|。.!?\d] *[:|] *[^\s/][^。]{0,59}")
"""A line such as "結果：お見送り" or "Status: rejected" stands alone."""
_ADDRESSEE = re.compile(
    r"(?:様|殿|御中|各位|さん|先生|ちゃん|君|御机下|皆さま|皆さん|方へ|へ|(?:dear|hi|hello|hey)\b.{0,40},?)$", re.I
)
_ENDED = re.compile(r"[。!?:：♪☆★]$|(?:[a-z0-9)\"']\.)$", re.I)
_POLITE_END = re.compile(
    r"(?:です|ます|ました|ません|でした|ください|下さい|ましょう|敬具|敬白|草々|拝|以上|候|とのこと|まで)[)」』]?$"
)
_GOES_ON = re.compile(
    r"[、。,)」』]|結果|ところ|が|の|ため|為|こと|事|旨|際|けれど|けど|から|し|ら|よ|と|時|場合|通り|とおり|方|に|を|は|も|で"
)
_STOP = re.compile(
    r"[。!?]+[)」』\"']*(?=.)|(?<=[a-z0-9)\"'])\.(?=\s+[\"'(]?[A-Z0-9]|\s*[" + JAPANESE + r"])|(?<=[A-Za-z)])[;](?= )",
    re.S,
)
_ABBREVIATED = re.compile(r"(?:\b(?:mr|mrs|ms|dr|prof|st|no|ref|vs|inc|ltd|co|corp|dept|approx|e\.g|i\.e)|^\d+)$", re.I)
_QUOTATION = re.compile(f"「[^「」]{{1,{LONGEST_QUOTATION}}}」|『[^『』]{{1,{LONGEST_QUOTATION}}}』")
_HAS_SENTENCE = re.compile(
    r"[。、!?]|です|ます|ました|ません|でした|ございます|\b(?:we|you|i|your|is|are|was|thank|thanks)\b", re.I
)


@dataclass(frozen=True, slots=True)
class Sentences:
    """`new` in the order of the mail; `opening` are the blocks above the first of them that is a real sentence, their
    lines joined by `LINE`."""

    new: tuple[str, ...]
    opening: tuple[str, ...]


def split(text: str) -> Sentences:
    """Cut a cleaned text with "\\n" line ends into sentences."""
    new: list[str] = []
    opening: list[str] = []
    lines_of_opening: list[str] = []
    in_opening = OPENING_LINES
    joined = ""
    before = ""
    for raw in [*_rejoin(text.split("\n")), ""]:
        line = raw.strip()
        blank = not line or _RULER.fullmatch(line) is not None
        if in_opening > 0:
            if blank or _HAS_SENTENCE.search(line):
                if lines_of_opening:
                    opening.append(LINE.join(lines_of_opening))
                    lines_of_opening = []
                if not blank:
                    in_opening = 0
            else:
                lines_of_opening.append(line)
                in_opening -= 1
        if blank:
            new.extend(_sentences(joined))
            joined, before = "", ""
        elif joined and (_in_quotation(joined) or _goes_on(before, raw)):
            joined = _join(joined, line)
            before = raw
        else:
            new.extend(_sentences(joined))
            joined, before = line, raw
    if lines_of_opening:
        opening.append(LINE.join(lines_of_opening))
    return Sentences(tuple(new), tuple(opening))


def _rejoin(lines: Sequence[str]) -> list[str]:
    """Undo a column that cuts through words: a block of plain lines that all have the same length is one line.

    A mailer that wraps between words leaves ragged lines; one that lost the blank at a line's end leaves it one short.
    """
    found: list[str] = []
    start = 0
    while start < len(lines):
        width = len(lines[start])
        if width < NARROWEST_COLUMN:
            found.append(lines[start])
            start += 1
            continue
        end = start
        while end < len(lines) and len(lines[end]) in (width, width - 1) and lines[end].isascii():
            end += 1
        if end - start >= FEWEST_CUT_LINES:
            last = end < len(lines) and 0 < len(lines[end]) < width
            whole = [line if len(line) == width else line + " " for line in lines[start:end]]
            found.append("".join(whole) + (lines[end] if last else ""))
            start = end + last
        else:
            found.append(lines[start])
            start += 1
    return found


def quotations(sentence: str) -> list[tuple[int, int]]:
    """Where a sentence quotes: spans of 「…」 and 『…』 and of pairs of straight double quotes."""
    spans = [found.span() for found in _QUOTATION.finditer(sentence)] if "「" in sentence or "『" in sentence else []
    if '"' in sentence:
        marks = [i for i, character in enumerate(sentence) if character == '"']
        spans.extend(
            (a, b + 1)
            for a, b in zip(marks[::2], marks[1::2], strict=False)
            if SHORTEST_QUOTATION < b - a <= LONGEST_QUOTATION
        )
    return spans


def _in_quotation(joined: str) -> bool:
    """Whether a quotation was begun and not ended: a mailer's wrap within it ends no sentence."""
    return joined.rfind("「") > max(joined.rfind("」"), len(joined) - LONGEST_QUOTATION)


def _goes_on(before: str, line: str) -> bool:
    """Whether `line` continues the sentence that `before` (a line that is not blank) ended in."""
    above, here = before.strip(), line.strip()
    if _ENDED.search(above) or _BULLET.match(here) or _BOX.fullmatch(above) or _BOX.fullmatch(here):
        return False
    indented = line.startswith((" ", "\u3000"))
    if indented != before.startswith((" ", "\u3000")) and indented != bool(_BULLET.match(above)):
        return not indented and not _BULLET.match(above)  # a new paragraph's first line is indented, its others are not
    if not indented and _BULLET.match(above):
        return False
    if len(above) <= 40 and _ADDRESSEE.search(above) and "、" not in above:
        return False
    return not (_POLITE_END.search(above) and not _GOES_ON.match(here))


def _join(above: str, here: str) -> str:
    if above.isascii() and here.isascii():
        return f"{above} {here}"
    beside = above[-1] > "\u2fff" or here[0] > "\u2fff"
    return above + here if beside else f"{above} {here}"


def _sentences(joined: str) -> list[str]:
    """Cut one joined stretch of lines at its full stops, but not inside a quotation."""
    if not joined:
        return []
    quoted = quotations(joined)
    found = []
    start = 0
    for stop in _STOP.finditer(joined):
        if any(a < stop.start() and stop.end() <= b for a, b in quoted):
            continue
        if joined[stop.start()] == "." and _ABBREVIATED.search(joined, start, stop.start()):
            continue
        piece = joined[start : stop.end()].strip()
        if piece:
            found.append(piece)
        start = stop.end()
    piece = joined[start:].strip()
    if piece:
        found.append(piece)
    return found
