"""How a text is laid out: what was written now, what is quoted, what is the signature, and where a block belongs.

`Layout` is the shape for both plain text and HTML (`core.html`). `layout` reads text/plain as it was decoded: CRLF or
LF line ends, format=flowed (RFC 3676) if the part says so. Offsets are characters of the text that was given; nothing
is ever written here. Linear; never raises.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from relay_mta.core.quote import Region, place_after, sort_lines


@dataclass(frozen=True, slots=True)
class Layout:
    """What one text part shows, told apart.

    `new`, `quoted` and `signature` have "\\n" line ends. `below` and `end` are character offsets into the source:
    `below` lies below the new text, above the sender's signature and above any quoted history, `end` behind everything.
    In plain text `below` begins a line (or is the end of the text); in HTML both are legal places between tags (within
    a <pre>, between its lines). `links` are the href values of an HTML part outside its quoted history,
    `buttons` those that show something to be pressed. `history` are the stretches of the source that are quoted
    history, as (start, end) in order.
    """

    new: str
    quoted: str
    signature: str
    below: int
    end: int
    links: tuple[str, ...] = ()
    buttons: tuple[str, ...] = ()
    history: tuple[tuple[int, int], ...] = ()

    def wrote(self, start: int, end: int) -> bool:
        """Whether a stretch of the source touches no quoted history: the sender wrote it now."""
        return outside(self.history, start, end)


def outside(stretches: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a stretch touches none of others, which are in order and apart."""
    at = bisect_left(stretches, start, key=lambda other: other[1] - 1)
    return at == len(stretches) or end <= stretches[at][0]


class Line(NamedTuple):
    """One line as it is read: flowed lines joined. `end` lies past the line end."""

    text: str
    start: int
    end: int


def layout(text: str, *, flowed: bool = False) -> Layout:
    """Lay out a text/plain part; `flowed`: its Content-Type says format=flowed."""
    lines = split_lines(text)
    if flowed:
        lines = _unflow(lines)
    shown = [line.text for line in lines]
    regions = sort_lines(shown)
    return Layout(
        new=gather(shown, regions, Region.NEW, Region.CONTACT),
        quoted=gather(shown, regions, Region.QUOTED),
        signature=gather(shown, regions, Region.SIGNATURE),
        below=_below(lines, shown, regions, len(text)),
        end=len(text),
        history=stretches(((line.start, line.end) for line in lines), regions),
    )


def stretches(spans: Iterable[tuple[int, int]], regions: Sequence[Region]) -> tuple[tuple[int, int], ...]:
    """The spans of quoted lines, those that follow each other joined."""
    if Region.QUOTED not in regions:
        return ()
    found: list[tuple[int, int]] = []
    before = False
    for (start, end), region in zip(spans, regions, strict=True):
        quoted = region is Region.QUOTED
        if quoted and before:
            found[-1] = found[-1][0], end
        elif quoted:
            found.append((start, end))
        before = quoted
    return tuple(found)


MAX_LINES = 4_000
"""Lines that are looked at; the rest of a longer text counts as one more line. Bounds the work to some 30 ms."""


def split_lines(text: str) -> list[Line]:
    """The lines of a text, at CRLF or LF only: other line breaks of Unicode are text in a mail."""
    lines = []
    start = 0
    length = len(text)
    for piece in text.split("\n", MAX_LINES):
        end = start + len(piece) + 1
        end = min(end, length)
        if start < end:
            lines.append(Line(piece[:-1] if piece[-1:] == "\r" else piece, start, end))
        start = end
    return lines


def gather(shown: Sequence[str], regions: Sequence[Region], *wanted: Region) -> str:
    """The lines of some regions, without blank lines around them; what is left out in between leaves a blank line."""
    if not any(region in regions for region in wanted):
        return ""
    kept: list[str] = []
    open_gap = False
    for line, region in zip(shown, regions, strict=True):
        if region not in wanted:
            open_gap = bool(kept)
            continue
        if open_gap and kept[-1].strip():
            kept.append("")
        open_gap = False
        kept.append(line.rstrip())
    first = 0
    while first < len(kept) and not kept[first]:
        first += 1
    while len(kept) > first and not kept[-1]:
        kept.pop()
    return "\n".join(kept[first:])


def _below(lines: Sequence[Line], shown: Sequence[str], regions: Sequence[Region], length: int) -> int:
    after = place_after(shown, regions)
    if after is None:
        # Nothing was written now: above the signature, which stands above what is forwarded.
        return next((line.start for line, text in zip(lines, shown, strict=True) if text.strip()), length)
    return lines[after].end


def _unflow(lines: Sequence[Line]) -> list[Line]:
    """RFC 3676 §4: a line that ends in a space goes on in the next one of the same quote depth; one leading space is
    stuffing; "-- " never flows."""
    joined: list[Line] = []
    pieces: list[str] = []
    start = depth = 0
    open_line = False
    for line in lines:
        bare = line.text.lstrip(">")
        level = len(line.text) - len(bare)
        bare = bare.removeprefix(" ")
        separator = bare == "-- "
        if open_line and (level != depth or separator):
            joined.append(Line("".join(pieces), start, line.start))
            open_line = False
        if open_line:
            pieces.append(bare)
        else:
            pieces = [">" * level + " " if level else "", bare]
            start, depth = line.start, level
        open_line = bare.endswith(" ") and not separator
        if not open_line:
            joined.append(Line("".join(pieces), start, line.end))
    if open_line:
        joined.append(Line("".join(pieces), start, lines[-1].end))
    return joined
