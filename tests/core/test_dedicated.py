"""The company's dedicated link, where HR pasted it: the candidate's own takes its place, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_mta import shipped
from relay_mta.core import dedicated, link
from relay_mta.core.block import BlockTemplates
from relay_mta.core.company import Agency, Company
from relay_mta.core.disposition import Disposition, decide
from relay_mta.core.edit import apply
from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.message import index
from relay_mta.core.splice import plan
from tests.core.test_splice import encoded
from tests.rulesets import parsed_once

BASE = "https://relay.example.jp"
LINK = link.dedicated(BASE, "acme")
OWN = link.url(BASE, link.token(bytes(range(16))))
STOP = link.opt_out_url(BASE, link.token(bytes(range(16))))
TEMPLATES = BlockTemplates.parse(shipped.templates())
BLOCK = TEMPLATES.render("ja", company="アクメ", agency="サンプル", link=OWN, opt_out=STOP)
RULES = parsed_once(shipped.rules())
COMPANY = Company("acme", "Acme", ("acme.example",), Agency("A", "https://a.example/"), mode="relay")
ENVELOPE = Envelope("hr@acme.example", (Recipient("taro@mail.example"),))
LETTER = (
    "山田様\r\n\r\nこのたびはご応募いただき、ありがとうございました。\r\n"
    "慎重に選考を進めました結果、誠に残念ながら、今回は採用を見送らせていただくことになりました。\r\n\r\n"
    "次の仕事探しはこちらへ: {}\r\n\r\n株式会社アクメ\r\n"
)
CODECS = {"utf-8": "utf-8", "iso-2022-jp": "iso2022_jp", "shift_jis": "cp932", "euc-jp": "euc_jp"}


def leaf(text: str, label: str = "utf-8", encoding: str = "8bit", kind: str = "plain") -> bytes:
    head = f"Content-Type: text/{kind}; charset={label}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + encoded(text.encode(CODECS[label]), encoding)


def mail(part: bytes, subject: str = "x") -> bytes:
    head = f"From: hr@acme.example\r\nTo: taro@mail.example\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
    return head.encode() + part


def replaced(raw: bytes, **options: Any) -> bytes:
    return b"".join(apply(raw, plan(index(raw), BLOCK, dedicated_link=LINK, **options)))


def decided(raw: bytes, **house: Any) -> Disposition:
    return decide(index(raw), ENVELOPE, company=replace(COMPANY, **house), rules=RULES, base_url=BASE)


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "quoted-printable", "base64"])
@pytest.mark.parametrize("label", CODECS)
def test_the_own_link_takes_its_place_in_every_form(label: str, encoding: str) -> None:
    if encoding == "7bit" and label != "iso-2022-jp":
        return
    for text in (LETTER.format(LINK), LETTER.format(f"日本語{LINK}日本語"), LETTER.format(LINK) * 3):
        raw = mail(leaf(text, label, encoding))
        out = replaced(raw)
        before, after = index(raw), index(out)
        assert after.trouble is None and after.text_trouble is None
        assert after.texts[0].text == before.texts[0].text.replace(LINK, OWN)
        assert [(f.name, f.value) for f in after.fields] == [(f.name, f.value) for f in before.fields]
        first = next(edit.start for edit in plan(before, BLOCK, dedicated_link=LINK))
        assert out[:first] == raw[:first] and first > raw.index(b"\r\n\r\n") + 150  # what stands before it stays
        assert encoding in ("7bit", "8bit") or max(map(len, out.split(b"\r\n\r\n", 1)[1].split(b"\r\n"))) <= 76
        assert replaced(out) != out  # a second time there is no dedicated link any more: the block would go in …
        assert decided(out).reason == "own-link"  # … but nothing is spliced twice


def test_html_has_it_in_the_anchor_and_its_text_and_in_a_button_for_outlook() -> None:
    html = (
        "<html><body><p>採用を見送らせていただくことになりました。</p>"
        f'<!--[if mso]><v:roundrect href="{LINK}"></v:roundrect><![endif]-->'
        f'<p><a href="{LINK}">{LINK}</a></p><img src="{LINK}/banner.png">'
        f'<blockquote type="cite">前のメール <a href="{LINK}">{LINK}</a></blockquote></body></html>'
    )
    out = index(replaced(mail(leaf(html, kind="html")))).texts[0].text
    assert out.count(OWN) == 3 and out.count(f"{LINK}/banner.png") == 1
    assert out.index("前のメール") < out.index(LINK, out.index("前のメール"))  # history stays
    assert "任意のご案内" not in out  # no block beside it


def test_a_button_with_a_picture_belongs_to_what_it_stands_in() -> None:
    """Found by a review: an <a> without text was given to the text behind it."""
    button = f'<a href="{LINK}"><img src="cid:x" alt="登録"></a>'
    new = f"<p>採用を見送らせていただくことになりました。</p>{button}"
    histories = (
        '<blockquote type="cite"><p>前のメール</p>{}</blockquote>',
        '<div id="divRplyFwdMsg"><b>差出人:</b> a</div><p>前のメール</p>{}',
        '<div class="gmail_quote"><div class="gmail_attr">x:</div><blockquote><p>前</p>{}</blockquote></div>',
    )
    for history in histories:
        raw = mail(leaf(f"<html><body>{new}{history.format(button)}</body></html>", kind="html"))
        out = index(replaced(raw)).texts[0].text
        assert out.count(f'href="{OWN}"') == 1 and out.count(f'href="{LINK}"') == 1 and "任意のご案内" not in out
        assert out.index(OWN) < out.index(LINK)


def test_an_invisible_link_gets_a_block_beside_it() -> None:
    for unseen in (f'<p style="font-size:0"><a href="{LINK}">x</a></p>', f'<a href="{LINK}"></a>'):
        out = index(replaced(mail(leaf(f"<p>採用を見送らせていただきます。</p>{unseen}", kind="html")))).texts[0].text
        assert "任意のご案内" in out


def test_a_text_without_it_gets_the_block() -> None:
    alternatives = (
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n"
        + leaf(LETTER.format("人事"))
        + b"\r\n--b\r\n"
        + leaf(f'<p>{LETTER.format("")}</p><a href="{LINK}">登録</a>', kind="html")
        + b"\r\n--b--\r\n"
    )
    plain, html = index(replaced(mail(alternatives))).texts
    assert plain.text.count(OWN) == 1 and "任意のご案内" in plain.text
    assert html.text.count(OWN) == 1 and "任意のご案内" not in html.text


@pytest.mark.parametrize(
    "text",
    [
        f"x{LINK}",
        f"{LINK}-2",
        f"{LINK}2",
        f"{LINK}/banner.png",
        f"{LINK}.html",
        LINK.replace("/c/", "/C/"),
        f"> {LINK}",
        f"https://track.example/click?to={LINK}",
        f"https://archive.example/{LINK}",
        f"user@{LINK}",
        f"{LINK}%2Fbanner",
        f"{LINK}~x",
        f"{LINK}=x",
        f"{LINK}..html",
        f"{LINK}//",
        f"{LINK}/../x",
    ],
)
def test_what_is_not_the_dedicated_link(text: str) -> None:
    assert not dedicated.carried(index(mail(leaf(f"こんにちは。\r\n\r\n{text}\r\n"))), LINK)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (f"{LINK}。", "。"),
        (f"{LINK}.", "."),
        (f"({LINK})", ")"),
        (f"<{LINK}>", ">"),
        (f"{LINK}/", ""),
        (f"{LINK}/.", "."),
        (f"{LINK}?from=mail", "?from=mail"),
        (LINK.replace("https", "HTTPS"), ""),
    ],
)
def test_what_may_follow(text: str, rest: str) -> None:
    out = index(replaced(mail(leaf(f"こんにちは。\r\n{text}\r\n")))).texts[0].text
    assert f"{OWN}{rest}\r\n" in out and LINK not in out


def test_a_link_that_nobody_is_shown_does_not_count() -> None:
    hidden = f'<p>こんにちは</p><!-- {LINK} --><div style="display:none"><a href="{LINK}">x</a></div>'
    assert not dedicated.carried(index(mail(leaf(hidden, kind="html"))), LINK)


def test_it_is_strong_evidence_and_never_enough_alone() -> None:
    colleague = f"お疲れさまです。\r\n次のリンクを本文に貼ってください。\r\n{LINK}\r\n"
    assert decided(mail(leaf(colleague))).kind == "pass"
    offer = f"山田様\r\n内定のご連絡です。ご入社をお待ちしております。\r\n{LINK}\r\n"
    assert decided(mail(leaf(offer))).kind == "pass"
    short = "山田様\r\n残念ながら、今回は見送りとさせてください。\r\n"
    without, with_link = decided(mail(leaf(short))), decided(mail(leaf(f"{short}{LINK}\r\n")))
    assert without.verdict is not None and with_link.verdict is not None
    assert with_link.verdict.score >= without.verdict.score + 6
    assert any(hit.rule == "dedicated-link" and hit.score == 6 for hit in with_link.verdict.hits)


def test_a_company_may_have_links_only_where_hr_put_one() -> None:
    raw = mail(leaf(LETTER.format("人事")))
    assert decided(raw).kind == "relay"
    assert decided(raw, placement="link").reason == "no-dedicated-link"
    assert decided(mail(leaf(LETTER.format(LINK))), placement="link").kind == "relay"


def test_too_many_are_left_alone() -> None:
    with pytest.raises(Exception, match="limit:links"):
        replaced(mail(leaf(f"{LINK}\r\n" * 51)))


@given(
    st.text(st.characters(codec="iso2022_jp", exclude_characters="\x1b\r\n\x0e\x0f"), max_size=40), st.integers(0, 40)
)
def test_any_neighbours(text: str, at: int) -> None:
    whole = f"{text[:at]} {LINK} {text[at:]}\r\n"
    for label, encoding in (("iso-2022-jp", "7bit"), ("utf-8", "base64"), ("utf-8", "quoted-printable")):
        raw = mail(leaf(whole, label, encoding))
        before = index(raw)
        if before.trouble or before.text_trouble or not dedicated.carried(before, LINK):
            continue
        assert index(replaced(raw)).texts[0].text == before.texts[0].text.replace(LINK, OWN)
