"""Where in an HTML source a block may stand.

`below_place` climbs from the last line of new text to a place between block elements: behind the paragraph that holds
the line, within its <div>, its table cell, or the body; never past text that follows (signature, quoted history).
`end_place` is the end of the body. Both return an offset between tags, and none before the end of the tag `<body>`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

from bs4.element import PageElement

from relay_mta.core.htmlmarks import hidden, zero_size
from relay_mta.core.htmltree import BLOCKS, VOID, Element, Text, Tree, names
from relay_mta.core.quote import Region
from relay_mta.core.signature import blank

_FLOW = names(
    "div td th body section article main center blockquote form fieldset aside header footer details "
    "dialog address figure nav caption marquee"
)
"""Elements that a block may stand in, between others."""
_TOP = frozenset(("html", "body"))
_MUST_LEAVE = names(
    "a button label li ul ol dl dt dd menu dir table tbody thead tfoot tr colgroup h1 h2 h3 h4 h5 h6 pre sub sup select"
)
"""Elements that a block must not stand in, whatever follows."""
_ROWS = names("table tbody thead tfoot tr")
"""Elements that must not end with a block: a browser shows it before the table."""
_MAIN_SHARE = 0.4
"""A cell that holds less of the new text than this is a button or a footer: the block goes behind its table."""


@dataclass(slots=True)
class Row:
    """One visible line: its text, what markup says of it, and the first and last node that it consists of.

    `cut`: where in the source a line of preformatted text begins that follows this one within the same text; else -1.
    """

    text: str
    known: Region | None
    first: PageElement
    last: PageElement
    cut: int = -1

    @property
    def start(self) -> int:
        """Where the row's first text begins in the source."""
        return _start(self.first)

    @property
    def end(self) -> int:
        """Where the row ends in the source, tags behind it not counted."""
        return self.cut if self.cut >= 0 else _end(self.last)


def below_place(tree: Tree, rows: Sequence[Row], regions: Sequence[Region], after: int | None, end: int) -> int:
    """The offset behind row `after` where a block goes; with None (no new text), before the first row; `end` if the
    source shows nothing."""
    return max(_below(tree, rows, regions, after, end), _body_inner(tree))


def _below(tree: Tree, rows: Sequence[Row], regions: Sequence[Region], after: int | None, end: int) -> int:
    if after is None:
        first = next((row.first for row in rows if not blank(row.text)), None)
        return end if first is None else _start(_climb_top(first))
    following = next((_start(row.first) for row in rows[after + 1 :] if not blank(row.text)), end)
    share = _Share(rows, regions, after)
    node = rows[after].last
    if rows[after].cut >= 0 and following < _end(node):
        return rows[after].cut  # the signature follows in the same <pre>
    while True:
        parent = node.parent
        if not isinstance(parent, Element) or parent.name in _TOP:
            break
        passes = following < parent.end  # climbing out of it would pass what follows
        if parent.name in _MUST_LEAVE:
            node = parent
        elif passes or (parent.close == parent.end >= end):  # never closed: everything that follows is in it
            break
        elif parent.name in ("td", "th"):
            table = _table(parent)
            if table is None or following < table.end or share.of(parent) >= _MAIN_SHARE:
                break
            letter = _main_cell(table, parent, share)
            last_of_letter = _last_row(rows, regions, letter) if letter is not None else None
            if letter is not None and last_of_letter is not None:
                return _below(tree, rows[: last_of_letter + 1], regions, last_of_letter, letter.close)
            node = table
        elif parent.name in _FLOW and not _is_unseen(parent) and (_is_block(node) or _is_unseen(parent.parent)):
            break
        else:
            node = parent
    if _is_unseen(node.parent):
        # Mail builders give a cell no font size and what stands in it one: then the block goes inside, too.
        last: PageElement = rows[after].last
        while last.parent is not None and last is not node and not _is_unseen(last.parent):
            last = last.parent
        return last.close if isinstance(last, Element) else _end(last)
    return _revealed(tree, node, _end(node))


def end_place(tree: Tree) -> int:
    """The offset behind everything that is shown: before `</body>` or `</html>`, or the end of the source."""
    return max(_end_place(tree), _body_inner(tree))


def _body_inner(tree: Tree) -> int:
    """Where the content of the body begins, if its tag is written: nothing visible may stand in front of it."""
    for node in tree.contents:
        for inner in (node, *(node.contents if isinstance(node, Element) and node.name == "html" else ())):
            if isinstance(inner, Element) and inner.name == "body":
                return inner.inner
    return 0


