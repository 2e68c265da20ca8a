# ruff: noqa: E501 - mails read best as the clients write them, line for line
"""Layouts of HTML: the visible text told apart, legal places, and what is relied on of Beautiful Soup."""

from __future__ import annotations

import inspect
import time

import bs4
import pytest
from bs4.builder import HTMLTreeBuilder

from relay_mta.core.errors import SpliceError
from relay_mta.core.html import layout
from relay_mta.core.htmltokens import tokens
from relay_mta.core.htmltree import Element, parse

MARK = "<<BLOCK>>"

# Each: source with MARK where the block belongs; the new text; what is quoted; what is signature.
CLIENTS = {
    "gmail": (
        '<div dir="ltr"><div>水野 様</div><div><br></div><div>残念ながら不採用といたしました。</div><<BLOCK>>'
        '<div><br clear="all"></div><div><br></div>-- <br><div dir="ltr" class="gmail_signature" '
        'data-smartmail="gmail_signature"><div dir="ltr">株式会社ハルカゼ<br>人事部 岸本</div></div></div><br>'
        '<div class="gmail_quote gmail_quote_container"><div dir="ltr" class="gmail_attr">2026年11月20日(金) 10:02 水野玲 '
        '&lt;<a href="mailto:r@mizuno.example">r@mizuno.example</a>&gt;:<br></div><blockquote class="gmail_quote" '
        'style="margin:0px 0px 0px 0.8ex;border-left:1px solid rgb(204,204,204);padding-left:1ex"><div dir="ltr">応募します。'
        '<a href="https://mizuno.example/">私</a></div></blockquote></div>',
        "水野 様\n\n残念ながら不採用といたしました。",
        "2026年11月20日(金) 10:02 水野玲 <r@mizuno.example>:\n応募します。私",
        "--\n株式会社ハルカゼ\n人事部 岸本",
    ),
    "gmail-forward": (
        '<div dir="ltr">ご共有します。</div><<BLOCK>><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">---------- '
        "Forwarded message ---------<br>差出人: <strong>水野</strong><br></div>不採用でした。</div>",
        "ご共有します。",
        "---------- Forwarded message ---------\n差出人: 水野\n不採用でした。",
        "",
    ),
    "gmail-interleaved": (
        '<div dir="ltr"><div class="gmail_quote"><div class="gmail_attr">On Fri, Rei wrote:<br></div><blockquote '
        'class="gmail_quote"><div>When?</div></blockquote><div>Next Wednesday at ten.</div><<BLOCK>></div></div>',
        "Next Wednesday at ten.",
        "On Fri, Rei wrote:\nWhen?",
        "",
    ),
    "outlook-desktop": (
        '<html xmlns:o="urn:schemas-microsoft-com:office:office"><head><meta name=Generator content="Microsoft Word 15">'
        "<!--[if !mso]><style>v\\:* {behavior:url(#default#VML);}</style><![endif]--><style><!-- p.MsoNormal {margin:0} "
        '--></style></head><body lang=JA link="#0563C1"><div class=WordSection1><p class=MsoNormal><span lang=JA>水野様'
        "<o:p></o:p></span></p><p class=MsoNormal><o:p>&nbsp;</o:p></p><p class=MsoNormal>不採用となりました。<o:p></o:p></p>"
        "<<BLOCK>><p class=MsoNormal><o:p>&nbsp;</o:p></p><div><div style='border:none;border-top:solid #E1E1E1 1.0pt;"
        "padding:3.0pt 0mm 0mm 0mm'><p class=MsoNormal><b>From:</b> Rei &lt;r@mizuno.example&gt; <br><b>Sent:</b> Friday"
        "<br><b>To:</b> HR<br><b>Subject:</b> 応募<o:p></o:p></p></div></div><p class=MsoNormal>応募します。</p></div></body></html>",
        "水野様\n\n不採用となりました。",
        "From: Rei <r@mizuno.example>\nSent: Friday\nTo: HR\nSubject: 応募\n応募します。",
        "",
    ),
    "outlook-new-mail": (
        "<html><head></head><body><div class=WordSection1><p class=MsoNormal>水野様</p><p class=MsoNormal>不採用です。</p>"
        "<<BLOCK>></div></body></html>",
        "水野様\n不採用です。",
        "",
        "",
    ),
    "outlook-web": (
        '<html><body dir="ltr"><div class="elementToProof" style="font-size:12pt">水野様</div><div class="elementToProof">'
        '不採用です。</div><<BLOCK>><div class="elementToProof"><br></div><div id="Signature"><p>ハルカゼ 岸本</p></div><div '
        'id="appendonsend"></div><hr style="display:inline-block;width:98%" tabindex="-1"><div id="divRplyFwdMsg" '
        'dir="ltr"><font><b>差出人:</b> 水野<br><b>送信日時:</b> 昨日</font><div>&nbsp;</div></div><div>応募します。</div>'
        "</body></html>",
        "水野様\n不採用です。",
        "--------------------\n差出人: 水野\n送信日時: 昨日\n\n応募します。",
        "ハルカゼ 岸本",
    ),
    "outlook-new": (
        '<div class="elementToProof">We chose somebody else.</div><<BLOCK>><div id="mail-editor-reference-message-container">'
        '<div class="x_a">Hello, I apply.</div></div>',
        "We chose somebody else.",
        "Hello, I apply.",
        "",
    ),
    "outlook-mobile": (
        '<html><body><div dir="auto">見送りました。</div><<BLOCK>><div id="ms-outlook-mobile-signature"><div><br></div>Get '
        '<a href="https://aka.example/o">Outlook for iOS</a></div><div id="mail-editor-reference-message-container" '
        'class="ms-outlook-mobile-reference-message"><b>From:</b> Rei<div>応募</div></div></body></html>',
        "見送りました。",
        "From: Rei\n応募",
        "Get Outlook for iOS",
    ),
    "apple-mail": (
        '<html><head></head><body style="overflow-wrap: break-word;">水野様<div><br></div><div>不採用です。</div><<BLOCK>><div>'
        '<br></div><div><div><br><blockquote type="cite"><div>2026/11/20 10:02、水野玲 &lt;r@mizuno.example&gt;のメール:</div>'
        '<br class="Apple-interchange-newline"><div>応募します。</div></blockquote></div><br></div></body></html>',
        "水野様\n\n不採用です。",
        "2026/11/20 10:02、水野玲 <r@mizuno.example>のメール:\n\n応募します。",
        "",
    ),
    "thunderbird": (
        '<html><head><meta http-equiv="content-type" content="text/html; charset=UTF-8"></head><body><p>水野様</p><p>不採用です。'
        '<br></p><<BLOCK>><div class="moz-signature">-- <br>ハルカゼ 岸本</div><div class="moz-cite-prefix">On 2026/11/20 '
        '10:02, Rei wrote:<br></div><blockquote type="cite" cite="mid:1@mizuno.example"><p>応募します。</p></blockquote></body></html>',
        "水野様\n\n不採用です。",
        "On 2026/11/20 10:02, Rei wrote:\n応募します。",
        "--\nハルカゼ 岸本",
    ),
    "thunderbird-forward": (
        '<html><body><p>ご確認ください。</p><<BLOCK>><div class="moz-forward-container"><br>-------- Forwarded Message --------'
        '<table class="moz-email-headers-table"><tr><th>Subject: </th><td>応募</td></tr></table><p>本文</p></div></body></html>',
        "ご確認ください。",
        "-------- Forwarded Message --------\nSubject: | 応募\n本文",
        "",
    ),
    "yahoo": (
        '<html><body><div class="ydp1"><div>We chose somebody else.</div><<BLOCK>><div><br></div></div><div id="yahoo_quoted_1" '
        'class="yahoo_quoted"><div>On Friday, Rei wrote:</div><div>Hi</div></div></body></html>',
        "We chose somebody else.",
        "On Friday, Rei wrote:\nHi",
        "",
    ),
    "yahoo-japan": (
        '<p style="margin:0 0 1em">不採用です。</p><<BLOCK>><p style="margin:0 0 1em">----- Original Message -----<br />'
        "応募します。</p>",
        "不採用です。",
        "----- Original Message -----\n応募します。",
        "",
    ),
    "ats-table": (
        '<!DOCTYPE html><html><head><title>お知らせ</title></head><body><div style="display:none;font-size:1px;max-height:0">'
        "プレビュー</div><table width=600><tr><td><img src=logo.png alt=ロゴ></td></tr><tr><td style=padding:20px><p>水野様</p>"
        "<p>慎重に検討しました結果、このたびは採用を見送らせていただきます。</p><table><tr><td>職種</td><td>総務</td></tr></table>"
        "<p>よろしくお願いいたします。</p><<BLOCK>></td></tr></table></body></html>",
        "水野様\n\n慎重に検討しました結果、このたびは採用を見送らせていただきます。\n\n職種 | 総務\nよろしくお願いいたします。",
        "",
        "",
    ),
    "ats-button": (
        "<body><table><tr><td><p>水野様</p><p>慎重に検討しました結果、このたびは採用を見送らせていただきます。</p><table><tr>"
        '<td bgcolor=blue><a href="https://ats.example/my">マイページ</a></td></tr></table><<BLOCK>></td></tr></table></body>',
        "水野様\n\n慎重に検討しました結果、このたびは採用を見送らせていただきます。\n\nマイページ",
        "",
        "",
    ),
    "mail-builder": (
        '<body><table><tr><td style="direction:ltr;font-size:0px;padding:20px 0"><div style="font-size:13px">水野様<br>不採用です。'
        "<<BLOCK>></div></td></tr></table></body>",
        "水野様\n不採用です。",
        "",
        "",
    ),
    "typed-signature": (
        "<body>水野様<br>不採用です。<br><<BLOCK>>────────<br>株式会社ハルカゼ 人事部<br>TEL 03-1234-5678<br>────────</body>",
        "水野様\n不採用です。",
        "",
        "────────\n株式会社ハルカゼ 人事部\nTEL 03-1234-5678\n────────",
    ),
    "signature-in-paragraph": (
        "<body><p>不採用です。<br><<BLOCK>>-- <br>岸本</p></body>",
        "不採用です。",
        "",
        "--\n岸本",
    ),
    "pre": (
        "<body><pre>水野様\r\n不採用です。\r\n<<BLOCK>>\r\n-- \r\n岸本 &lt;k@h.example&gt;\r\n</pre></body>",
        "水野様\n不採用です。",
        "",
        "--\n岸本 <k@h.example>",
    ),
    "fragment": ("不採用です。<<BLOCK>>", "不採用です。", "", ""),
    "list": ("<div>結果<ul><li>不採用</li></ul><<BLOCK>></div>", "結果\n不採用", "", ""),
    "link": ('<div><a href="https://h.example/"><b>不採用</b></a><<BLOCK>></div>', "不採用", "", ""),
    "not-in-outlook-only": (
        "<td><!--[if mso]><table><tr><td><![endif]--><div>不採用</div><<BLOCK>><!--[if mso]></td></tr></table><![endif]-->",
        "不採用",
        "",
        "",
    ),
    "not-hidden-from-outlook": (
        "<body><div><!--[if !mso]><!--><div>不採用</div><!--<![endif]--><<BLOCK>></div></body>",
        "不採用",
        "",
        "",
    ),
    "indented": (
        '<div>理由:<blockquote style="margin:0 0 0 40px;border:none;padding:0px">不採用</blockquote><<BLOCK>></div>',
        "理由:\n不採用",
        "",
        "",
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_clients(name: str) -> None:
    marked, new, quoted, signature = CLIENTS[name]
    source = marked.replace(MARK, "")
    result = layout(source)
    assert (result.new, result.quoted, result.signature) == (new, quoted, signature)
    assert source[: result.below] + MARK + source[result.below :] in (
        marked,
        marked.replace(MARK + "</div>", "</div>" + MARK),
    )


@pytest.mark.parametrize("name", CLIENTS)
def test_the_end_is_behind_everything(name: str) -> None:
    source = CLIENTS[name][0].replace(MARK, "")
    result = layout(source)
    rest = source[result.end :]
    assert rest == "" or rest.startswith("</body>")


def test_hidden_text_and_comments_are_no_text() -> None:
    source = (
        "<head><title>不採用</title><style>.a{}</style></head><body><!-- 不採用 --><!--[if mso]>不採用<![endif]-->"
        '<span style="display: none">不採用</span><span hidden>不採用</span><span style="mso-hide:all">不採用</span>'
        '<div style="max-height:0px;overflow:hidden">不採用</div><p style="visibility:hidden">不採用</p>'
        '<div style="font-size:0">不採用</div><font style="font-size:0px">不採用</font><script>不採用</script>'
        "<noscript>不採用</noscript><template>不採用</template>内定です。</body>"
    )
    result = layout(source)
    assert (result.new, result.quoted, result.signature) == ("内定です。", "", "")
    assert source[result.below :] == "</body>"


def test_a_size_of_its_own_shows_text_in_a_cell_without_size() -> None:
    assert layout('<div style="font-size:0">a<span style="font-size:13px">b</span></div>').new == "b"
    assert layout('<div style="font-size:10px">b</div>').new == "b"


def test_text_is_laid_out_as_a_browser_shows_it() -> None:
    source = "<div>a\r\n  b<b>c</b> d &lt;&#12354;&nbsp;</div>e<br>f<table><tr><td>結果</td><td><p>お見送り</p></td></tr></table><p>g"
    assert layout(source).new == "a bc d <あ\ne\nf\n結果 | お見送り\n\ng"
    assert layout("<pre>a  b\n  c</pre>").new == "a b\nc"


def test_links_outside_quotes() -> None:
    source = CLIENTS["gmail"][0].replace(MARK, '<a href=" https://h.example/?a=1&amp;b=2 "><img src=x></a>')
    assert layout(source).links == ("https://h.example/?a=1&b=2",)
    assert layout('<a href="https://h.example/">x</a>').links == ("https://h.example/",)
    for unseen in (
        '<a href="https://h.example/"> </a>',
        '<p style="font-size:0"><a href="https://h.example/">x</a></p>',
    ):
        found = layout(f"<p>text</p>{unseen}")
        assert found.links == ("https://h.example/",) and found.buttons == (), "nobody is shown it"


def test_nothing_new_places_the_block_above_the_quote() -> None:
    source = '<body><div class="gmail_quote"><div class="gmail_attr">x</div>不採用</div></body>'
    result = layout(source)
    assert (result.new, result.quoted) == ("", "x\n不採用")
    assert source[: result.below] == "<body>"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (
            "<body><p>a</p><!-- </body> --><p title='</body>'>b</p><script>'</body>'</script></body></html>",
            "</body></html>",
        ),
        ("<p>a</p><!-- never closed <p>b</p>", "<!-- never closed <p>b</p>"),
        ("<p>a</p><a href='x", "<a href='x"),
        ("<p>a</p><style>b", "<style>b"),
        ("<p>a</p><div style='display:none'>b", "<div style='display:none'>b"),
        ("<p>a</p></body></html><p>b</p>", ""),
        ("<table><tr><td>a", ""),
        ("<table><tr><td>a</td></tr>", "</td></tr>"),
    ],
)
def test_the_end_is_a_place_that_is_shown(source: str, shown: str) -> None:
    result = layout(source)
    assert source[result.end :] == shown
    assert result.below <= result.end
    there = layout(source[: result.end] + "<div>MARK</div>" + source[result.end :])
    assert there.new.count("MARK") == 1


