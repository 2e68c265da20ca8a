"""A candidate's own link, `base_url/r/TOKEN`, and their way to stop all further ones, `base_url/stop/TOKEN`; and a
company's dedicated link, `base_url/c/COMPANY`.

A token is 128 random bits and says nothing: it is never derived from an address, a mail or a company, so that
nobody who sees a link can work out whose it is. It is written as 26 characters of lower-case base32 (RFC 4648 §6,
no padding): no character of it is folded, escaped or broken by any charset, transfer encoding, URL or font that a
mail may go through.

The dedicated link is the same for everybody. HR pastes it into a mail or a template, and it works as it is; where the
relay sees it in a rejection, the candidate's own link takes its place.

Where the random bytes come from is the caller's business; this module is pure.
"""

from __future__ import annotations

import base64
import functools
import re
from urllib.parse import urlsplit

TOKEN_BYTES = 16
"""128 bits: guessing one of a million live links at a million tries a second takes longer than the universe is old."""

_TOKEN = re.compile(r"[a-z2-7]{26}")


def token(random: bytes) -> str:
    """The token that 16 random bytes make: 26 characters of a-z and 2-7."""
    if len(random) != TOKEN_BYTES:
        raise ValueError(f"a token is made of {TOKEN_BYTES} random bytes, not {len(random)}")
    return base64.b32encode(random).decode("ascii").rstrip("=").lower()


def is_token(text: str) -> bool:
    """Whether `text` has a token's form; whether it leads anywhere is known to the ledger only."""
    return _TOKEN.fullmatch(text) is not None


def url(base_url: str, token: str) -> str:
    """The link that goes into the mail. `base_url` has no slash at its end."""
    return f"{base_url}/r/{token}"


def opt_out_url(base_url: str, token: str) -> str:
    """Where the candidate says that they never want a link again."""
    return f"{base_url}/stop/{token}"


def own_links(text: str, base_url: str) -> tuple[str, ...]:
    """The tokens of our own links in a text or an HTML source, each once, in the order of their first appearance.

    Scheme and host are compared without regard to case (RFC 3986 §3.1, §3.2.2), the path exactly. Linear in `text`.
    """
    return tuple(dict.fromkeys(_own_link(base_url).findall(text))) if "/r/" in text else ()


def dedicated(base_url: str, company: str) -> str:
    """A company's dedicated link."""
    return f"{base_url}/c/{company}"


def dedicated_spans(text: str, link: str) -> list[tuple[int, int]]:
    """Where a dedicated link stands in a text or an HTML source, in order; a slash that ends it belongs to it.

    Not where it begins a longer path ("…/c/acme/banner.png", "…/c/acme-2"). Scheme and host in any case.
    """
    if link[link.rindex("/c/") :] not in text:  # much cheaper, and so it is with nearly every mail
        return []
    return [found.span() for found in _dedicated(link).finditer(text)]


@functools.lru_cache(maxsize=64)
def _dedicated(link: str) -> re.Pattern[str]:
    origin, path = _origin(link)
    # Not within another address (a click counter's "?to=", an archive, "user@"); an unquoted href is an attribute.
    before = r"(?:(?<![\w=/?&@%+~.-])|(?<=[hH][rR][eE][fF]=))"
    # What follows may end a sentence ("…/c/acme."), or be a query or a fragment, which stays; no longer path or name.
    behind = r"(?![\w%~+@=-])(?![.:]\w)(?!\.\.)(?!/\.{0,2}[\w%~/-])/?"
    return re.compile(rf"{before}(?i:{origin}){path}{behind}", re.ASCII)


@functools.lru_cache(maxsize=8)
def _own_link(base_url: str) -> re.Pattern[str]:
    origin, path = _origin(base_url)
    # The scheme must begin a word, or the link would be the tail of a longer one ("xhttps://…").
    return re.compile(rf"(?<![A-Za-z0-9])(?i:{origin}){path}/r/([a-z2-7]{{26}})(?![A-Za-z0-9])")


def _origin(url: str) -> tuple[str, str]:
    """Scheme and host, and path, each as the inside of a regular expression."""
    parts = urlsplit(url)
    return re.escape(f"{parts.scheme}://{parts.netloc}"), re.escape(parts.path.rstrip("/"))
