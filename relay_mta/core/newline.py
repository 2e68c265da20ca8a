"""Line ends of a mail (RFC 5321 §2.3.8): only CR LF ends a line; a CR or an LF alone is content.

The next server may take such content for a line end, or even for the end of the mail (SMTP smuggling), so whoever reads
a mail mends it first, with `mended`, once and before anything else looks at it.
"""

from __future__ import annotations

import re

_ODD = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def has_bare(raw: bytes) -> bool:
    """Whether there is a CR or an LF that is not part of a CR LF."""
    pairs = raw.count(b"\r\n")
    return raw.count(b"\r") != pairs or raw.count(b"\n") != pairs


def mended(raw: bytes) -> bytes:
    """`raw` with CR LF for each bare LF and a blank for each bare CR; `raw` itself where there is none.

    As Postfix mends them: an LF alone was meant to end a line, while a CR alone is rubbish, mostly of a program that
    makes CR CR LF of each line end, and a line end in its place would put a field into a header that its author did not
    write. Of a stream in pieces no CR LF may be cut in two.
    """
    return _ODD.sub(lambda odd: b" " if odd[0] == b"\r" else b"\r\n", raw) if has_bare(raw) else raw