def test_tokens_cover_the_source_and_end_as_in_a_browser() -> None:
    source = "a<b c='>'>d</b e=\">\"><!-->f<!--g--!>h</ i>j<?k>l<![CDATA[m]]>n<1<title>o</b></title><TEXTAREA>p</textarea q>r"
    found = [(token.kind, source[token.start : token.end]) for token in tokens(source)]
    assert "".join(text for _, text in found) == source
    assert found[:6] == [
        ("text", "a"), ("start", "<b c='>'>"), ("text", "d"), ("end", '</b e=">">'), ("comment", "<!-->"), ("text", "f"),
    ]  # fmt: skip
    assert ("raw", "o</b>") in found and ("comment", "<!--g--!>") in found and ("bogus", "</ i>") in found


def test_elements_know_where_they_stand() -> None:
    source = "<div a=1><p>x<p>y</div><ul><li>1<li>2</ul><table><tr><td>c<td>d</table>"
    seen = [
        (tag.name, source[tag.start : tag.inner], source[tag.inner : tag.close])
        for tag in parse(source).descendants
        if isinstance(tag, Element)
    ]
    assert seen == [
        ("div", "<div a=1>", "<p>x<p>y"), ("p", "<p>", "x"), ("p", "<p>", "y"), ("ul", "<ul>", "<li>1<li>2"),
        ("li", "<li>", "1"), ("li", "<li>", "2"), ("table", "<table>", "<tr><td>c<td>d"), ("tr", "<tr>", "<td>c<td>d"),
        ("td", "<td>", "c"), ("td", "<td>", "d"),
    ]  # fmt: skip