def _end_place(tree: Tree) -> int:
    place = tree.shown_end if tree.body_close is None else tree.body_close
    node: Tree | Element = tree
    unseen: int | None = None
    while True:
        child = next((child for child in reversed(node.contents) if isinstance(child, Element)), None)
        left_open = child is not None and child.name not in VOID and child.inner <= place <= child.close
        if child is None or not left_open:
            if not isinstance(node, Element) or node.name not in _ROWS:
                return place if unseen is None else unseen
            if child is None or child.name in VOID or child.inner > place:
                return node.start if unseen is None else unseen  # what a table without a cell holds is shown before it
            place = min(place, child.close)  # a table left open: the end of its last cell
        # A body of no size or that is hidden is still the only place there is; its content may set a size.
        if hidden(child) and child.name not in _TOP:
            return child.start if unseen is None else unseen
        size = zero_size(child)
        if size is not None and child.name not in _TOP:
            unseen = (child.start if unseen is None else unseen) if size else None
        node = child


class _Share:
    """How much of the new text an element holds, by its offsets."""

    def __init__(self, rows: Sequence[Row], regions: Sequence[Region], after: int) -> None:
        self._starts = [_start(row.first) for row in rows[: after + 1]]
        new = (len(row.text) * (region is not Region.QUOTED) for row, region in zip(rows, regions, strict=False))
        self._sums = [0, *accumulate(islice(new, after + 1))]

    def of(self, element: Element) -> float:
        inside = (
            self._sums[bisect_left(self._starts, element.end)] - self._sums[bisect_left(self._starts, element.start)]
        )
        return inside / (self._sums[-1] or 1)


def _start(node: PageElement) -> int:
    return node.start if isinstance(node, (Element, Text)) else 0


def _end(node: PageElement) -> int:
    return node.end if isinstance(node, (Element, Text)) else 0


def _is_block(node: PageElement) -> bool:
    return isinstance(node, Element) and node.name in BLOCKS


def _is_unseen(element: object) -> bool:
    """Whether text right in the element has no size: mail builders give a cell `font-size:0` and its <div> a size."""
    node = element
    while isinstance(node, Element):
        size = zero_size(node)
        if size is not None:
            return size
        node = node.parent
    return False


def _table(cell: Element) -> Element | None:
    node: object = cell
    while isinstance(node, Element):
        if node.name == "table":
            return node
        node = node.parent
    return None


def _last_row(rows: Sequence[Row], regions: Sequence[Region], cell: Element) -> int | None:
    """The last row that a cell shows, if it is the sender's own."""
    inside = [n for n, row in enumerate(rows) if cell.inner <= _start(row.first) < cell.close and not blank(row.text)]
    return inside[-1] if inside and regions[inside[-1]] in (Region.NEW, Region.CONTACT) else None


def _main_cell(table: Element, last: Element, share: _Share) -> Element | None:
    """The cell of a table above `last` that holds the letter: the block belongs at its end, inside the frame that the
    sender drew around it, and not below a button or a footer in cells of their own."""
    stack: list[PageElement] = list(table.contents)
    while stack:
        node = stack.pop()
        if not isinstance(node, Element):
            continue
        if node.name in ("td", "th"):
            closed = node.close < node.end
            if closed and node.end <= last.start and not _is_unseen(node) and share.of(node) >= _MAIN_SHARE:
                return node
        elif node.name in _ROWS:
            stack.extend(node.contents)
    return None


def _climb_top(node: PageElement) -> PageElement:
    while isinstance(node.parent, Element) and node.parent.name not in _TOP:
        node = node.parent
    return node


def _revealed(tree: Tree, node: PageElement, place: int) -> int:
    """Out of `<!--[if !mso]><!-->` … `<!--<![endif]-->`, which Outlook does not show."""
    index = bisect_right(tree.conditionals, (place, 0)) - 1
    if index < 0 or not tree.conditionals[index][0] < place < tree.conditionals[index][1]:
        return place
    start, end = tree.conditionals[index]
    while isinstance(node.parent, Element) and node.parent.name not in _TOP:
        parent = node.parent
        if parent.inner <= start and end <= parent.close and parent.name in _FLOW:
            break
        node = parent
    return max(end, _end(node)) if _start(node) < start else end
