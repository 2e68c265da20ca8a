"""Tells apart, line by line, what a sender wrote now, what is quoted history, and what is a signature.

Shared by the layouts of plain text and HTML: both hand over visible lines, HTML with the regions that its markup
already tells. Recognised: `>` lines and the attribution before them, "Original Message" and "Forwarded" separators,
header blocks (差出人/送信日時/…, From/Sent/…), the RFC 3676 §4.3 signature line, contact blocks after a ruler,
"Sent from my …".

After a separator or a header block everything is quoted; after a `>` block what is not quoted is new again. When a
line could be either, it is new: losing a sentence would hide it from the rules. Every pass is linear, and a line is
looked at only in its first `_REACH` characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum

from relay_mta.core.signature import blank, contact_start, is_ruler, signature_start

_REACH = 400
"""Characters of a line that are looked at: longer than any attribution or header that a client writes."""


class Region(IntEnum):
    """What a line belongs to. `CONTACT` is new text, but reads as the sender's contact lines that end it."""

    NEW = 0
    QUOTED = 1
    SIGNATURE = 2
    CONTACT = 3


# A line of which none of the patterns below can be the case: a separator has two rulers, a header and an attribution a
# colon. Most lines are such, and one look at them is cheaper than five.
_PLAIN = re.compile(r"[^:：\-_=─━―－]*")

# --- what a quote looks like ----------------------------------------------------------------------------------------

_SEPARATOR = re.compile(
    r"[\s*]*[-_=─━―－]{2,}\s*"
    r"(?:(?:original|forwarded)\s+(?:message|appointment|e-?mail)|forwarded\s+by\b.{0,250}?|on\b.{0,250}?\bwrote"
    r"|(?:元|転送|転送され|送信され|受信し|引用)(?:の|た)?\s*(?:メッセージ|メール)|以下、?\s*(?:元|転送)(?:の)?(?:メッセージ|メール)"
    r"|Ursprüngliche Nachricht|Weitergeleitete Nachricht|Message d'origine|Mensaje original|原始邮件|轉寄郵件|转发邮件)"
    r"\s*[-_=─━―－]{2,}[\s*]*$",
    re.IGNORECASE,
)
_BEGIN_FORWARD = re.compile(
    r"[\s*]*(?:Begin forwarded message|転送されたメッセージ|転送メッセージ)\s*[:：][\s*]*$", re.IGNORECASE
)

_HEADER = re.compile(
    r"[\s*]*(?:(?P<origin>from|差出人|送信者|送信元|发件人|發件人|寄件者|von|de)"
    r"|(?P<when>sent|date|送信日時|送信日|受信日時|日時|日付|发送时间|gesendet|datum|envoyé|fecha)"
    r"|(?P<topic>subject|件名|題名|主题|主旨|betreff|objet|asunto)"
    r"|(?P<whom>to|cc|bcc|reply-to|宛先|宛て先|あて先|收件人|an|à|para))\*?[ \t\u3000]*\*?[:：]",
    re.IGNORECASE,
)

_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DATE = re.compile(
    r"\d{4}\s*[年/.-]\s*\d{1,2}\s*[月/.-]\s*\d{1,2}|(?<!\d)\d{1,2}[月/.]\s*\d{1,2}"
    rf"|(?<!\d)\d{{1,2}}\.?\s+(?:{_MONTHS})[a-zé]*\.?,?\s+\d{{4}}|\b(?:{_MONTHS})[a-z]*\.?\s+\d{{1,2}},?\s+\d{{4}}",
    re.IGNORECASE,
)
_TIME = re.compile(r"(?<!\d)\d{1,2}\s*(?:[:：]|時)\s*\d{2}")
_ADDRESS = re.compile(r"[^\s<>@]{1,80}@[^\s<>@]{2,100}")
_WROTE = re.compile(
    r"(?:\bwrote|\bwrites|\bschrieb|a écrit|escribió|写道|書きました|書いています"
    r"|のメール|のメッセージ|より)\s*[:：]\s*$",
    re.IGNORECASE,
)
# Yahoo Mail for Android: attribution and history in one line, without any mark.
_WROTE_INLINE = re.compile(
    r"\s*On\s.{6,60}\d{1,2}:\d{2}.{0,100}<[^\s<>]{1,80}@[^\s<>]{2,100}>\s?wrote:\s+\S", re.IGNORECASE
)
_OPENS = re.compile(
    r"\s*(?:on\s|am\s|le\s|el\s|at\s|\(?\d{4}\s*[年/.-]|\d{1,2}[月/]|['\"“「]?[^\s<>]{1,40}\s?[^\s<>]{0,40}\s*<[^\s<>]+@)",
    re.IGNORECASE,
)
_DATED_NAME = re.compile(
    r"\s*\d{4}\s*[年/.-]\s*\d{1,2}\s*[月/.-]\s*\d{1,2}日?\s*(?:[(（]\w{1,3}[)）])?,?\s*\d{1,2}[:：]\d{2}(?:[:：]\d{2})?[\s、,]+"
    r"(?P<name>[^\d:：〜~～。]{2,30})[:：]\s*$"
)
_NO_NAME = re.compile(
    r"会場|場所|面接|面談|集合|日時|開始|終了|受付|説明会|選考|試験|締切|期限|開催|予定|より|から|まで"
)


