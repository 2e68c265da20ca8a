# ruff: noqa: E501 - mails read best as the clients write them, line for line
"""Layouts of plain text: what is new, quoted, signature, and where a block goes."""

from __future__ import annotations

import time

import pytest

from relay_mta.core.text import layout

BODY = "水野 様\n\n先日は面接にお越しいただきありがとうございました。\n残念ながら採用を見送ることといたしました。\n"

QUOTES = {
    "gmail-en": "On Fri, Nov 20, 2026 at 10:02 AM Rei Mizuno <rei@mizuno.example> wrote:\n\n> Dear team,\n> thank you.\n",
    "gmail-en-two-lines": (
        "On Fri, Nov 20, 2026 at 10:02 AM Rei Mizuno\n<rei.mizuno@mail.mizuno.example> wrote:\n> Dear team,\n> thanks\n"
    ),
    "gmail-ja": "2026年11月20日(金) 10:02 水野玲 <rei@mizuno.example>:\n\n> 採用ご担当者様\n>\n> よろしくお願いします。\n",
    "apple-ja": "2026/11/20 10:02、水野玲 <rei@mizuno.example>のメール:\n\n> よろしくお願いいたします。\n",
    "dated-name": "2026/11/20 10:02 水野玲:\n応募を希望します。\nよろしくお願いします。\n",
    "thunderbird": "On 2026/11/20 10:02, Rei Mizuno wrote:\n> よろしくお願いします。\n",
    "becky": "水野玲さんは書きました:\n> よろしくお願いします。\n",
    "outlook-en": (
        "-----Original Message-----\nFrom: Rei <rei@mizuno.example>\nSent: Friday\nSubject: Hello\n\nI would like to apply.\n"
    ),
    "yahoo-ja": "----- 元のメッセージ -----\n\n応募します。\n",
    "android-ja": "-------- 元のメッセージ --------\n件名: 応募の件\n応募します。\n",
    "thunderbird-forward": "-------- Forwarded Message --------\nSubject: Hello\nDate: today\nFrom: r@mizuno.example\n\nHi\n",
    "gmail-forward": "---------- Forwarded message ---------\n差出人: 水野 <r@mizuno.example>\nDate: 2026年\n\n応募します。\n",
    "apple-forward": "Begin forwarded message:\n\nFrom: Rei <r@mizuno.example>\nSubject: Hello\nDate: today\n\nHi\n",
    "outlook-ja": "差出人: 水野玲 <r@mizuno.example>\n送信日時: 2026年11月20日 10:02\n宛先: 採用\n件名: 応募\n\n応募します。\n",
    "outlook-web-ja": "________________________________\n差出人: 水野玲\n送信日時: 2026年11月20日\n\n応募します。\n",
    "long-to": "From: r@mizuno.example\nTo: a@x.example,\n b@x.example, c@x.example\nSubject: Hi\n\nI apply.\n",
    "zoho": "---- On Fri, 20 Nov 2026 10:02:11 +0900 Rei <r@mizuno.example> wrote ----\n\nI apply.\n",
    "header-with-time": "差出人: 水野\n日時: 2026年11月20日 10:02\n宛先: saiyo@harukaze.example\n件名: 応募\n\n応募します。\n",
    "starred": "*From:* Rei <r@mizuno.example>\n*Sent:* Friday, November 20\n*To:* HR\n\nI apply.\n",
}

SIGNATURES = {
    "rfc3676": "-- \n株式会社ハルカゼ 人事部\n岸本\n",
    "no-space": "--\nKishimoto, Harukaze Inc.\nTel +81 3 1234 5678\n",
    "ruled": "────────────────\n株式会社ハルカゼ 人事部\n岸本 真\nTEL: 03-1234-5678\nsaiyo@harukaze.example\n────────────────\n",
    "open-ruler": "==========\n株式会社ハルカゼ\n〒100-0001 東京都千代田区春風1-2-3\nURL: https://harukaze.example/\n",
    "ornament": "◇◆◇◆◇◆◇◆\n合同会社ハルカゼ 採用チーム\nMail: saiyo@harukaze.example\n◇◆◇◆◇◆◇◆\n",
    "box": "┏━━━━━━━━━━━┓\n┃株式会社ハルカゼ\n┃TEL 03-1234-5678\n┗━━━━━━━━━━━┛\n",
    "footnote": "**********\n株式会社ハルカゼ 総務部\nTEL 03-1234-5678\n**********\n※このメールは送信専用です。\n",
    "iphone": "iPhoneから送信\n",
    "ios-en": "Sent from my iPhone\n",
}

