"""One phrase of an admin's meets every way in which people write it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core.fold import clean, fold, phrase


@pytest.mark.parametrize(
    "spellings",
    [
        ["貴意に添いかねる", "貴意に沿い兼ねる", "貴意に副いかねる", "貴意に 添い かねる", "貴意に沿いがたい"],
        ["ご応募頂き", "御応募いただき", "ご応募\u200bいただき", "ご応募　頂き"],
        ["お見送り", "御見送り", "ご見送り"],
        ["採用に至りませんでした", "採用にいたりませんでした", "採用に 至りませんでした"],
        ["いたしかねる", "致しかねる", "致し兼ねる"],
        ["誠に", "まことに", "真に"],
        ["できない", "出来ない", "出来無い"],
        ["ください", "下さい"],
        ["アルバイト", "ｱﾙﾊﾞｲﾄ", "ア ル バ イ ト"],
        ["今回", "今 回"],
        ["won't be moving forward", "Won\u2019t  be MOVING forward", "will not be moving forward"],
        ["cannot offer you", "can't offer you", "can\u2019t offer you"],
        ["not selected", "ｎｏｔ　ｓｅｌｅｃｔｅｄ", "NOT SELECTED"],
        ["selected", "s e l e c t e d", "S E L E C T E D"],
        ["organisation", "organization"],
        ["〜", "~", "～"],
        ["、。", "､｡"],
    ],
)
def test_spellings_are_one(spellings: list[str]) -> None:
    assert len({phrase(one) for one in spellings}) == 1, [phrase(one) for one in spellings]


@pytest.mark.parametrize(
    ("one", "other"), [("採用", "不採用"), ("合格", "不合格"), ("できる", "できない"), ("now", "not"), ("様", "殿")]
)
def test_different_words_stay_different(one: str, other: str) -> None:
    assert phrase(one) != phrase(other)


def test_clean_keeps_what_a_person_reads() -> None:
    assert clean("Ｍｒ．Ｃｈｅｎ\u00a0\u200b様") == "Mr.Chen 様"
    assert clean("残念ながら，採用を見送ります．") == "残念ながら、採用を見送ります。"
    assert clean("a\tb\x07c") == "a bc"


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_any_text_folds_line_by_line(text: str) -> None:
    """Rules rely on it: a sentence's number is its line's number, before and after."""
    cleaned = clean(text)
    folded = fold(cleaned)
    assert folded.count("\n") == cleaned.count("\n")
    assert fold("x\n" + cleaned).split("\n")[0] == "x"


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="採用見送御お添沿致事様 　\n、。ab'’n", max_size=40))
def test_blanks_beside_japanese_never_matter(text: str) -> None:
    spaced = "".join(f"{c} " if ord(c) > 0x3040 else c for c in text)
    assert fold(clean(spaced)).replace(" ", "") == fold(clean(text)).replace(" ", "")
