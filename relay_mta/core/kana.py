"""Mails written in nothing but katakana, as some old systems and hand scanners print them: ｾﾝｺｳﾉｹｯｶ､ｻﾞﾝﾈﾝﾅｶﾞﾗ…

`spell` turns such a text into hiragana and puts kanji to the words that letters of recruitment are made of, so that
rules meet the words in which they are written. Any other text comes back as it is; only for comparing, never shown.
Linear: one look-up per word.
"""

from __future__ import annotations

import re

FEWEST_KATAKANA = 30
"""A text with fewer is a name or a brand, not a letter."""
_HIRAGANA = re.compile("[\u3041-\u3096]")
_KATAKANA = re.compile("[\u30a1-\u30f6]")
_TO_HIRAGANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}
_BETWEEN = re.compile("(?<=[\u3041-\u30fa\u3400-\u9fff]) (?=[\u3041-\u30fa\u3400-\u9fff])")
_KANJI = {
    "せんこう": "選考", "ふさいよう": "不採用", "さいよう": "採用", "ふごうかく": "不合格",
    "みおく": "見送", "おうぼ": "応募", "ぼしゅう": "募集", "けっか": "結果",
    "ざんねん": "残念", "こんかい": "今回", "めんせつ": "面接", "りれきしょ": "履歴書",
    "しょるい": "書類", "けんとう": "検討", "しんちょう": "慎重", "げんせい": "厳正",
    "きぼう": "希望", "きたい": "期待", "へんきゃく": "返却", "へんそう": "返送",
    "じんじ": "人事", "しゃいん": "社員", "ていいん": "定員", "たのかた": "他の方",
    "ほかのかた": "他の方", "ばあい": "場合", "つうか": "通過", "ごうかく": "合格",
    "ないてい": "内定", "きゅうじん": "求人", "あるばいと": "アルバイト", "ぱーと": "パート",
    "どらいばー": "ドライバー", "すたっふ": "スタッフ", "しょくいん": "職員", "じたい": "辞退",
    "えん": "縁", "ほけつ": "補欠", "にゅうしゃ": "入社", "つうち": "通知",
    "かつやく": "活躍", "いのり": "祈り", "ことわ": "断", "とりけし": "取消",
    "ゆうし": "融資", "ちゅうせん": "抽選", "とうせん": "当選", "らくせん": "落選",
    "にってい": "日程", "へんこう": "変更", "しけん": "試験", "しんさ": "審査",
}  # fmt: skip
_WORDS = re.compile("|".join(sorted(_KANJI, key=len, reverse=True)))


def spell(text: str) -> str:
    """A cleaned text; the same text, unless it is written in katakana throughout. Line ends stay."""
    if len(_KATAKANA.findall(text)) < FEWEST_KATAKANA or len(_HIRAGANA.findall(text)) * 20 > len(text):
        return text
    text = _BETWEEN.sub("", text).translate(_TO_HIRAGANA)
    return _WORDS.sub(lambda word: _KANJI[word[0]], text)
