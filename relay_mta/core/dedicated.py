"""Where a mail carries its company's dedicated link (`core.link`), which its sender pasted or a template has.

It counts where a reader sees it and the sender wrote it now: not in quoted history, and not in a comment or an
attribute alone. In HTML all of its occurrences outside of quoted history belong to it then, those in attributes and in
comments that some mail clients read (`<!--[if mso]>`) too: a button may be drawn twice.
"""

from __future__ import annotations

from relay_mta.core.link import dedicated_spans
from relay_mta.core.message import Message, TextPart


def places(shown: TextPart, link: str) -> tuple[tuple[int, int], ...]:
    """Where the link stands in a text, as spans of `shown.text`; none if its reader is not shown it."""
    found = tuple(span for span in dedicated_spans(shown.text, link) if shown.layout.wrote(*span))
    if not found or shown.kind == "plain":
        return found
    written = (*shown.layout.buttons, shown.layout.new, shown.layout.signature)
    return found if any(dedicated_spans(text, link) for text in written) else ()


def carried(message: Message, link: str) -> bool:
    """Whether a text of the mail carries the link."""
    return any(places(shown, link) for shown in message.texts)
