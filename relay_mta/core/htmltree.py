"""Beautiful Soup's tree of an HTML source, in which every element and text knows its absolute offsets.

Beautiful Soup builds its tree from what a `TreeBuilder` feeds it. This builder feeds it from `core.htmltokens`, which
is linear and exact about places, and closes elements as a browser does where that decides about places: `<p>`,
`<li>`, table cells and rows close implicitly, an end tag does not reach out of a table cell, and an inline end tag
not out of a block. The tree is only read. What is relied on of Beautiful Soup's tree-building calls is held by
tests/core/test_html.py.

Limits, as `SpliceError("limit:html-…")`: `MAX_DEPTH`, `MAX_TAGS`, `MAX_REFERENCES`, `htmltokens.MOST_ATTRIBUTES`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from bs4 import BeautifulSoup, Tag
from bs4.builder import HTMLTreeBuilder
from bs4.element import NavigableString

from relay_mta.core.errors import SpliceError
from relay_mta.core.htmltokens import Token, tokens, unescape
from relay_mta.core.patience import Patience, ask, endless

MAX_DEPTH = 300
"""Open elements at a time. Eighty replies quoted in each other take about 250."""
MAX_TAGS = 12_000
"""Start tags of one source: bounds the longest parse to about 0.15 s. A long thread of Outlook's has about 8,000."""
MAX_REFERENCES = 50_000
"""Character references ("&nbsp;"): 20 ms to decode, where they are all in one text."""
ASKED_EVERY = 512
"""Tokens, or nodes of the tree, between two looks at the time: a millisecond or two."""
_MAX_BRACKETS = 3 * MAX_TAGS
"""Every start tag may have an end tag and a comment: a source with more "<" is refused before it is read."""


def names(words: str) -> frozenset[str]:
    """Element names, classes or ids, written as words."""
    return frozenset(words.split())


VOID = names("area base br col embed hr img input link meta param source track wbr basefont bgsound frame")
_CLOSES_P = names(
    "address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hgroup hr main menu nav ol p pre section summary table ul"
)
_TABLE_PARTS = names("caption col colgroup tbody thead tfoot tr td th")
SCOPES = names("table td th caption button object template select")
"""Elements that an end tag of a block inside them does not reach out of (HTML §13.2.4.2)."""
BLOCKS = _CLOSES_P | _TABLE_PARTS | SCOPES | names("html body head li dt dd option marquee noscript")
_ITEMS = {"li": ("li",), "dt": ("dt", "dd"), "dd": ("dt", "dd"), "option": ("option",)}
_LISTS = SCOPES | names("ul ol menu dir dl")
_IN_HEAD = names("base basefont bgsound link meta noframes noscript script style template title xml head")
_PART_LEVEL = {"td": 3, "th": 3, "tr": 2, "tbody": 1, "thead": 1, "tfoot": 1, "caption": 1, "colgroup": 1, "col": 1}
_IF = re.compile(r"<!(?:--)?\[if[^\]]{0,100}\]>(?:<!--[\s>]|<!\Z|<!-|\Z)", re.IGNORECASE)
_ENDIF = re.compile(r"<!(?:--<!)?\[endif\]", re.IGNORECASE)


class Element(Tag):
    """source[start:inner] is the start tag, source[inner:close] the content, source[close:end] the end tag (empty if
    it was implied)."""

    start: int = 0
    inner: int = 0
    close: int = 0
    end: int = 0


class Text(NavigableString):
    """A visible text, references decoded, at source[start:end]."""

    start: int = 0
    end: int = 0


class Tree(BeautifulSoup):
    """The soup. `shown_end` is where the source stops being shown (before an unfinished tag or comment), `body_close`
    where the `</body>` or `</html>` stands that nothing visible follows; `conditionals` are the stretches that only
    some clients show (`<!--[if !mso]><!-->` … `<!--<![endif]-->`, `<![if …]>` … `<![endif]>`)."""

    shown_end: int = 0
    body_close: int | None = None
    conditionals: tuple[tuple[int, int], ...] = ()

    def _linkage_fixer(self, el: Tag) -> None:
        """Not needed in a tree that nobody changes; it climbs the tree at each text."""


def parse(source: str, patience: Patience = endless) -> Tree:
    """The tree of a source. Raises `SpliceError`: "limit:html-depth", "limit:html-tags", "limit:html-references",
    "limit:time"."""
    if source.count("<") > _MAX_BRACKETS:
        raise SpliceError("limit:html-tags")
    if source.count("&") > MAX_REFERENCES:
        raise SpliceError("limit:html-references")
    builder = _Builder(source, patience)
    # The source does not go in as markup: Beautiful Soup would examine it for encodings and resemblance to file names.
    return Tree("\n", builder=builder, element_classes={Tag: Element, NavigableString: Text})


