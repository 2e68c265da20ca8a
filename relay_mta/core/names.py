"""Whom a mail is written to, and whether a sentence speaks of somebody else.

A report to a colleague, an agency or a friend differs from a letter to the candidate in one thing that can be seen:
its addressee is one person, and the sentence that declines names another (北見さん … 阪口さんの件は見送り). A person is
told by an honorific (様, さん, 君 …; Mr, Ms …), in English also by "moving forward with Helen". Names without one are
not looked for, nor is カタカナ様, which may be a company. Nothing is concluded where the mail names no addressee.
Linear; never raises. The input is cleaned (`core.fold.clean`), not folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_KANJI = r"[\u4e00-\u9fff々ヶ]{1,8}"
_FOREIGN = r"[\u30a1-\u30faー]{2,10}|[A-Z][A-Za-z.]{0,15}"
_NAME = f"{_KANJI}|{_FOREIGN}"
_HONORIFIC = "様|さま|さん|君|くん|氏|殿|ちゃん"
_SPOKEN_OF = re.compile(
    rf"((?:{_KANJI}) ?(?:{_HONORIFIC})|(?:{_FOREIGN}) ?(?:さん|君|くん|氏|ちゃん))(?:\([^()]{{0,40}}\))?"
    r"(?=の(?:件|採用|選考|応募|ご応募|書類|面接|合否|結果)|は|には|につ|に関|を|へ|にも|も|です|、|,|・|:|→|⇒| - |$"
    r"|不採用|不合格|見送|お断り|採用|合格)"
)
_AT_END = re.compile(f"(?:{_HONORIFIC})$")
_ADDRESSED = re.compile(rf"((?:{_NAME})(?:[ 　]?(?:{_NAME}|[ぁ-ん]{{1,4}}))?) ?(?:{_HONORIFIC}|先生)")
FEWEST_BEFORE = 2
"""Sentences before another addressee: fewer are a notice on top of the letter."""
_CALLED = re.compile(
    rf"(?:[|【■●・>] ?|to: ?)?((?:{_NAME})(?:[ 　]?(?:{_NAME}|[ぁ-ん]{{2,5}}))?) ?(?:様|さま|殿|さん)"
    r"(?:宛て?|へ|[ 　、,:】(|]|$)",
    re.I,
)
_DEAR = re.compile(r"dear ((?:[A-Za-z][\w.'-]*\s?){1,4}),", re.I)
_ASIDE = re.compile(r"[※>【*#|]")
"""Begins a line that is no sentence of the sender's own: a notice, a quotation, a heading."""
_SHOWN = re.compile(
    r"文面|文例|下書き|控え|(?:次|以下|下記|下)の(?:通り|とおり|内容|メール|文)|(?:送り|送付し|送信し|連絡し)ました|下記にて"
    r"|\b(?:draft|template|below|the following|what (?:i|we) sent|i sent|as follows|wording)\b",
    re.I,
)
"""Says that a letter is shown; without it a mail that names no reader may address them late, below a preamble."""
_GREETED = re.compile(r"\b(?:dear|hi|hello|hey)\s+((?:[A-Za-z][\w.'-]*\s?){1,4})", re.I)
_TITLED = re.compile(
    r"\b(?:with|to|for|of|on|select|hire|offer|take|invite|reject|decline|about)\s+(?:Mr|Ms|Mrs|Miss|Dr)\.? ([A-Z]\w+)"
)
_GONE_ON_WITH = re.compile(
    r"(?:forward|ahead|proceed|proceeding|progress|progressing|continue|continuing) with ([A-Z][a-z]+)"
    r"(?= (?:and|or|for|as|at)\b|[,.:;]|$)"
)
_NO_PERSON = re.compile(
    "(?:病院|医院|銀行|不動産|工業|商事|建設|物流|製作所|薬局|学園|大学|会社|機構|組合|協会|貴|客|皆|奥|社|生徒|学生|者|先方|主|人|方|店|長|王|手|員|組|業|校|園|部|課|係|仕|有|同|多|一|外|各|模|異|担当|候補|俺|神|オーナー|クライアント|ユーザー|スタッフ|メンバー)$"
)
"""What an honorific makes no single person of (お客様, 皆様), and words that only look so (同様, 仕様)."""


def addressees(opening: Iterable[str], first: str) -> frozenset[str]:
    """The names in the lines above the first sentence, and the one with which the first sentence begins."""
    found: set[str] = set()
    for line in opening:
        found.update(part for name in _ADDRESSED.findall(line) for part in name.split())
        found.update(word.lower() for greeted in _GREETED.findall(line) for word in greeted.split())
    begun = _ADDRESSED.match(first)
    if begun:
        found.update(begun[1].split())
    found.update(word.lower() for greeted in _GREETED.findall(first[:60]) for word in greeted.split())
    return frozenset(found)


def turns_to_another(lines: Sequence[str], reader: frozenset[str]) -> int:
    """The first line from which a mail shows a letter to somebody else; len(lines) if it shows none.

    A draft, a copy for the files, a template with a name in it: behind sentences of its own the mail addresses
    somebody anew ("保科様 この度は …", "Dear Helen,"), and that is not its reader. Where no reader is known, it has to
    say that it shows a letter.
    """
    sentences = 0
    shown = False
    for number, line in enumerate(lines):
        called = _CALLED.match(line) or _DEAR.match(line)
        if called and sentences >= FEWEST_BEFORE and not _NO_PERSON.search(called[1].replace(" ", "")):
            if reader and not _same(called[1], reader):
                return number
            if not reader and shown:
                return number
        if not _ASIDE.match(line):
            sentences += line.endswith(("。", "!", "?", "."))
            shown = shown or _SHOWN.search(line) is not None
    return len(lines)


def _same(called: str, reader: frozenset[str]) -> bool:
    """Whether a name is one of the reader's, be it the family name alone or written without a blank."""
    names = {part.lower() if part.isascii() else part for part in called.split()}
    names.add("".join(names) if len(names) > 1 else called)
    names.add(re.sub(r"[ 　]", "", called))
    return any(
        name.startswith(one) or name.endswith(one) or one.startswith(name) or one.endswith(name)
        for name in names
        for one in reader
    )


def speaks_of_another(sentence: str, reader: frozenset[str]) -> bool:
    """Whether a sentence names a person and that is not the reader, whom it does not name."""
    if not reader:
        return False
    named = [name for name in _spoken_of(sentence) if not _NO_PERSON.search(name)]
    titled = [*_TITLED.findall(sentence), *_GONE_ON_WITH.findall(sentence)]
    if not named and not titled:
        return False
    mine = [name for name in named if name.endswith(tuple(reader)) or any(one.startswith(name) for one in reader)]
    return not mine and not any(name.lower() in reader for name in titled)


def _spoken_of(sentence: str) -> list[str]:
    """The names a Japanese sentence speaks of, without their honorifics."""
    return [_AT_END.sub("", name).strip() for name in _SPOKEN_OF.findall(sentence)]