MUST_STAY = {
    "boxed": "選考の結果を下記のとおりお知らせします。\n\n〔結果〕不採用\n",
    "table": "結果|お見送り\n担当|岸本\n",
    "invitation": "面接のご案内です。\n日時: 11月25日 10:00\n場所: 本社3階\n宛先: 受付にお越しください\nよろしくお願いします。\n",
    "from": "From the bottom of our hearts: thank you.\nWe will not go ahead.\n",
    "journey": "From: Tokyo\nTo: Osaka\nPlease keep your ticket.\n",
    "sections": "概要\n──────────\n選考結果: 不採用\n株式会社ハルカゼ TEL 03-1234-5678\n──────────\n以上です。\n",
    "ruled result": "お知らせ\n━━━━━━━━\n■選考結果 不採用\n■会社 株式会社ハルカゼ\n■TEL 03-1234-5678\n━━━━━━━━\n",
    "arrow": "マイページをご覧ください。\n＞詳細はこちら\nよろしくお願いします。\n",
    "dated venue": "2026年11月20日(金) 10:00 面接会場:\n本社3階会議室\n",
    "ruled heading": "--- On-site interviews ---\nNone will be held.\n",
    "timeline": "2026/11/20 15:00 面談実施:\n特に問題はありませんでした。\n",
    "template": "次の文面で送ってください。\n\n----------\n水野様\n不採用です。\n----------\n\n確認をお願いします。\n",
    "all ruled": "━━━━━━━━\n株式会社ハルカゼ\nTEL 03-1234-5678\n",
}


def crlf(text: str) -> str:
    return text.replace("\n", "\r\n")


@pytest.mark.parametrize("name", QUOTES)
def test_history_is_quoted_and_the_block_goes_above_it(name: str) -> None:
    source = crlf(BODY + "\n" + QUOTES[name])
    result = layout(source)
    assert result.new == BODY.strip()
    assert result.quoted == QUOTES[name].strip()
    assert result.signature == ""
    assert source[: result.below] == crlf(BODY)
    assert result.end == len(source)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_is_told_apart_and_the_block_goes_above_it(name: str) -> None:
    source = crlf(BODY + "\n" + SIGNATURES[name])
    result = layout(source)
    assert result.new == BODY.strip()
    assert [line.rstrip() for line in SIGNATURES[name].strip().split("\n")] == result.signature.split("\n")
    assert source[: result.below] == crlf(BODY)


@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize("quote", QUOTES)
def test_top_posted_with_signature(signature: str, quote: str) -> None:
    source = crlf(BODY + "\n" + SIGNATURES[signature] + "\n" + QUOTES[quote])
    result = layout(source)
    assert result.new == BODY.strip()
    assert "ハルカゼ" not in result.quoted
    assert result.signature
    assert source[: result.below] == crlf(BODY)


@pytest.mark.parametrize("name", MUST_STAY)
def test_what_only_resembles_a_quote_or_signature_stays_new(name: str) -> None:
    source = crlf(MUST_STAY[name])
    result = layout(source)
    assert result.new == MUST_STAY[name].strip()
    assert result.quoted == result.signature == ""
    assert result.below == len(source)


def test_answers_between_quotes_are_new() -> None:
    source = "ご返信します。\n> いつですか\n来週の水曜日にお願いします。\n> 場所は\n本社の受付にお越しください。\n\n-- \n岸本\n"
    result = layout(source)
    assert result.new == "ご返信します。\n\n来週の水曜日にお願いします。\n\n本社の受付にお越しください。"
    assert result.quoted == "> いつですか\n\n> 場所は"
    assert source[result.below :] == "\n-- \n岸本\n"