def sort_lines(lines: Sequence[str], known: Sequence[Region | None] | None = None) -> list[Region]:
    """The region of every line. `known` holds what markup already says; its `QUOTED` and `SIGNATURE` stay."""
    regions = [Region.NEW if region is None else region for region in known] if known else [Region.NEW] * len(lines)
    rest = _history_start(lines, regions)
    for index in range(rest, len(lines)):
        regions[index] = Region.QUOTED
    _mark_quoted_lines(lines, regions, rest)
    if Region.QUOTED in regions:
        _mark_attributions(lines, regions)
    if any(regions):  # nothing but new text so far: most mails
        _mark_rulers(lines, regions)
    _mark_signatures(lines, regions)
    return regions


def place_after(lines: Sequence[str], regions: Sequence[Region]) -> int | None:
    """The index of the line below which a block belongs: the last new line above the signature, and above quoted
    history unless the sender answered below it. None: there is no new text."""
    chosen: int | None = None
    size = 0
    answering = False
    for index, region in enumerate(regions):
        if blank(lines[index]):
            continue
        if region is Region.NEW:
            size += len(lines[index].strip())
            if not answering or size >= _ANSWER:
                chosen = index
        elif region is Region.QUOTED:
            size = 0
            answering = chosen is not None
        elif chosen is not None:
            break
    return chosen


_ANSWER = 10
"""Characters that a run of new text below a quote must have to be an answer; less is the crumb of a wrapped quote."""


# --- quoted history -------------------------------------------------------------------------------------------------


def _history_start(lines: Sequence[str], regions: Sequence[Region]) -> int:
    """Where a separator or header block begins after which everything is history; len(lines) if nowhere."""
    index, count, tries = 0, len(lines), 1000  # tries: lines that end in a colon; a mail has a few
    while index < count:
        line = lines[index][:_REACH]
        if regions[index] is Region.NEW and line and not _PLAIN.fullmatch(line):
            if (
                _WROTE_INLINE.match(line)
                or _SEPARATOR.match(line)
                or (_BEGIN_FORWARD.match(line) and _header_block(lines, index + 1, count)[0])
            ):
                return index
            if _HEADER.match(line):
                found, after = _header_block(lines, index, count)
                if found:
                    return _with_ruler(lines, regions, index)
                index = after
                continue
            if tries and line.rstrip().endswith((":", "：")):
                tries -= 1
                begin = _lone_attribution(lines, regions, index)
                if begin is not None:
                    return begin
        index += 1
    return count


def _header_block(lines: Sequence[str], start: int, count: int) -> tuple[bool, int]:
    """Whether a block of quoted header lines begins at `start` (blank lines before it allowed), and where it ends.

    From with a date or subject, or with any other line and an address: From and To alone may be a journey.
    """
    names: set[str] = set()
    address = False
    folded = gap = 0
    index = start
    while index < count and index < start + 40:
        line = lines[index][:_REACH]
        match = _HEADER.match(line)
        if match:
            names.add(str(match.lastgroup))
            address = address or _ADDRESS.search(line) is not None
            folded = gap = 0
        elif blank(line):
            gap += 1
            if gap > 1:
                break
        elif names and folded < 8 and not gap and (line[0] in " \t\u3000" or _ADDRESS.search(line)):
            folded += 1  # a long To or Cc goes on in the next lines
        else:
            break
        index += 1
    found = "origin" in names and len(names) > 1 and (address or "when" in names or "topic" in names)
    return found, index if names else start


def _with_ruler(lines: Sequence[str], regions: Sequence[Region], index: int) -> int:
    """`index`, or where the ruler above it stands, which clients draw before a header block."""
    above = index - 1
    while above >= 0 and index - above <= 2 and blank(lines[above]):
        above -= 1
    if above >= 0 and regions[above] is Region.NEW and is_ruler(lines[above]):
        return above
    return index