class _Builder(HTMLTreeBuilder):
    """Feeds the tokens of `source` to the soup that it was given to."""

    def __init__(self, source: str, patience: Patience) -> None:
        super().__init__(
            multi_valued_attributes={}, preserve_whitespace_tags=set(), store_line_numbers=False, string_containers={}
        )
        self._source = source
        self._patience = patience
        self._tree: Tree
        self._blocks: list[Counter[str]] = [Counter()]  # open blocks per scope
        self._inlines: list[Counter[str]] = [Counter()]  # open inline elements per block
        self._items: list[Counter[str]] = [Counter()]  # open items per list
        self._tables: list[Counter[str]] = []  # open parts per table
        self._tags = 0

    def prepare_markup(self, markup: Any, *_: Any, **__: Any) -> Iterable[tuple[Any, None, None, bool]]:
        yield (markup, None, None, False)

    def feed(self, markup: Any) -> None:
        assert isinstance(self.soup, Tree)
        tree = self._tree = self.soup
        source = self._source
        tree.shown_end = len(source)
        text_start = text_end = opened = -1
        conditionals: list[tuple[int, int]] = []
        for number, token in enumerate(tokens(source)):
            if number % ASKED_EVERY == 0:
                ask(self._patience)
            if token.kind == "text":
                if text_start < 0:
                    text_start = token.start
                text_end = token.end
                continue
            if text_start >= 0:
                self._text(text_start, text_end)
                text_start = -1
            if token.kind == "start":
                self._open(token)
            elif token.kind == "end":
                self._close(token)
            elif token.kind == "flood":
                raise SpliceError("limit:html-tags")
            elif token.kind == "rest":
                tree.shown_end = token.start
            elif token.kind in ("comment", "bogus"):
                if _IF.match(source, token.start, token.end):
                    opened = opened if opened >= 0 else token.start
                elif opened >= 0 and _ENDIF.match(source, token.start, token.end):
                    conditionals.append((opened, token.end))
                    opened = -1
        if text_start >= 0:
            self._text(text_start, text_end)
        while len(tree.tagStack) > 1:
            self._pop(len(source), len(source))
        tree.conditionals = tuple(conditionals)

    def _text(self, start: int, end: int) -> None:
        tree = self._tree
        if not self._source[start:end].isspace():
            tree.body_close = None
            self._leave_head(start)
        text = Text(unescape(self._source[start:end]))
        text.start, text.end = start, end
        tree.object_was_parsed(text)

    def _open(self, token: Token) -> None:
        tree = self._tree
        tree.body_close = None
        name = token.name
        self._tags += 1
        if self._tags > MAX_TAGS:
            raise SpliceError("limit:html-tags")
        if name in ("html", "body") and any(tag.name == name for tag in tree.tagStack[1:4]):
            return
        if name in _PART_LEVEL and not self._tables:
            return  # a browser passes over the parts of a table that is not there
        self._imply(name, token.start)
        if len(tree.tagStack) > MAX_DEPTH:
            raise SpliceError("limit:html-depth")
        element = tree.handle_starttag(name, None, None, cast(Any, token.attributes))
        assert isinstance(element, Element)
        element.start, element.inner = token.start, token.end
        if name in BLOCKS:
            if name in SCOPES:
                self._blocks.append(Counter())
            if name in _LISTS:
                self._items.append(Counter())
            elif name in _ITEMS:
                self._items[-1][name] += 1
            self._blocks[-1][name] += 1
            self._inlines.append(Counter())
            if name == "table":
                self._tables.append(Counter())
            elif name in _PART_LEVEL and self._tables:
                self._tables[-1][name] += 1
        else:
            self._inlines[-1][name] += 1
        if name in VOID or (token.closed and (self._inlines[-1]["svg"] or self._inlines[-1]["math"])):
            self._pop(token.end, token.end)

    def _leave_head(self, at: int) -> None:
        """What does not belong into a <head> ends it (HTML §13.2.6.4.4)."""
        tag = self._tree.currentTag
        if tag is not None and tag.name == "head":
            self._pop(at, at)

    def _imply(self, name: str, at: int) -> None:
        """Close what a start tag closes (HTML §13.2.6.4.7, §13.2.6.4.9 and following)."""
        if name not in _IN_HEAD:
            self._leave_head(at)
        if name in _CLOSES_P:
            while self._blocks[-1]["p"]:
                self._pop(at, at)
        elif name in _ITEMS:
            while any(self._items[-1][item] for item in _ITEMS[name]):
                self._pop(at, at)
        elif name == "a":
            while self._inlines[-1]["a"]:
                self._pop(at, at)
        elif name in _PART_LEVEL:
            self._imply_part(_PART_LEVEL[name], at)

    def _imply_part(self, level: int, at: int) -> None:
        """A row ends the row before it, a cell the cell before it, each within its own table."""
        if not self._tables:
            return
        parts = self._tables[-1]
        ended = [part for part, own in _PART_LEVEL.items() if own >= level]
        while any(parts[part] for part in ended):
            self._pop(at, at)

    def _pop(self, close: int, end: int) -> None:
        element = cast(Element, self._tree.currentTag)
        self._tree.popTag()
        element.close, element.end = close, end
        name = element.name
        if name not in BLOCKS:
            self._inlines[-1][name] -= 1
        else:
            self._inlines.pop()
            self._blocks[-1][name] -= 1
            if name in SCOPES:
                self._blocks.pop()
            if name in _LISTS:
                self._items.pop()
            elif name in _ITEMS:
                self._items[-1][name] -= 1
            if name == "table":
                self._tables.pop()
            elif name in _PART_LEVEL and self._tables:
                self._tables[-1][name] -= 1

    def _close(self, token: Token) -> None:
        name = token.name
        if name in VOID:
            return
        if name in ("body", "html"):
            # §13.2.6.4.7: nothing is closed by these; what follows them still goes into the body.
            if self._tree.body_close is None:
                self._tree.body_close = token.start
            return
        if name in _PART_LEVEL or name == "table":
            if not self._tables or not (name == "table" or self._tables[-1][name]):
                return
        elif not (self._blocks[-1] if name in BLOCKS else self._inlines[-1])[name]:
            return  # a stray end tag: nothing that it may close is open
        stack = self._tree.tagStack
        while stack[-1].name != name:
            self._pop(token.start, token.start)
        self._pop(token.start, token.end)
