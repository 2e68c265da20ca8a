"""What mail clients' HTML says about itself: which elements are hidden, quoted history, or a signature.

Names and classes as written by Gmail, Outlook (desktop, web, mobile), Apple Mail, Thunderbird, Yahoo!, Proton and
Zoho. What these marks do not tell, `core.quote` reads from the visible lines.
"""

from __future__ import annotations

import re
from typing import Literal

from relay_mta.core.htmltree import Element, names

Mark = Literal["quoted", "quoted-on", "signature", "signature-on"]
"""`quoted` and `signature` hold for the element, the `-on` kinds for all that follows its start."""

UNSEEN = names(
    "head style script title template noscript xml iframe noembed noframes object select textarea "
    "datalist audio video svg math"
)
"""Elements whose text is not part of what a reader sees as the mail's text."""

_HIDDEN = re.compile(
    r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|mso-hide\s*:\s*all|opacity\s*:\s*0(?:\.0+)?\s*(?:;|!|$))",
    re.IGNORECASE,
)
_NO_HEIGHT = re.compile(r"(?:^|[;\s])max-height\s*:\s*0(?:px|pt|em)?\s*(?:;|!|$)", re.IGNORECASE)
_FONT_SIZE = re.compile(
    r"(?:^|[;\s])font-size\s*:\s*(?P<zero>0(?:\.0+)?(?:px|pt|em|rem|%)?\s*(?:;|!|$))?", re.IGNORECASE
)

_QUOTE_CLASSES = names(
    "gmail_attr yahoo_quoted moz-cite-prefix moz-forward-container moz-email-headers-table ms-outlook- "
    "mobile-reference-message protonmail_quote zmail_extra tutanota_quote"
)
_QUOTE_IDS = frozenset(("mail-editor-reference-message-container", "olk_src_body_section"))
_QUOTE_ON_IDS = frozenset(("divrplyfwdmsg", "isforwardcontent", "isreplycontent", "replysplit"))
_SIGNATURE_CLASSES = names(
    "gmail_signature gmail_signature_prefix moz-signature protonmail_signature_block yahoo-signature"
)
_SIGNATURE_IDS = frozenset(("signature", "ms-outlook-mobile-signature", "applemailsignature"))
_PREFIXES = re.compile(r"\A(?:x_)+")
"""Outlook on the web prefixes the names in what it quotes."""
_INDENT = re.compile(r"border\s*:\s*(?:none|0)", re.IGNORECASE)
_BAR = re.compile(r"border-left", re.IGNORECASE)


def hidden(element: Element) -> bool:
    """Whether nothing inside the element is shown."""
    if element.name in UNSEEN or "hidden" in element.attrs:
        return True
    style = _value(element, "style") if element.attrs else ""
    return bool(style) and (_HIDDEN.search(style) is not None or _NO_HEIGHT.search(style) is not None)


def zero_size(element: Element) -> bool | None:
    """Whether the element sets the font size to nothing; None: it does not set it, and inherits."""
    style = _value(element, "style") if element.attrs else ""
    if not style or "font" not in style.lower():
        return None
    last = None
    for match in _FONT_SIZE.finditer(style):
        last = match["zero"] is not None
    return last


def mark(element: Element) -> Mark | None:
    """What the element says of its text."""
    name = element.name
    if name == "blockquote":
        return None if _is_indent(element) else "quoted"
    attributes = element.attrs
    if not attributes:
        return None
    if "id" not in attributes and "class" not in attributes and name != "a":
        return None
    identity = _PREFIXES.sub("", _value(element, "id").lower())
    classes = {word.removeprefix("x_") for word in _value(element, "class").lower().split()}
    if identity in _QUOTE_ON_IDS:
        return "quoted-on"
    if identity in _QUOTE_IDS or classes & _QUOTE_CLASSES:
        return "quoted"
    if "gmail_quote" in classes or "gmail_quote_container" in classes:
        return None if _answered(element) else "quoted"
    if identity in _SIGNATURE_IDS or classes & _SIGNATURE_CLASSES:
        return "signature"
    if name == "a" and _value(element, "name").lower() == "_mailautosig":
        return "signature-on"
    return None


def _value(element: Element, name: str) -> str:
    value = element.attrs.get(name)
    return value if isinstance(value, str) else ""


def _is_indent(element: Element) -> bool:
    """Gmail and Apple Mail indent a paragraph with a <blockquote> that draws no bar: that is new text."""
    if "cite" in element.attrs or "type" in element.attrs or "gmail_quote" in _value(element, "class"):
        return False
    style = _value(element, "style")
    return _INDENT.search(style) is not None and _BAR.search(style) is None


def _answered(element: Element) -> bool:
    """Gmail's quote holds attribution and <blockquote>; an answer written between or below them stands in it too."""
    return any(isinstance(child, Element) and child.name == "blockquote" for child in element.contents)
