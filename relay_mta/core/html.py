"""How an HTML part is laid out: its visible lines told apart, and the legal places for a block.

The source is read through Beautiful Soup's tree over exact offsets (`core.htmltree`); hidden elements, comments and
conditional comments are not text. Lines are made as a browser shows them: block elements, `<br>` and table rows end a
line, " | " stands between the cells of a row, white space is collapsed outside `<pre>`. What the markup says of
quotes and signatures (`core.htmlmarks`) comes first, then the same reading of lines as in plain text (`core.quote`).

A place is always between tags, where a `<div>` or `<table>` may stand: never within a tag, a comment, raw text, a
hidden element, an inline link, or between the rows of a table. Style sheets are not read: an element that only a CSS
rule hides counts as visible.

Linear but for the height of the tree. Raises `SpliceError("limit:html-…")` beyond `core.htmltree`'s limits, else
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bs4.element import PageElement

from relay_mta.core.htmlmarks import hidden, mark, zero_size
from relay_mta.core.htmlplace import Row, below_place, end_place
from relay_mta.core.htmltokens import unescape
from relay_mta.core.htmltree import ASKED_EVERY, BLOCKS, Element, Text, Tree, parse
from relay_mta.core.patience import Patience, ask, endless
from relay_mta.core.quote import Region, place_after, sort_lines
from relay_mta.core.text import Layout, gather, outside

_SPACES = re.compile(r"[ \t\r\n\f]+")
_MANY_SPACES = re.compile(r" {2,}")
_NO_MARGIN = re.compile(r"margin(?:-bottom)?\s*:\s*0", re.IGNORECASE)
_CELL_MARK = " | "
_CELL_WIDTH = 120
"""A row of cells that is wider than this is a page layout, not a table of short entries: its cells become lines."""


def layout(source: str, patience: Patience = endless) -> Layout:
    """Lay out a text/html part. Raises `SpliceError`: "limit:html-…" or "limit:time"."""
    tree = parse(source, patience)
    reader = _Reader(source, patience)
    reader.read(tree)
    rows = reader.rows
    ask(patience)
    shown = [row.text for row in rows]
    regions = sort_lines(shown, [row.known for row in rows])
    after = place_after(shown, regions)
    end = end_place(tree)
    history = _history(rows, regions, reader.marked, len(source))
    links = [link for link in reader.links if outside(history, link[1], link[1] + 1)]
    return Layout(
        new=gather(shown, regions, Region.NEW, Region.CONTACT),
        quoted=gather(shown, regions, Region.QUOTED),
        signature=gather(shown, regions, Region.SIGNATURE),
        below=min(below_place(tree, rows, regions, after, end), end),
        end=end,
        links=tuple(href for href, _, _ in links),
        buttons=tuple(href for href, _, shown in links if shown),
        history=history,
    )


def _history(
    rows: Sequence[Row], regions: Sequence[Region], marked: Sequence[tuple[int, int]], length: int
) -> tuple[tuple[int, int], ...]:
    """The stretches of the source that are quoted history: the elements that are marked so, and from the first text to
    the last what reads so; to the end of the source, where such a text is the last."""
    spans = list(marked)
    begun: int | None = None
    for number, (row, region) in enumerate(zip(rows, regions, strict=True)):
        if region is not Region.QUOTED:
            begun = None
            continue
        begun = row.start if begun is None else begun
        last = number == len(rows) - 1 and row.known is None
        spans.append((begun, length if last else max(begun, row.end)))
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)


@dataclass(slots=True)
class _Reader:
    """Walks the tree once and collects the visible rows."""

    source: str
    patience: Patience
    rows: list[Row] = field(default_factory=list)
    links: list[tuple[str, int, bool]] = field(default_factory=list)  # where the tag begins; whether it shows something
    marked: list[tuple[int, int]] = field(default_factory=list)  # elements that markup tells as quoted
    pieces: list[str] = field(default_factory=list)
    first: PageElement | None = None
    last: PageElement | None = None
    width: int = 0
    broken: bool = False  # a block boundary was passed since the last text
    apart: bool = False  # a cell boundary was passed since the last text
    spread: bool = False  # this table row has taken more than one line
    sealed: Region | None = None  # all that follows is …
    known: Region | None = None
    of_line: Region | None = None  # what markup says of the line begun
    gap: bool = False  # a paragraph ended: its margin follows the line

    def read(self, tree: Tree) -> None:
        """Depth first, without recursion: the tree may be 300 deep."""
        # (node, leaving, known region around it, size zero, preformatted)
        stack: list[tuple[PageElement, bool, Region | None, bool, bool]] = [(tree, False, None, False, False)]
        steps = 0
        while stack:
            steps += 1
            if steps % ASKED_EVERY == 0:
                ask(self.patience)
            node, leaving, region, unseen, pre = stack.pop()
            if isinstance(node, Text):
                if not unseen:
                    self.known = region
                    self._text(node, pre=pre)
                continue
            if isinstance(node, Tree):
                stack.extend((child, False, None, False, False) for child in reversed(node.contents))
                continue
            if not isinstance(node, Element):
                continue
            if leaving:
                self._leave(node)
                continue
            if hidden(node):
                continue
            inside = self._mark(node, region)
            size = zero_size(node)
            unseen = unseen if size is None else size
            self.known = inside
            self._enter(node, unseen=unseen)
            stack.append((node, True, region, unseen, pre))
            pre = pre or node.name in ("pre", "listing", "xmp")
            stack.extend((child, False, inside, unseen, pre) for child in reversed(node.contents))
        self._flush()

    def _mark(self, element: Element, around: Region | None) -> Region | None:
        if around is Region.QUOTED:
            return around
        said = mark(element)
        if said is None:
            return around
        self._break()
        if said == "quoted-on":
            self.sealed = Region.QUOTED
        elif said == "signature-on":
            self.sealed = self.sealed or Region.SIGNATURE
        if said.startswith("quoted"):
            self.marked.append((element.start, len(self.source) if said == "quoted-on" else element.end))
            return Region.QUOTED
        return Region.SIGNATURE

    def _enter(self, element: Element, *, unseen: bool) -> None:
        name = element.name
        if name == "br":
            if self.pieces and not self.broken:
                self.last = element
                self._flush()
            else:
                self._flush()
                self.rows.append(Row("", self._region(), element, element))
        elif name == "hr":
            self._flush()
            self.rows.append(Row("-" * 20, self._region(), element, element))
        elif name in ("td", "th"):
            if self.pieces and not self.spread and self.width < _CELL_WIDTH:
                self.apart, self.broken, self.gap = True, False, False
            else:
                self._break()
        elif name == "tr":
            self._flush()
            self.spread = False
        elif name in BLOCKS:
            if not self.apart:
                self._break()
        elif name == "a":
            href = element.attrs.get("href")
            if isinstance(href, str):
                self.links.append((href.strip(), element.start, not unseen and _shows(element)))

    def _leave(self, element: Element) -> None:
        name = element.name
        if name in ("td", "th"):
            return
        if name in ("tr", "table"):
            self.apart = False
            self.spread = True
        if name in BLOCKS:
            self._break()
            if name == "p" and not _tight(element):
                self.gap = bool(self.pieces)

    def _region(self) -> Region | None:
        return self.sealed if self.sealed is Region.QUOTED or self.known is None else self.known

    def _break(self) -> None:
        self.broken = True

    def _text(self, node: Text, *, pre: bool) -> None:
        if pre:
            # Split before decoding: an encoded line end is no place in the source.
            start = node.start
            lines = self.source[node.start : node.end].split("\n")
            for line in lines[:-1]:
                start += len(line) + 1
                self._piece(unescape(line).rstrip("\r"), node)
                self._flush(cut=start)
            if lines[-1]:
                self._piece(unescape(lines[-1]), node)
            return
        text = _SPACES.sub(" ", str(node))
        if text == " " and (self.broken or not self.pieces):
            return
        self._piece(text, node)

    def _piece(self, text: str, node: Text) -> None:
        if self.broken:
            self._flush()
        if self.apart:
            self.apart = False
            if self.pieces:
                self.pieces.append(_CELL_MARK)
        if not self.pieces:
            self.first = node
            self.of_line = self._region()
            self.width = 0
        elif text == " ":
            self.pieces.append(text)  # the layout of the source behind a cell must not lead out of the cell
            return
        self.pieces.append(text)
        self.width += len(text)
        self.last = node

    def _flush(self, *, cut: int = -1) -> None:
        """End the line, if one was begun. `cut`: see `Row`."""
        if self.pieces:
            text = _MANY_SPACES.sub(" ", "".join(self.pieces)).strip(" ")
            assert self.first is not None and self.last is not None
            self.rows.append(Row(text, self.of_line, self.first, self.last, cut))
            self.pieces = []
            self.spread = True
            if self.gap:
                self.rows.append(Row("", self.of_line, self.last, self.last))
        self.broken = self.apart = self.gap = False


def _shows(link: Element) -> bool:
    """Whether there is something in a link that its reader could press."""
    return any(
        not inner.isspace() if isinstance(inner, Text) else isinstance(inner, Element) and inner.name == "img"
        for inner in link.descendants
    )


def _tight(paragraph: Element) -> bool:
    """Whether a paragraph is drawn without a margin: Outlook's are, and its users make blank lines."""
    classes, style = paragraph.attrs.get("class"), paragraph.attrs.get("style")
    return (isinstance(classes, str) and "Mso" in classes) or (
        isinstance(style, str) and _NO_MARGIN.search(style) is not None
    )