def test_an_answer_below_the_quote() -> None:
    source = crlf("On 2026/11/20 10:02, Rei wrote:\n> Any news?\n\nWe chose somebody else.\n\n-- \nHR\n")
    result = layout(source)
    assert result.new == "We chose somebody else."
    assert source[result.below :] == crlf("\n-- \nHR\n")


def test_the_crumb_of_a_wrapped_quote_is_no_answer() -> None:
    source = crlf(BODY + "\n> これは長い引用行で、送信の途中で折り返さ\nれた\n> ものです。\n")
    assert source[: layout(source).below] == crlf(BODY)


def test_a_closing_contact_block_stays_new_but_below_the_block() -> None:
    contact = "株式会社ハルカゼ 人事部 採用担当\n〒100-0001 東京都千代田区春風1-2-3\nTEL 03-1234-5678\n"
    source = crlf(BODY + "\n" + contact)
    result = layout(source)
    assert result.new.endswith(contact.strip()) and result.signature == ""
    assert source[result.below :] == crlf("\n" + contact)


def test_contact_lines_that_the_text_points_to_are_not_cut_off() -> None:
    source = crlf(BODY + "\nご質問は下記までお願いいたします。\n\n株式会社ハルカゼ 人事部\nTEL 03-1234-5678\n")
    assert layout(source).below == len(source)


def test_nothing_new() -> None:
    source = crlf("差出人: 水野 <r@mizuno.example>\n件名: 応募\n送信日時: 昨日\n\n本文\n")
    result = layout(source)
    assert result.new == "" and "本文" in result.quoted
    assert result.below == 0
    assert layout("") == layout("", flowed=True)
    assert (layout("").new, layout("").below, layout("").end) == ("", 0, 0)
    assert layout("\r\n\r\n").new == ""


def test_a_text_without_a_last_line_end() -> None:
    result = layout("不採用です。")
    assert (result.new, result.below, result.end) == ("不採用です。", 6, 6)


def test_flowed_lines_are_joined_and_places_stay_in_the_source() -> None:
    source = (
        "We are sorry \r\nto tell you \r\nno.\r\n From here on\r\n\r\n-- \r\nHR \r\nTeam\r\n> quoted \r\n> text\r\n"
    )
    result = layout(source, flowed=True)
    assert result.new == "We are sorry to tell you no.\nFrom here on"
    assert result.quoted == "> quoted text"
    assert result.signature.startswith("--\nHR Team")
    assert source[result.below :].startswith("\r\n-- \r\n")


def test_flowed_text_that_ends_within_a_paragraph() -> None:
    source = "We are sorry \r\nto tell you \r\n"
    result = layout(source, flowed=True)
    assert result.new == "We are sorry to tell you" and result.below == len(source)


@pytest.mark.parametrize(
    "unit",
    ["\n", "> a\n", "a:\n", "--\n", "----\n株式会社\nTEL 03-1234-5678\n", "From: a@b.example\n", "a ", " " * 397 + "abc\n",
     "-" * 399 + "a\n", "2026/11/20 10:00 x:\n", "a@", "wrote:\n", "＞\n"],
)  # fmt: skip
def test_hostile_texts_take_linear_time(unit: str) -> None:
    source = unit * (300_000 // len(unit))
    begin = time.process_time()
    layout(source)
    layout(source, flowed=True)
    assert time.process_time() - begin < 1.5  # 0.3 s alone; the machine may be busy


def test_yahoo_for_android_quotes_in_one_line() -> None:
    """Attribution and history in one line: the candidate's own words were read as the company's."""
    text = "Dear Hanako,\r\n\r\nWe are sorry.\r\n\r\nGrace\r\n\r\n  On Mon, Nov 11, 2024 at 18:02, H S<h@mail.example> wrote:   Hi\r\n"
    found = layout(text)
    assert found.quoted.startswith("  On Mon") and found.new.endswith("Grace")
    assert text[found.below :].startswith("\r\n  On Mon") or text[found.below :].startswith("  On Mon")
