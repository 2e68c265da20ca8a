# ruff: noqa: E501 - the strategies' pieces read best several to a line
"""Invariants of `core.text.layout` and `core.html.layout`, on anything put together from what mails consist of."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relay_mta.core import html, text
from relay_mta.core.errors import SpliceError
from relay_mta.core.htmltokens import tokens
from relay_mta.core.text import Layout

LINES = st.one_of(
    st.sampled_from(
        (
            "", " ", "> quoted", ">> twice", "＞詳細", "-- ", "--", "────────", "==========", "株式会社ハルカゼ 人事部",
            "TEL 03-1234-5678", "〒100-0001 東京都千代田区1-1", "saiyo@harukaze.example", "水野 様", "不採用となりました。",
            "2026年11月20日(金) 10:02 水野 <r@mizuno.example>:", "On 2026/11/20, Rei wrote:", "-----Original Message-----",
            "From: r@mizuno.example", "差出人: 水野", "送信日時: 昨日", "件名: 応募", "iPhoneから送信", "flowed line ", " stuffed",
        )
    ),
    st.text(max_size=30).filter(lambda line: "\n" not in line and "\r" not in line),
)  # fmt: skip
PLAIN = st.builds(
    lambda lines, end, last: end.join(lines) + (end if last else ""),
    st.lists(LINES, max_size=25),
    st.sampled_from(("\r\n", "\n")),
    st.booleans(),
)

INLINE = st.sampled_from(
    (
        "text ", "不採用です。", "&lt;&#12354;&nbsp;", "<br>", "<b>b</b>", "<span style='font-size:12pt'>s</span>", "<!-- c -->",
        "<a href='https://h.example/'>l</a>", "<span style='display:none'>h</span>", "<img src=x>", "<o:p></o:p>", "\r\n",
    )
)  # fmt: skip
WRAPS = st.sampled_from(
    (
        ("<div>", "</div>"), ("<p>", "</p>"), ("<p class=MsoNormal>", "</p>"), ("<pre>", "</pre>"), ("<h1>", "</h1>"),
        ("<ul><li>", "</li></ul>"), ("<table><tr><td>", "</td></tr></table>"), ("<span>", "</span>"), ("<center>", "</center>"),
        ("<table><tr><td>結果</td><td>", "</td></tr></table>"), ("<blockquote type=cite>", "</blockquote>"),
        ("<div class=gmail_quote>", "</div>"), ("<div class=gmail_signature>", "</div>"), ("<div style='font-size:0'>", "</div>"),
        ("<div hidden>", "</div>"), ("<!--[if !mso]><!-->", "<!--<![endif]-->"), ("<!--[if mso]>", "<![endif]-->"),
    )
)  # fmt: skip
TREES = st.recursive(
    INLINE,
    lambda inner: st.builds(lambda wrap, parts: wrap[0] + "".join(parts) + wrap[1], WRAPS, st.lists(inner, max_size=4)),
    max_leaves=20,
)
WELL_FORMED = st.builds(
    lambda parts, page: page[0] + "".join(parts) + page[1],
    st.lists(TREES, max_size=5),
    st.sampled_from((("", ""), ("<html><head><title>t</title></head><body>", "</body></html>"), ("<body>", "</body>"))),
)
PIECES = (
    "<div> </div> <p> <table> <tr> <td> </td> </table> <ul> <li> <a_href='x'> </a> <br> <pre> </pre> <!-- --> <!--[if_mso]> "
    "<![endif]--> <style> </style> <title> <head> <body> </body> </html> <blockquote> </blockquote> <div_class=gmail_quote> "
    "<div_style='display:none'> <span_style=font-size:0> text 不採用です。 &lt; &#12 < > <a ' \" <textarea> <select> <button> "
    "<svg> <svg/> <template> <!doctype_html> <xml> </noscript>"
).replace("_", "\0")
SOUP = st.lists(st.sampled_from([piece.replace("\0", " ") for piece in PIECES.split()]), max_size=30).map("".join)

BLOCK = (
    '<div style="font-size:14px">MARK is the block</div>'  # as ours: it may come to stand where nothing else has a size
)


def squeezed(value: str) -> str:
    """Without white space and the separators of cells, which a block between two of them makes into lines."""
    return "".join(value.replace("|", "").split())


def inserted(source: str, place: int, block: str) -> str:
    return source[:place] + block + source[place:]


def everything(result: Layout) -> str:
    return f"{result.new}\n{result.quoted}\n{result.signature}"


@settings(max_examples=150, deadline=None)
@given(PLAIN, st.booleans())
def test_plain_places_begin_lines(source: str, flowed: bool) -> None:
    result = text.layout(source, flowed=flowed)
    assert 0 <= result.below <= result.end == len(source)
    assert result.below in (0, len(source)) or source[result.below - 1] == "\n"
    assert "\r\n" not in everything(result)


@settings(max_examples=150, deadline=None)
@given(PLAIN, st.booleans())
def test_plain_lines_are_neither_lost_nor_doubled(source: str, flowed: bool) -> None:
    result = text.layout(source, flowed=flowed)
    told = sorted(squeezed(everything(result)).replace(">", ""))
    assert told == sorted(squeezed(source).replace(">", ""))


@settings(max_examples=150, deadline=None)
@given(PLAIN)
def test_a_line_put_below_is_new(source: str) -> None:
    before = text.layout(source)
    gap = "" if not before.below or source[before.below - 1] == "\n" else "\n"
    after = text.layout(inserted(source, before.below, gap + "MARK is what the block says here.\n"))
    assert everything(after).count("MARK") == 1
    if before.new:
        assert "MARK" in after.new


@settings(max_examples=200, deadline=None)
@given(WELL_FORMED)
def test_a_block_put_below_is_new_and_shown_once(source: str) -> None:
    before = html.layout(source)
    assert 0 <= before.below <= before.end <= len(source)
    after = html.layout(inserted(source, before.below, BLOCK))
    assert everything(after).count("MARK") == 1
    if before.new:
        assert after.new.count("MARK") == 1
        assert squeezed(after.new.replace("MARK is the block", "")) == squeezed(before.new)
    assert squeezed(after.quoted.replace("MARK is the block", "")) == squeezed(before.quoted)


@settings(max_examples=200, deadline=None)
@given(WELL_FORMED)
def test_a_block_put_at_the_end_is_shown_once(source: str) -> None:
    before = html.layout(source)
    after = html.layout(inserted(source, before.end, BLOCK))
    assert everything(after).count("MARK") == 1


@settings(max_examples=250, deadline=None)
@given(st.one_of(SOUP, st.text()))
def test_no_source_raises_and_places_are_between_tokens(source: str) -> None:
    try:
        result = html.layout(source)
    except SpliceError as error:
        assume(error.reason.startswith("limit:html"))
        return
    assert 0 <= result.below <= result.end <= len(source)
    spans = [(token.start, token.end) for token in tokens(source)]
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    borders = {0, *(end for _, end in spans)}
    assert result.end in borders
    assert result.below in borders or source[result.below - 1] == "\n"
