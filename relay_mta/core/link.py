"""A candidate's own link: `base_url/r/TOKEN`.

A token is 128 random bits and says nothing: it is never derived from an address, a mail or a company, so that
nobody who sees a link can work out whose it is. It is written as 26 characters of lower-case base32 (RFC 4648 §6,
no padding): no character of it is folded, escaped or broken by any charset, transfer encoding, URL or font that a
mail may go through.

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


def own_links(text: str, base_url: str) -> tuple[str, ...]:
    """The tokens of our own links in a text or an HTML source, each once, in the order of their first appearance.

    Scheme and host are compared without regard to case (RFC 3986 §3.1, §3.2.2), the path exactly. Linear in `text`.
    """
    return tuple(dict.fromkeys(_own_link(base_url).findall(text)))


@functools.lru_cache(maxsize=8)
def _own_link(base_url: str) -> re.Pattern[str]:
    parts = urlsplit(base_url)
    origin, path = re.escape(f"{parts.scheme}://{parts.netloc}"), re.escape(parts.path.rstrip("/"))
    # The scheme must begin a word, or the link would be the tail of a longer one ("xhttps://…").
    return re.compile(rf"(?<![A-Za-z0-9])(?i:{origin}){path}/r/([a-z2-7]{{26}})(?![A-Za-z0-9])")
