"""What ends a message without being said to its reader: signatures, and contact lines that work like one.

Recognised in the tail of a stretch of lines: the RFC 3676 §4.3 signature line, a ruler followed by names and ways to
reach somebody (会社名, 部署, TEL, 〒, mail, URL), "Sent from my …", and a closing paragraph of contact lines. A ruler
alone proves nothing, nor does a telephone number: there must be two kinds of contact evidence, and no sentence, result
or appointment among the lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_REACH = 400
"""Characters of a line that are looked at."""

_SIGNATURE_LINES = 14
"""Non-blank lines that a signature has at most, rulers aside. Longer ones hold a message too, and stay new."""


def is_ruler(line: str) -> bool:
    """Whether a line is drawn, not written: ──── ━━━ ---- ==== ◇◆◇ ┏━━┓."""
    line = line[:_REACH]
    return len(line.replace(" ", "").replace("\u3000", "")) >= 3 and _RULER.fullmatch(line) is not None


_RULER = re.compile(
    # One class, so that nothing can be matched in two ways.
    r"[\s\u3000=*_~＿＝－ー─━―‐—–…・･.+#＊～〜＋◇◆□■○●◎☆★△▲▽▼♢♦▪◾◽┏┓┗┛┌┐└┘╋╂├┤┣┫│┃|｜:：-]+"
)
_PHONE = re.compile(
    r"(?:TEL|FAX|電話|携帯|Phone|Mobile|Fax|ＴＥＬ|ＦＡＸ|代表|直通|℡|☎|[TFM](?=\s*[:：.]))[^0-9０-９]{0,12}[0-9０-９+(（]"
    r"|(?<![\d-])0\d{1,4}[-‐－–(]\d{1,4}[-‐－–)]\d{3,4}(?!\d)|\+\d{1,3}[\s-]\d",
    re.IGNORECASE,
)
_POSTAL = re.compile(
    r"〒|住所|所在地|(?<!\d)\d{3}[-－‐]\d{4}(?!\d|[-－])|^.{0,6}[都道府県].{1,10}[市区郡]|[都府県市区][^\s]{1,20}\d+[-－‐丁番]"
)
_MAIL = re.compile(r"[^\s<>@]+[@＠][^\s<>@]+|(?:E-?mail|メール|Mail)\s*[:：]", re.IGNORECASE)
_SITE = re.compile(r"https?://|www\.|(?:URL|HP|Web)\s*[:：]", re.IGNORECASE)
_FIRM = re.compile(
    r"株式会社|有限会社|合同会社|\(株\)|（株）|㈱|㈲|法人|ホールディングス|学校|病院|大学|役所|協会|組合|財団|"
    r"\b(?:Inc|Ltd|LLC|Corp|Co|GmbH|K\.K|Limited|Corporation|Company)\b\.?"
)
_POST = re.compile(
    r"[部課室係局](?:門)?(?=$|[\s\u3000/／・])|採用(?:担当|チーム|係|事務局)|人事|総務|事務局|担当|グループ"
    r"|チーム|Human Resources|\bHR\b|Recruit|Talent|Department|Manager|Team",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"[。！？!?]\s*$|(?:です|ます|ました|ません|ください|下さい|ましょう|いたします|ございます)[。、\s]*$"
    r"|[.]\s+[A-Z][a-z]+.*\s|\b(?:you|your|we|our|please)\b.{12,}",
    re.IGNORECASE,
)
_BUSINESS = re.compile(
    r"結果|選考|不採用|合格|採用となり|見送|応募|日時|場所|会場|面接|期限|締切|内容|件名|持ち物|職種|ポジション|理由|"
    r"氏名\s*[:：]\s*$|\b(?:result|position|status|decision|application|date|time|venue)\s*[:：]",
    re.IGNORECASE,
)
_DEVICE = re.compile(
    r"\s*(?:Sent from (?:my |Mail for |Outlook|Yahoo)|Yahoo Mail: Search, Organize|Get Outlook for |Sent with "
    r"|Outlook for (?:iOS|Android).{0,4}入手"
    r"|(?:iPhone|iPad|Android|スマートフォン|Outlook).{0,16}から送信"
    r"|(?:iOS|Android)\s*(?:版)?.{0,4}Outlook.{0,10}(?:入手|取得))",
    re.IGNORECASE,
)
_FOOTNOTE = re.compile(r"\s*(?:※|＊|\*(?!\*))")
_POINTS_BELOW = re.compile(
    r"下記|以下|こちら|問い?合わ?せ先|連絡先|宛(?:て)?に|までご?連絡|below|contact (?:us|details)", re.IGNORECASE
)


def blank(line: str) -> bool:
    """Whether a line shows nothing."""
    return not line or line.isspace()


def signature_start(lines: Sequence[str], begin: int, end: int) -> int:
    """Where the signature begins in lines[begin:end]; `end` if there is none."""
    found = end
    written = devices = 0
    for index in range(end - 1, max(begin, end - 80) - 1, -1):
        line = lines[index][:_REACH]
        if blank(line):
            continue
        if line.rstrip() == "--":  # RFC 3676 §4.3; HTML and some clients lose the space after it
            if line == "-- " or not _reads_as_text(lines, index + 1, end):
                return index
            continue
        if is_ruler(line):
            if index + 1 < end and _is_contact(lines, index + 1, end, rulers=True):
                found = index
            continue
        if written == devices and len(line) < 100 and _DEVICE.match(line):
            found = index  # nothing but such lines follows
            devices += 1
        written += 1
        if written > _SIGNATURE_LINES:
            break
    if found < end and all(blank(line) or is_ruler(line) for line in lines[begin:found]):
        return end  # nothing would be left: this is the message
    return found


def _reads_as_text(lines: Sequence[str], begin: int, end: int) -> bool:
    sentences = sum(1 for line in lines[begin:end] if _SENTENCE.search(line[:_REACH]))
    return sentences > 2


def _is_contact(lines: Sequence[str], begin: int, end: int, *, rulers: bool) -> bool:
    """Whether these lines are names and ways to reach somebody, and nothing that is said to the reader."""
    kinds: set[str] = set()
    count = 0
    for raw in lines[begin:end]:
        line = raw[:_REACH].strip(" \t\u3000|｜│┃")
        if not line:
            continue
        if is_ruler(line):
            if not rulers:
                return False
            continue
        count += 1
        if _FOOTNOTE.match(line):
            continue
        if len(line) > 90 or count > _SIGNATURE_LINES or _BUSINESS.search(line) or _SENTENCE.search(line):
            return False
        kinds.update(_evidence(line))
    reachable = kinds & {"phone", "postal", "mail", "site"}
    return len(kinds) >= 2 and bool(reachable)


def _evidence(line: str) -> set[str]:
    patterns = (
        ("phone", _PHONE),
        ("postal", _POSTAL),
        ("mail", _MAIL),
        ("site", _SITE),
        ("firm", _FIRM),
        ("post", _POST),
    )
    return {kind for kind, pattern in patterns if pattern.search(line)}


def contact_start(lines: Sequence[str], begin: int, end: int) -> int:
    """Where a closing contact block without a ruler begins; `end` if none is clearly one.

    It is a paragraph of its own, or several, and no sentence before it points to it ("下記までご連絡ください").
    """
    found = end
    index = end
    while index > begin:
        stop = index
        while stop > begin and blank(lines[stop - 1]):
            stop -= 1
        start = stop
        while start > begin and not blank(lines[start - 1]) and stop - start <= _SIGNATURE_LINES:
            start -= 1
        if start == stop or not _is_contact(lines, start, end, rulers=False):
            break
        found = index = start
    above = found - 1
    while above >= begin and blank(lines[above]):
        above -= 1
    if above < begin or _POINTS_BELOW.search(lines[above][:_REACH]):
        return end
    return found
