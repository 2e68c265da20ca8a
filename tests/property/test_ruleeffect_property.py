"""What a check calls without effect has none: whatever the text, the phrase that stays finds what the other found."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relay_mta.core.errors import Problem
from relay_mta.core.page import prepare
from relay_mta.core.phrase import Finder, PhraseError, parse
from relay_mta.core.rulefile import RuleFiles, read
from relay_mta.ruleeffect import without_effect

BIT = st.sampled_from(["a", "b", "ab", " ", "ゆ", "め", "御", "お", "(a|ゆ)", "(b|)", "n't"])
PHRASE = st.builds(
    lambda head, bits, tail: head + "".join(bits) + tail,
    st.sampled_from(["", "", "*"]),
    st.lists(BIT, min_size=1, max_size=4),
    st.sampled_from(["", "", "*"]),
)
TEXT = st.lists(st.sampled_from(["a", "b", "ab", " ", "ゆ", "め", "御", "お", "can't", "。", "\n"]), max_size=12)


def files(*phrases: str) -> RuleFiles:
    rule = f'[[rule]]\nid = "r"\nabout = "r"\nkind = "closing"\nweight = 1\nfind = {list(phrases)!r}\n'
    return read([("r.toml", rule.encode())])


def lines_met(phrase: str, text: str) -> set[int]:
    finder = Finder()
    number = finder.add(parse(phrase, {}))
    finder.freeze()
    page = prepare("", text)
    found = finder.find(page.folded)
    if number not in set(found.candidates()):
        return set()
    return {page.line_of(end) for _, end in found.matches(number, 25, page.ends)}


@settings(max_examples=400, deadline=None)
@given(PHRASE, PHRASE, st.lists(TEXT, min_size=1, max_size=6))
def test_a_phrase_that_adds_nothing_adds_nothing(one: str, other: str, texts: list[list[str]]) -> None:
    try:
        parse(one, {}), parse(other, {})
    except PhraseError:
        assume(False)
    found: list[Problem] = [p for p in without_effect(files(one, other)) if p.text.startswith("find: ")]
    if not found:
        return
    # the one that is called needless is quoted first
    needless, needed = (one, other) if found[0].text.startswith(f"find: {one!r} adds") else (other, one)
    plain = needless.replace("*", "").replace("(a|ゆ)", "a").replace("(b|)", "b")
    for text in [*("".join(bits) for bits in texts), plain, f"a{plain}b", f"ゆ{plain}め", f"b {plain} a"]:
        assert lines_met(needless, text) <= lines_met(needed, text), text
