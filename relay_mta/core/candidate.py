"""What a mail's To calls its reader, for the template of an admin who wants to address them."""

from __future__ import annotations

import re

from relay_mta.core import header
from relay_mta.core.address import same_path
from relay_mta.core.exemption import named
from relay_mta.core.message import Message

_TITLE = re.compile(r"\s*(?:様|さま|さん|殿|氏)$")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def display_name(message: Message, path: str) -> str:
    """The display name that To gives a forward path, decoded, without quotes and title; "" if it gives none.

    Cut and cleaned where it is rendered. A name that is an address itself is none.
    """
    wanted = same_path(path)
    to = named(message, "to")
    written = next((name for name, one in zip(to.names, to.paths, strict=True) if same_path(one) == wanted), "")
    bare = written.strip()
    if len(bare) > 1 and bare.startswith('"') and bare.endswith('"'):
        bare = _ESCAPED.sub(r"\1", bare[1:-1])
    name = header.text(bare.encode("utf-8", "surrogateescape"))
    return "" if "@" in name else _TITLE.sub("", name.strip())
