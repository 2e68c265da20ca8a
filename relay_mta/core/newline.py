"""Line ends of a mail (RFC 5321 §2.3.8): only CR LF ends a line; a CR or an LF alone is content.

The next server may take such content for a line end, or even for the end of the mail (SMTP smuggling), so whoever reads
a mail mends it first, with `mended`, once and before anything else looks at it.
"""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\r|\n")


def has_bare(raw: bytes) -> bool:
    """Whether there is a CR or an LF that is not part of a CR LF."""
    pairs = raw.count(b"\r\n")
    return raw.count(b"\r") != pairs or raw.count(b"\n") != pairs


def mended(raw: bytes) -> bytes:
    """`raw` with CR LF for each of them; `raw` itself where there is none.

    Of a stream in pieces no CR LF may be cut in two.
    """
    return _LINE_END.sub(b"\r\n", raw) if has_bare(raw) else raw
