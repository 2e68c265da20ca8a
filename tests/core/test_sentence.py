"""Sentences as their writer meant them, whatever a mailer did to the lines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core.fold import clean, fold
from relay_mta.core.sentence import LINE, quotations, split


def test_a_wrapped_japanese_sentence_is_one_even_in_mid_word() -> None:
    found = split("多数の方よりご応募を頂\n戴し、厳正に審査いたしまし\nたところ、見送ることとなりました。\n敬具")
    assert found.new[0] == "多数の方よりご応募を頂戴し、厳正に審査いたしましたところ、見送ることとなりました。"


def test_a_wrapped_english_sentence_is_one() -> None:
    assert split("We will not be moving\nforward with your\napplication. Best wishes").new == (
        "We will not be moving forward with your application.",
        "Best wishes",
    )


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("採用します。見送ります。", ("採用します。", "見送ります。")),
        ("お待たせしました\n結果です", ("お待たせしました結果です",)),
        ("お待たせしました\nまたご連絡します", ("お待たせしました", "またご連絡します")),
        ("■結果：合格\n■備考：なし", ("■結果：合格", "■備考：なし")),
        ("山田 太郎 様\n先日はどうも", ("山田 太郎 様", "先日はどうも")),
        ("採用\n\n見送り", ("採用", "見送り")),
        ("採用\n------\n見送り", ("採用", "見送り")),
        ("Dear Mr. Smith, hello. How are you?", ("Dear Mr. Smith, hello.", "How are you?")),
        ("彼は「残念です。不採用です。」と言った。次へ。", ("彼は「残念です。不採用です。」と言った。", "次へ。")),
    ],
)
def test_split(text: str, sentences: tuple[str, ...]) -> None:
    assert split(text).new == sentences


def test_the_opening_is_what_stands_above_the_first_sentence() -> None:
    found = split("株式会社みなと\n営業部 山田様\n\nお世話になっております。\n株式会社かもめ 御中")
    assert found.opening == (f"株式会社みなと{LINE}営業部 山田様",)


def test_quotations() -> None:
    assert quotations("彼は「不採用」と") == [(2, 7)]
    assert quotations('he said "no, we will not hire you" twice') == [(8, 34)]
    assert quotations('status: "Not selected"') == []
    assert quotations("「" + "長" * 400 + "」") == []


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="採用見送りました。\n 「」『』様、ab.!?・-\u3000\"'1", max_size=120))
def test_nothing_is_lost_and_nothing_is_invented(text: str) -> None:
    found = split(clean(text))
    kept = "".join("".join(found.new).split())
    rulers = set("-=_*#~+─━―ー・.\u3000 ")
    assert [c for c in kept if c not in rulers] == [c for c in "".join(clean(text).split()) if c not in rulers]
    assert all("\n" not in sentence and sentence.strip() == sentence for sentence in found.new)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40))
def test_where_a_mailer_wraps_does_not_matter(width: int) -> None:
    text = "厳正なる審査を行いました結果、誠に残念ながら今回は採用を見送らせていただくこととなりました。"
    wrapped = "\n".join(text[i : i + width] for i in range(0, len(text), width))
    joined = "".join(split(clean(wrapped)).new)
    assert fold(joined) == fold(clean(text))