def _lone_attribution(lines: Sequence[str], regions: Sequence[Region], index: int) -> int | None:
    """Where an attribution begins that ends in this line and has no `>` lines after it, only bare history."""
    after = index + 1
    while after < len(lines) and blank(lines[after]):
        after += 1
    if after < len(lines) and (regions[after] is Region.QUOTED or _is_marked(lines, after)):
        return None  # `>` lines bound the history themselves
    match = _DATED_NAME.match(lines[index][:_REACH])
    if match and not _NO_NAME.search(match["name"]):
        return index
    for size in (1, 2, 3):
        begin = index - size + 1
        if begin < 0 or (size > 1 and (blank(lines[begin]) or regions[begin] is not Region.NEW)):
            return None
        joined = _joined(lines, begin, index)
        if _OPENS.match(joined) and _DATE.search(joined) and _TIME.search(joined):
            tail = _ADDRESS.search(joined) is not None and joined.rstrip()[-2:-1] in (">", "]", "）", ")", "ル", "た")
            if tail or _WROTE.search(joined):
                return begin
    return None


def _mark_quoted_lines(lines: Sequence[str], regions: list[Region], until: int) -> None:
    """`>` lines are quoted, with the blank lines between them."""
    last = -2
    for index in range(until):
        if regions[index] is not Region.NEW:
            continue
        if _is_marked(lines, index):
            regions[index] = Region.QUOTED
            for gap in range(last + 1, index) if last >= 0 else ():
                regions[gap] = Region.QUOTED
            last = index
        elif not blank(lines[index]):
            last = -2


def _is_marked(lines: Sequence[str], index: int) -> bool:
    mark = lines[index][:4].lstrip(" \t\u3000")[:1]
    if mark == ">":
        return True
    if mark != "＞":
        return False
    # A single ＞ line is an arrow ("＞詳細はこちら"); two in a row are a quote.
    return any(
        0 <= near < len(lines) and lines[near][:4].lstrip(" \t\u3000")[:1] == "＞" for near in (index - 1, index + 1)
    )


def _mark_attributions(lines: Sequence[str], regions: list[Region]) -> None:
    """The one to three lines before a quoted block that say who wrote it belong to it."""
    for index in range(1, len(lines)):
        if regions[index] is not Region.QUOTED or regions[index - 1] is not Region.NEW:
            continue
        end = index - 1
        while end >= 0 and index - end <= 3 and blank(lines[end]) and regions[end] is Region.NEW:
            end -= 1
        if end < 0 or regions[end] is not Region.NEW or not lines[end][:_REACH].rstrip().endswith((":", "：")):
            continue
        found = None
        for begin in range(end, max(end - 3, -1), -1):
            if regions[begin] is not Region.NEW or blank(lines[begin]):
                break
            joined = _joined(lines, begin, end)
            if _attributes(joined):
                found = begin
                if _DATE.search(joined):
                    break  # else the date stands in the line above: "On …, Name\n<address> wrote:"
            elif found is not None:
                break
        for line in range(found, index) if found is not None else ():
            regions[line] = Region.QUOTED


def _mark_rulers(lines: Sequence[str], regions: list[Region]) -> None:
    """A ruler or "--" right above what markup tells as quoted or signature belongs to it."""
    above: Region = Region.NEW
    for index in range(len(lines) - 1, -1, -1):
        if regions[index] is not Region.NEW:
            above = regions[index]
        elif above is not Region.NEW and not blank(lines[index]):
            if lines[index].strip() == "--" or is_ruler(lines[index]):
                regions[index] = above
            else:
                above = Region.NEW


def _attributes(joined: str) -> bool:
    dated = _DATE.search(joined) is not None
    addressed = _ADDRESS.search(joined) is not None
    if not _OPENS.match(joined):
        return _WROTE.search(joined) is not None and (dated or addressed or len(joined) < 60)
    return (dated and (addressed or _TIME.search(joined) is not None)) or addressed or _WROTE.search(joined) is not None


def _joined(lines: Sequence[str], begin: int, end: int) -> str:
    return " ".join(line[:_REACH].strip() for line in lines[begin : end + 1])[:_REACH]


# --- signatures -----------------------------------------------------------------------------------------------------


def _mark_signatures(lines: Sequence[str], regions: list[Region]) -> None:
    """The tail of each stretch of new text that ends at quoted history or at the end."""
    index = len(lines)
    last = True
    while index > 0:
        end = index
        while index > 0 and regions[index - 1] is Region.NEW:
            index -= 1
        if end > index:
            begin = signature_start(lines, index, end)
            for line in range(begin, end):
                regions[line] = Region.SIGNATURE
            if last or begin == end:
                for line in range(contact_start(lines, index, begin), begin):
                    regions[line] = Region.CONTACT
            last = False
        while index > 0 and regions[index - 1] is not Region.NEW:
            index -= 1
