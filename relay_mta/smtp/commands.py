"""What stands in a command line, taken apart without being understood (RFC 5321 §4.1.1, §4.1.2).

A path is what stands between the angle brackets, verbatim: quoted local parts, `c.@example.jp`, source routes and
8-bit addresses are the upstream's to judge, and are never written in another form. Printers and scripts leave the
brackets out, or blanks within; no server minds, so we put up with it. The parameters behind a path are split at blanks
and otherwise left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Each alternative starts with another character, so that the time is linear whatever is sent.
_PATH = re.compile(
    r"""[ \t]*+(?:<[ \t]*+((?:"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"|[^<>" \x00-\x1f\x7f])*+)[ \t]*+>"""
    r"""|([^<>"\\,;() \x00-\x1f\x7f]++)(?![^ \t]))"""
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

PROTOCOLS_OF_OTHERS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE", "HOST:", "USER-AGENT:"}
)
"""First words that no mail client sends: a browser was talked into posting to us (cross-protocol attack)."""


@dataclass(frozen=True, slots=True)
class PathArgument:
    """The argument of MAIL or RCPT. `path` "" is the null reverse-path; `params` are as the client wrote them."""

    path: str
    params: tuple[str, ...]

    @property
    def size(self) -> int | None:
        """What SIZE= declares (RFC 1870 §6), or None if it is absent or no number."""
        for param in self.params:
            keyword, _, value = param.partition("=")
            if keyword.upper() == "SIZE" and value.isascii() and value.isdigit() and len(value) <= 20:
                return int(value)
        return None


def split(line: bytes) -> tuple[str, str]:
    """Verb, in upper case, and argument of a command line without its line end; undecodable bytes as surrogates."""
    text = line.decode("utf-8", "surrogateescape").strip(" \t")
    verb, argument = (*re.split(r"[ \t]", text, maxsplit=1), "")[:2]
    # Not the verb of other scripts: the upper case of "\u017f" is "S".
    return verb.upper() if verb.isascii() else verb, argument.strip(" \t")


def path_argument(argument: str, keyword: str) -> PathArgument | None:
    """Read `FROM:<path> params` or `TO:<path> params` (`keyword` with its colon). None if the keyword is missing,
    which is a fault of the command; raises `ValueError` if the path is malformed."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    rest = argument[len(keyword) :]
    found = _PATH.match(rest)
    if found is None:
        raise ValueError("malformed path")
    rest = rest[found.end() :]
    if (rest and rest[0] not in " \t") or _CONTROL.search(rest):
        raise ValueError("malformed parameters")
    return PathArgument(
        found[1] if found[1] is not None else found[2],
        tuple(re.split(r"[ \t]+", rest.strip(" \t"))) if rest.strip(" \t") else (),
    )
