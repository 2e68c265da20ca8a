"""Whom a mail addresses, and sentences that speak of somebody else."""

from __future__ import annotations

import pytest

from relay_mta.core import names
from relay_mta.core.names import addressees, speaks_of_another


def test_addressees() -> None:
    assert "片瀬" in addressees(["株式会社みずき 御中¶ご担当 片瀬様"], "")
    assert addressees(["久留島 澪 様"], "") == {"久留島", "澪"}
    assert addressees([], "村岡様、先日はありがとうございました。") == {"村岡"}
    assert "boateng" in addressees(["Dear Ms Boateng,"], "")
    assert addressees([], "お世話になっております。") == frozenset()


@pytest.mark.parametrize(
    ("sentence", "another"),
    [
        ("阪口さんの件は見送りになりました。", True),
        ("・阪口さん(営業)不採用", True),
        ("北見様につきましては見送りといたします。", False),
        ("今回北見様をお迎えできません。", False),
        ("お客様には申し訳ございません。", False),
        ("貴殿は不合格となりました。", False),
        ("オリーブ様は見送りです。", False),  # may be a company
        ("We won't be moving forward with Helen or Amit.", True),
        ("We will not be proceeding with Ms Lim.", True),
        ("We are moving forward with other candidates.", False),
    ],
)
def test_speaks_of_another(sentence: str, another: bool) -> None:
    assert speaks_of_another(sentence, frozenset({"北見", "gareth"})) is another


def test_without_an_addressee_nothing_is_concluded() -> None:
    assert not speaks_of_another("阪口さんの件は見送りになりました。", frozenset())


def test_a_letter_to_somebody_else_is_shown_from_its_addressee_on() -> None:
    reader = frozenset({"北見"})
    lines = [
        "お疲れさまです。",
        "次の文面で今朝送りました。",
        "阪口様 この度はご応募ありがとうございました。",
        "見送ります。",
    ]
    assert names.turns_to_another(lines, reader) == 2
    assert names.turns_to_another(lines, frozenset()) == 2  # 店長 and the like: no name is known
    assert names.turns_to_another([line.replace("阪口", "北見") for line in lines], reader) == len(lines)
    assert names.turns_to_another(lines[1:], reader) == len(lines) - 1  # one sentence on top is a notice
    assert names.turns_to_another([*lines[:2], "皆様 この度はありがとうございました。"], reader) == 3
    assert names.turns_to_another([], reader) == 0


@pytest.mark.parametrize("addressed", ["山田様", "山田 太郎 様", "山田　太郎様", "太郎さん", "【山田様】"])
def test_the_reader_addressed_anew_is_no_other(addressed: str) -> None:
    """On top "山田太郎様", below "山田様" or with a blank: the same person, however the name is written."""
    for reader in (addressees(["山田太郎様"], ""), addressees(["山田 太郎 様"], "")):
        lines = ["お世話になっております。", "次の文面で送りました。", f"{addressed} この度は見送ります。"]
        assert names.turns_to_another(lines, reader) == len(lines)


def test_a_notice_above_the_addressee_shows_no_letter() -> None:
    lines = ["※このメールは自動送信です。", "※返信はできません。", "> 以下の通りです。", "山田様 見送ります。"]
    assert names.turns_to_another(lines, frozenset()) == len(lines)
    lines = ["採用係です。", "書類の選考が終わりました。", "山田様 見送ります。"]  # a preamble, then its reader
    assert names.turns_to_another(lines, frozenset()) == len(lines)


@pytest.mark.parametrize(
    "called",
    [
        "保科様へ",
        "保科様:",
        "保科さん、",
        "【保科様】",
        "保科 あや様 この度は",
        "To: 保科様",
        "保科様宛て",
        "Dear Helen,",
    ],
)
def test_a_draft_calls_its_reader_in_many_ways(called: str) -> None:
    lines = ["お疲れさまです。", "文面を直しました。", called, "見送ります。"]
    assert names.turns_to_another(lines, frozenset({"北見", "gareth"})) == 2
