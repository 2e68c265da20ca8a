"""The tokens of an HTML source, each with its absolute offsets.

Follows the tokenization of the HTML standard (§13.2.5) as far as structure and visible text need it: quoted
attributes, raw text elements, comments and bogus comments end where a browser ends them. It never backtracks over
text it has passed: every character is visited a bounded number of times, whatever the input (the standard library's
parser takes minutes for 300 KB of "<a " or "<!--"; CVE-2025-6069). Never raises.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

TokenKind = Literal["text", "raw", "start", "end", "comment", "bogus", "rest", "flood"]


@dataclass(slots=True)
class Token:
    """source[start:end]. `name` is a tag's name in lower case, or the element that a raw text stands in.

    "rest" is an unfinished tag or comment, or an unclosed raw text, that reaches to the end of the source: a browser
    shows nothing of it, and nothing that is put behind it would be seen. "flood" is a tag with more attributes than are
    read; the caller gives up on the source.
    """

    kind: TokenKind
    start: int
    end: int
    name: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    closed: bool = False


MAX_ATTRIBUTES = 500
"""Attributes kept of one tag; further ones are read over. Real mail has fewer than 40."""
MOST_ATTRIBUTES = 2_000
"""Attributes that are read over at most: a tag with more is a token "flood", and nothing behind it is read."""

_NAME = re.compile(r"[a-zA-Z][^\s/>]*")
_ATTRIBUTE = re.compile(
    r"[\s/]*(?:(?P<close>>)|(?P<name>=?[^\s/>=]+|=)"
    r"(?:\s*=\s*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>[^\s>\"'][^\s>]*)|(?P<open>[\"'])|(?=>)))?)"
)
_COMMENT_END = re.compile(r"--!?>")
_RAW = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE | re.ASCII)
    for name in ("script", "style", "xmp", "iframe", "noembed", "noframes", "title", "textarea")
}


def unescape(text: str) -> str:
    """Character references decoded; a number too long to be one stays as it is."""
    if "&" not in text:
        return text
    try:
        return html.unescape(text)
    except ValueError:  # int() refuses more than 4300 digits
        return text


def tokens(source: str) -> Iterator[Token]:
    """The tokens in order, without gaps."""
    position, length = 0, len(source)
    while position < length:
        bracket = source.find("<", position)
        if bracket < 0:
            yield Token("text", position, length)
            return
        if bracket > position:
            yield Token("text", position, bracket)
        token = _markup(source, bracket, length)
        yield token
        position = token.end
        if token.kind == "start" and token.name in _RAW and position < length:
            found = _RAW[token.name].search(source, position)
            if found is None:
                yield Token("rest", position, length, token.name)
                return
            if found.start() > position:
                yield Token("raw", position, found.start(), token.name)
            position = found.start()


def _markup(source: str, start: int, length: int) -> Token:
    """The one token that begins with the "<" at `start`."""
    following = source[start + 1 : start + 2]
    if following.isascii() and following.isalpha():
        return _tag(source, start, start + 1, length, "start")
    if following == "/":
        after = source[start + 2 : start + 3]
        if after.isascii() and after.isalpha():
            return _tag(source, start, start + 2, length, "end")
        if not after:
            return Token("text", start, length)
        return _until_bracket(source, start, length)
    if following == "!":
        if not source.startswith("<!--", start):
            return _until_bracket(source, start, length)
        for abrupt in ("<!-->", "<!--->"):  # §13.2.5.43: "abrupt closing of empty comment"
            if source.startswith(abrupt, start):
                return Token("comment", start, start + len(abrupt))
        found = _COMMENT_END.search(source, start + 4)
        return Token("rest", start, length) if found is None else Token("comment", start, found.end())
    if following == "?":
        return _until_bracket(source, start, length)
    return Token("text", start, start + 1)


def _until_bracket(source: str, start: int, length: int) -> Token:
    close = source.find(">", start + 2)
    return Token("rest", start, length) if close < 0 else Token("bogus", start, close + 1)


def _tag(source: str, start: int, name_start: int, length: int, kind: Literal["start", "end"]) -> Token:
    match = _NAME.match(source, name_start)
    assert match is not None  # the caller saw a letter
    attributes: dict[str, str] = {}
    position = match.end()
    if source.startswith(">", position):
        return Token(kind, start, position + 1, match[0].lower(), attributes)
    for _ in range(MOST_ATTRIBUTES):
        attribute = _ATTRIBUTE.match(source, position)
        if attribute is None or attribute["open"]:
            return Token("rest", start, length)  # end of the source within a tag: a browser drops it
        position = attribute.end()
        if attribute["close"]:
            closed = source[position - 2] == "/"
            return Token(kind, start, position, match[0].lower(), attributes, closed)
        name = attribute["name"].lower()
        if len(attributes) < MAX_ATTRIBUTES and name not in attributes:  # the first of two counts
            value = attribute["double"] or attribute["single"] or attribute["bare"] or ""
            attributes[name] = unescape(value)
    return Token("flood", start, position)