def test_the_tree_is_the_one_that_beautiful_soup_builds() -> None:
    for marked, *_ in CLIENTS.values():
        source = marked.replace(MARK, "")
        if source.startswith("<td>"):
            continue  # a cell without a table is dropped, as by a browser
        ours, theirs = parse(source), bs4.BeautifulSoup(source, "html.parser")
        assert [tag.name for tag in ours.find_all(True)] == [tag.name for tag in theirs.find_all(True)]
        assert all(ours_tag.attrs.keys() == theirs_tag.attrs.keys()
                   for ours_tag, theirs_tag in zip(ours.find_all(True), theirs.find_all(True), strict=True))  # fmt: skip


HOSTILE = {
    unit: unit * (300_000 // len(unit))
    for unit in (
        "<a ", "<!--", "</", '"', "<a x='", '<a x="', "<?", "<![CDATA[", "<div>", "<p>", "<br>", "<td>", "<table><tr><td>",
        "&#", "&#9", "<", "<style>", "</div>", "<!-->", "<![if x]>a<![endif]>", "<i></i>x", "<a href=x>y</a>", "<select>",
        "<blockquote>a</blockquote>",
    )
}  # fmt: skip
HOSTILE |= {
    "deep breaks": "<div>" * 290 + "x<br>" * 60_000,
    "deep items": "<ul><li><ul>" + "<div>" * 280 + "<li></li>" * 30_000,
    "deep strays": "<div>" + "<span>" * 280 + "</div>" * 50_000,
    "prefixes": '<div id="' + "x_" * 150_000 + '">a</div>',
    "style": '<div style="' + "font-size:0;" * 25_000 + '">a</div>',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sources_take_linear_time(name: str) -> None:
    begin = time.process_time()
    try:
        layout(HOSTILE[name])
    except SpliceError as error:
        assert error.reason in ("limit:html-depth", "limit:html-tags", "limit:html-references")
    assert time.process_time() - begin < 1.0  # 0.3 s alone; the machine may be busy


def test_limits_name_themselves() -> None:
    with pytest.raises(SpliceError, match="limit:html-depth"):
        layout("<div>" * 1000)
    with pytest.raises(SpliceError, match="limit:html-tags"):
        layout("<br>" * 13_000)


def test_what_is_relied_on_of_beautiful_soup() -> None:
    """Names outside Beautiful Soup's documentation that `core.htmltree` calls, overrides or reads."""
    assert bs4.__version__.startswith("4.")
    soup = bs4.BeautifulSoup("", "html.parser")
    assert soup.tagStack[0] is soup and soup.currentTag is soup
    assert list(inspect.signature(bs4.BeautifulSoup.popTag).parameters) == ["self"]
    assert list(inspect.signature(bs4.BeautifulSoup.object_was_parsed).parameters)[:2] == ["self", "o"]
    assert list(inspect.signature(bs4.BeautifulSoup.handle_starttag).parameters)[:5] == [
        "self", "name", "namespace", "nsprefix", "attrs",
    ]  # fmt: skip
    assert list(inspect.signature(bs4.BeautifulSoup._linkage_fixer).parameters) == ["self", "el"]
    assert {"element_classes", "builder"} <= set(inspect.signature(bs4.BeautifulSoup.__init__).parameters)
    builder = inspect.signature(HTMLTreeBuilder.__init__).parameters
    assert {"multi_valued_attributes", "preserve_whitespace_tags", "string_containers"} <= set(builder)
    tree = parse("<p>a &amp; b</p>")
    assert isinstance(tree.p, Element) and tree.p.parent is tree and tree.p.contents[0] == "a & b"


@pytest.mark.parametrize("style", ["font-size:0", "font-size:0px;margin:0", "display:none"])
@pytest.mark.parametrize("around", ["<html><head></head>{}</html>", "{}", "<!doctype html>\n{}"])
def test_a_body_without_font_size_does_not_send_the_block_to_the_top(style: str, around: str) -> None:
    """Responsive templates set the size within; whatever stands before <body> would be above the letter."""
    body = f'<body style="{style}"><div style="font-size:14px">不採用です。<br></div></body>'
    source = around.format(body)
    found = layout(source)
    assert source.index("<div") <= found.below <= found.end <= source.index("</body>")
    if "display" not in style:
        assert source.index("<br>") < found.below


def test_no_place_is_before_the_body() -> None:
    source = "<p>不採用です。</p><body><!-- x --></body>"
    found = layout(source)
    assert source.index("<!--") <= found.below <= found.end


def test_blanks_behind_a_cell_do_not_lead_out_of_it() -> None:
    """A line break between </td> and </tr> counted as the end of the line, and the block went behind the table."""
    letter = "<td>" + "<p>a letter of several sentences.</p>" * 4 + "</td>"
    source = f"<table>\n<tr>\n{letter}\n</tr>\n<tr>\n<td>a footer<br />of two lines</td>\n</tr>\n</table>\n"
    assert source[layout(source).below :].startswith("</td>\n</tr>\n<tr>\n<td>a footer")


SMALL_PRINT = "<tr><td>株式会社アクメ 採用係</td></tr></table>"


@pytest.mark.parametrize(
    ("cell", "behind"),
    [
        ('<p>{}</p><div style="display:none">pre', '<div style="display:none">pre'),
        ("<p>{}</p>", "</td>"),
        ("<ul><li>{}", "</td>"),
        ('<a href="https://x.example/">{}', "</td>"),
        ("<pre>{}", "</td>"),
    ],
)
def test_the_block_stands_at_the_end_of_the_letters_cell(cell: str, behind: str) -> None:
    """Found by a review: it stood at the end of the cell whatever was still open there."""
    source = "<table><tr><td>" + cell.format("a letter of several sentences. " * 8) + "</td></tr>" + SMALL_PRINT
    assert source[layout(source).below :].startswith(behind)


def test_a_quoted_cell_is_no_letter() -> None:
    quoted = '<td class="yahoo_quoted"><p>' + "what they wrote. " * 20 + "</p></td>"
    source = f"<table><tr>{quoted}</tr><tr><td>short answer</td></tr></table>"
    assert layout(source).below > source.index("short answer")
