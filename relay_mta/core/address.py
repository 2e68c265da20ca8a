"""Mail addresses: whose they are, and which ones a header names.

Envelope addresses are compared, never rewritten (RFC 5321 §2.3.11: only the local part's own host may interpret it).
Header addresses are read by a bounded, linear scanner (RFC 5322 §3.4) that notes whatever is out of the ordinary: a
mail whose To cannot be read with certainty has no candidate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_HEADER_CHARS = 64 * 1024
"""A longer address list is `odd`: some two thousand addresses, far over what one mail to a candidate names."""


def domain_of(path: str) -> str:
    """The domain of a path, lower case and without a final dot; "" if it has none."""
    _, at, domain = path.rpartition("@")
    return domain.strip().lower().rstrip(".") if at else ""


def within(domain: str, domains: Iterable[str]) -> bool:
    """Whether a domain is one of `domains` or a sub-domain of one."""
    return any(domain == own or domain.endswith("." + own) for own in domains)


def listed(path: str, entries: Iterable[str]) -> bool:
    """Whether an address is covered by `entries`: addresses, or domains with their sub-domains."""
    lowered = path.lower()
    domain = domain_of(path)
    return any(lowered == entry if "@" in entry else within(domain, (entry,)) for entry in entries)


def same_path(path: str) -> str:
    """A key that is equal for spellings of one forward path: source route dropped, domain's case folded.

    The local part is kept as it is (RFC 5321 §2.4: it may be case-sensitive).
    """
    if path.startswith("@"):  # RFC 5321 §4.1.2 A-d-l, to be ignored on delivery
        path = path.partition(":")[2] or path
    local, at, domain = path.rpartition("@")
    return f"{local}@{domain.lower().rstrip('.')}" if at else path


def person(path: str) -> str:
    """A key under which one person is counted once: like `same_path`, with the local part's case folded too."""
    return same_path(path).lower()


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses that a header's list names, in order. `odd`: something in it reads differently elsewhere.

    `names` are what stands before each, as written: display names with their quotes or encoded words, or "".
    """

    paths: tuple[str, ...]
    odd: bool = False
    names: tuple[str, ...] = ()


def addresses(value: str) -> Addresses:
    """Read an address list (RFC 5322 §3.4): display names and comments are skipped, quoted local parts kept.

    Groups, routes, nested angle brackets, blanks within an address and unbalanced quotes make the result odd.
    """
    if len(value) > MAX_HEADER_CHARS:
        return Addresses((), odd=True)
    found: list[str] = []
    names: list[str] = []
    odd = False
    for item, strange in _items(value):
        odd = odd or strange
        if item.angle is None:
            path = item.bare.strip()
            if not path:
                continue
            odd = odd or "@" not in path or any(c.isspace() for c in path)
        else:
            path = item.angle.strip()
            odd = odd or "@" not in path or path.startswith("@") or any(c.isspace() for c in path)
        found.append(path)
        names.append(item.bare.strip() if item.angle is not None else "")
    return Addresses(tuple(found), odd, tuple(names))


@dataclass(slots=True)
class _Item:
    bare: str = ""
    angle: str | None = None


def _items(value: str) -> Iterable[tuple[_Item, bool]]:
    """Split a list at its commas; each item with whether it is strange."""
    item, strange, i, end = _Item(), False, 0, len(value)
    pieces: list[str] = []
    while i < end:
        char = value[i]
        if char == '"':
            stop = _quoted_end(value, i)
            strange = strange or stop < 0
            stop = end if stop < 0 else stop
            pieces.append(value[i:stop])
            i = stop
        elif char == "(":
            stop = _comment_end(value, i)
            strange = strange or stop < 0
            i = end if stop < 0 else stop
        elif char == "<":
            stop = _angle_end(value, i)
            strange = strange or stop < 0 or item.angle is not None
            stop = end if stop < 0 else stop
            item.angle = value[i + 1 : stop - 1] if stop > i + 1 else ""
            i = stop
        elif char == ",":
            item.bare = "".join(pieces)
            yield item, strange
            item, strange, pieces = _Item(), False, []
            i += 1
        else:
            strange = strange or char in ";:>)"  # a group's marks (RFC 5322 §3.4), or stray closers
            pieces.append(char)
            i += 1
    item.bare = "".join(pieces)
    yield item, strange


def _quoted_end(value: str, i: int) -> int:
    """Past the quoted string that begins at `i`; -1 if it does not end."""
    i += 1
    while i < len(value):
        if value[i] == "\\":
            i += 2
        elif value[i] == '"':
            return i + 1
        else:
            i += 1
    return -1


def _comment_end(value: str, i: int) -> int:
    """Past the comment that begins at `i`, nested ones included; -1 if it does not end."""
    depth = 0
    while i < len(value):
        if value[i] == "\\":
            i += 1
        elif value[i] == "(":
            depth += 1
        elif value[i] == ")":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    return -1


def _angle_end(value: str, i: int) -> int:
    """Past the angle address that begins at `i`; -1 if it does not end or holds another one."""
    i += 1
    while i < len(value):
        if value[i] == '"':
            i = _quoted_end(value, i)
            if i < 0:
                return -1
        elif value[i] == ">":
            return i + 1
        elif value[i] == "<":
            return -1
        else:
            i += 1
    return -1
