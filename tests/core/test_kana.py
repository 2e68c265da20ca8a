"""Mails in nothing but katakana."""

from __future__ import annotations

from relay_mta.core.fold import clean
from relay_mta.core.kana import spell


def test_a_katakana_letter_gets_its_kanji() -> None:
    letter = clean("ｺﾉﾀﾋﾞﾊ ｺﾞｵｳﾎﾞ ｲﾀﾀﾞｷ ｱﾘｶﾞﾄｳｺﾞｻﾞｲﾏｼﾀ｡ ｾﾝｺｳﾉｹｯｶ､ｻﾞﾝﾈﾝﾅｶﾞﾗ ﾌｻｲﾖｳ ﾄ ﾅﾘﾏｼﾀ｡")
    assert "選考の結果、残念ながら不採用となりました。" in spell(letter)


def test_other_texts_stay_as_they_are() -> None:
    for text in (
        "アルバイトスタッフ募集",
        "カラオケミラージュのアルバイトスタッフにご応募いただきありがとうございました。",
        "Dear Ms Roth,",
    ):
        assert spell(text) == text
