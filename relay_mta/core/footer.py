"""The short notes that machines put behind a letter, told from a second letter.

Mail clients show every inline text of a multipart/mixed, one below the other. What stands behind the first one is not
judged, so a mail with such a text is only touched where that text plainly says nothing to the reader: a part of blanks,
a signature, or a few lines each of which is a ruler, an address, or the note of a virus checker, a mailing list or a
telephone. `MAX_BYTES` and `MAX_NOTES` bound the look; whatever is beyond them or not recognised is no footer.
"""

from __future__ import annotations

import re

from relay_mta.core.text import Layout

MAX_BYTES = 2048
"""A part's encoded body. Footers of mailing lists and virus checkers have some hundred bytes."""
MAX_NOTES = 4
"""Parts in one mail: a list's footer, a checker's, a telephone's, and an empty one."""

# All linear: searched in one line of a text of at most MAX_BYTES bytes.
_RULER = re.compile(r"[-_=*#~+.―─━＝＿－\s]*")
_PLACE = re.compile(r"<?(?:(?:https?://|mailto:|www\.)\S+|[^\s@]+@[^\s@]+)>?")
_NOTE = re.compile(
    r"virus|ウイルス|ウィルス|\bscanned\b|スキャン済|mailing list|メーリングリスト|unsubscribe|配信停止"
    r"|^sent from |^get outlook for |から送信(?:されました)?。?$",
    re.IGNORECASE,
)


_PICTURE = re.compile(r"<(?:img|picture|svg|object|embed|iframe|video|canvas|input)\b", re.IGNORECASE)


def is_footer(kind: str, text: str, layout: Layout) -> bool:
    """Whether a text of `kind` "plain" or "html" is one of those notes. HTML is one only if it shows nothing."""
    if kind == "html":
        return not (layout.new or layout.quoted or layout.signature or layout.links or _PICTURE.search(text))
    if layout.quoted:
        return False
    lines = (line.strip() for line in layout.new.split("\n"))
    return all(_RULER.fullmatch(line) or _PLACE.fullmatch(line) or _NOTE.search(line) for line in lines)
