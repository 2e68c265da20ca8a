"""The link block: what the shipped templates say, and what an admin's template cannot do."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import relay_mta
from relay_mta.core import block, link
from relay_mta.core.errors import SpliceError, TemplateError

BASE = "https://relay.example.jp"
LINK = link.url(BASE, link.token(bytes(range(16))))
STOP = link.opt_out_url(BASE, link.token(bytes(range(16))))
LINKS = {"link": LINK, "opt_out": STOP}
SHIPPED = {
    name: (Path(relay_mta.__file__).parent / "templates" / name).read_text(encoding="utf-8") for name in block.NAMES
}
TEMPLATES = block.BlockTemplates.parse(SHIPPED)
LANGUAGES = ("ja", "en")


def columns(line: str) -> int:
    spacing = [character for character in line if not unicodedata.combining(character)]
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in spacing)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shipped_blocks_say_who_and_lead_there_once(language: str) -> None:
    made = TEMPLATES.render(language, company="アクメ & Söhne", agency="<サンプル> 人材紹介", **LINKS)
    for variant in (made.text, made.plain, made.html):
        assert link.own_links(variant, BASE) == (LINK.rpartition("/")[2],)
        assert not variant.startswith("\n") and not variant.endswith("\n")
        assert not any(line != line.rstrip() for line in variant.split("\n"))
    for variant in (made.text, made.plain):
        assert variant.count(LINK) == 1
        assert LINK in variant.split("\n")
        assert "アクメ & Söhne" in variant and "<サンプル> 人材紹介" in variant
        assert max(columns(line) for line in variant.split("\n")) <= 76
    assert "アクメ &amp; Söhne" in made.html and "&lt;サンプル&gt;" in made.html
    assert f'href="{LINK}"' in made.html
    assert "<img" not in made.html and "src=" not in made.html and "class=" not in made.html


@pytest.mark.parametrize("codec", ["iso2022_jp", "shift_jis", "euc_jp", "utf-8"])
def test_the_japanese_blocks_survive_every_charset_of_japan(codec: str) -> None:
    made = TEMPLATES.render("ja", company="株式会社アクメ", agency="サンプル人材紹介株式会社", **LINKS)
    for variant in (made.text, made.plain, made.html):
        assert variant.encode(codec).decode(codec) == variant


def test_the_english_blocks_are_ascii_if_the_names_are() -> None:
    made = TEMPLATES.render("en", company="Acme", agency="Sample Agency", **LINKS)
    assert made.text.isascii() and made.plain.isascii() and made.html.isascii()


def test_the_plain_variant_spells_names_out() -> None:
    made = TEMPLATES.render("ja", company="㈱ｱｸﾒ①", agency="Ａｇｅｎｃｙ", **LINKS)
    assert "㈱ｱｸﾒ①" in made.text
    assert "(株)アクメ1" in made.plain and "Agency" in made.plain
    made.plain.encode("iso2022_jp")


@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from(LANGUAGES))
def test_no_name_breaks_a_block(company: str, agency: str, language: str) -> None:
    try:
        made = TEMPLATES.render(language, company=company, agency=agency, **LINKS)
    except SpliceError as error:
        assert error.reason == "template"
        return
    for variant in (made.text, made.plain, made.html):
        assert LINK in variant
        variant.encode("utf-8")
        assert not any(
            unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in variant.replace("\n", "")
        )
    for variant in (made.text, made.plain):
        assert LINK in variant.split("\n")
        assert len(variant.split("\n")) < 30
        assert all(columns(line) <= 78 or " " not in line for line in variant.split("\n"))
    plain = TEMPLATES.render(language, company="a", agency="b", **LINKS)
    assert made.html.count("<") == plain.html.count("<")


def test_names_are_cleaned_and_shortened() -> None:
    name = "Acme\r\nBcc: x@example.jp\u202e\u200b\u2066\x00 Inc." + "長" * 500
    made = TEMPLATES.render("en", company=name, agency="A", **LINKS)
    assert "Acme Bcc: x@example.jp Inc.長" in made.text.replace("\n", "")
    assert made.text.count("長") < block.NAME_LIMIT


def test_a_long_line_is_broken_where_japanese_may_be() -> None:
    sources = {**SHIPPED, "ja.txt": "{{ agency }}" + "漢字、" * 40 + "\n{{ link }}\n{{ opt_out }}\n"}
    made = block.BlockTemplates.parse(sources).render("ja", company="x", agency="y", **LINKS)
    lines = made.text.split("\n")
    assert len(lines) > 3
    assert "".join(lines).count("漢字、") == 40
    assert not any(line.startswith("、") for line in lines)
    assert all(columns(line) <= 76 for line in lines)


@pytest.mark.parametrize(
    "bad",
    [
        "javascript:alert(1)",
        "https://a b",
        "",
        "https://",
        'https://x/"><script>',
        "https://x/\r\n",
        "ftp://x/",
        "x" * 999,
    ],
)
def test_only_a_plain_web_address_is_a_link(bad: str) -> None:
    with pytest.raises(SpliceError) as raised:
        TEMPLATES.render("ja", company="a", agency="b", link=bad, opt_out=STOP)
    assert raised.value.reason == "template"


@pytest.mark.parametrize("name", ["", " ", "\u200b\r\n", "\u202e"])
def test_a_block_without_a_name_is_none(name: str) -> None:
    with pytest.raises(SpliceError):
        TEMPLATES.render("ja", company="a", agency=name, **LINKS)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ 'x' * 10**9 }}", "the operator *"),
        ("{{ 2 ** 99999999 }}", "the operator **"),
        ("{{ '%999999999d' % 1 }}", "the operator %"),
        ("{% for i in company %}{% endfor %}", "a loop"),
        ("{% set a = company ~ company %}", "an assignment"),
        ("{% set a %}x{% endset %}", "an assignment"),
        ("{{ range(9) }}", "a call"),
        ("{{ company.join(agency) }}", "a call"),
        ("{{ company.__class__ }}", "an attribute"),
        ("{{ company[0] }}", "a subscript"),
        ("{{ company|center(999999999) }}", "unknown filter 'center'"),
        ("{{ company|replace('a', agency) }}", "unknown filter 'replace'"),
        ("{{ agency|safe }}", "unknown filter 'safe'"),
        ("{% macro m() %}{% endmacro %}", "Macro"),
        ("{% include 'en.txt' %}", "Include"),
        ("{% extends 'en.txt' %}", "Extends"),
        ("{{ address }}", "unknown variable 'address'"),
        ("{{ company", "unexpected end of template"),
        ("{% if company %}", "endif"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "cannot be compiled"),
        ("{{ " + "9" * 6000 + " }}", "cannot be compiled"),
        ("x" * 20_000, "longer than"),
        ("{{ company" + "|e" * 150 + " }}", "too intricate"),
        ("{{ " + "not " * 150 + "company }}", "too intricate"),
        ("{{ company }}" * 1_000, "too intricate"),
    ],
)
def test_what_a_template_cannot_do_is_said_at_load_with_its_line(source: str, said: str) -> None:
    sources = {**SHIPPED, "ja.txt": "{{ agency }}{{ opt_out }}\n{{ link }}\n" + source}
    with pytest.raises(TemplateError) as raised:
        block.BlockTemplates.parse(sources)
    problem = next(problem for problem in raised.value.problems if said in problem.text)
    assert problem.file == "ja.txt"
    assert problem.line in (3, None)


def test_everything_wrong_is_reported_at_once() -> None:
    sources = {
        "ja.txt": "{{ agency }} {{ link }} {{ opt_out }}",
        "ja.plain.txt": "①\n{{ agency }}\n{{ link }}\n{{ opt_out }}",
        "ja.html": "<p>{{ opt_out }}{{ agency }}</p>",
        "en.txt": "{{ agency }}{{ opt_out }}\n{{ link }}\n{{ 1 * 2 }}",
        "en.plain.txt": "{{ agency }}\n{{ link }}",
        "fr.txt": "",
    }
    with pytest.raises(TemplateError) as raised:
        block.BlockTemplates.parse(sources)
    assert [(problem.file, problem.line) for problem in raised.value.problems] == [
        ("en.html", None),
        ("fr.txt", None),
        ("ja.html", None),
        ("en.txt", 3),
        ("en.plain.txt", None),
    ]


def test_what_renders_wrong_is_said_at_load() -> None:
    sources = {
        **SHIPPED,
        "ja.txt": "{{ agency }} {{ link }}\n{{ opt_out }}",
        "ja.plain.txt": "①\n{{ agency }}\n{{ link }}\n{{ opt_out }}",
        "en.plain.txt": "\u2026\n{{ agency }}\n{{ link }}\n{{ opt_out }}",
        "en.txt": "{{ agency }}{{ opt_out }}{% if not link %}{{ link }}{% endif %}",
    }
    with pytest.raises(TemplateError) as raised:
        block.BlockTemplates.parse(sources)
    said = {problem.file: problem.text for problem in raised.value.problems}
    assert "alone on its line" in said["ja.txt"]
    assert "JIS X 0208" in said["ja.plain.txt"]
    assert "pure ASCII" in said["en.plain.txt"]
    assert "link is missing" in said["en.txt"]
    silent = "{{ agency }}\n{{ link }}{% if candidate %}\n{{ opt_out }}{% endif %}"
    with pytest.raises(TemplateError, match="way to decline"):
        block.BlockTemplates.parse({**SHIPPED, "en.txt": silent})


def test_choices_and_harmless_filters_work() -> None:
    source = (
        "{% if language == 'ja' %}"
        "{{ agency|upper|default('x') }}{% else %}-{% endif %}.\n{{ link }}\n{{ opt_out }}\n{{ 'a' ~ company }}"
    )
    made = block.BlockTemplates.parse({**SHIPPED, "ja.txt": source}).render("ja", company="c", agency="b", **LINKS)
    assert made.text == f"B.\n{LINK}\n{STOP}\nac"


def test_a_template_may_address_the_candidate() -> None:
    source = "{% if candidate %}{{ candidate }}様{% endif %}{{ agency }}\n{{ link }}\n{{ opt_out }}"
    templates = block.BlockTemplates.parse({**SHIPPED, "ja.txt": source, "ja.html": f"<p>{source}</p>"})
    named = templates.render("ja", company="c", agency="b", candidate="山田\u202e<b>太郎\r\n", **LINKS)
    assert named.text.startswith("山田<b>太郎様b\n") and "山田&lt;b&gt;太郎様b" in named.html
    assert templates.render("ja", company="c", agency="b", **LINKS).text.startswith("b\n")


def test_problems_name_the_file_they_are_in() -> None:
    with pytest.raises(TemplateError, match=r"^/etc/relay/ja\.txt:1: ") as raised:
        block.BlockTemplates.parse({**SHIPPED, "ja.txt": "{{"}, places={"ja.txt": "/etc/relay/ja.txt"})
    assert len(raised.value.problems) == 1
