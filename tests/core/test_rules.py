"""The rule language: kinds of evidence, guards, vetoes, places, and what an admin is told about mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.errors import RuleError, SpliceError
from relay_mta.core.phrase import Finder, PhraseError, parse
from relay_mta.core.rules import RuleSet

BASE = """
[words]
no = ["ません", "ない"]
[scoring]
threshold = 10
forced_threshold = 8
no_job = 2
[signs]
"ご応募" = 3
"お祈り" = 1.5
"see you" = -4
[signs-of-subject]
"結果" = 1
[[rule]]
id = "refused"
about = "採用を断る"
kind = "decline"
weight = 10
gap = 10
find = ["採用を(お|)断り", "採用…でき{no}"]
ok = ["採用をお断りします。"]
fail = ["採用します。"]
[[rule]]
id = "put-off"
about = "見送り"
kind = "hint"
weight = 7
find = ["見送"]
[[rule]]
id = "interviewed"
about = "面接"
kind = "job"
find = ["面接"]
[[rule]]
id = "if"
about = "場合"
kind = "guard"
side = "after"
find = ["場合"]
[[rule]]
id = "last-time"
about = "前回は"
kind = "guard"
side = "before"
find = ["前回"]
until = ["今回"]
[[rule]]
id = "trade"
about = "商談"
kind = "sign"
weight = { subject = -6, event = -6, new = -1 }
find = ["見積"]
[[rule]]
id = "offer"
about = "内定"
kind = "veto"
find = ["内定です"]
"""


@dataclass
class Layout:
    new: str
    quoted: str = ""
    signature: str = ""


@dataclass
class Part:
    layout: Layout


class Mail:
    def __init__(self, subject: str | None, *texts: str, quoted: str = "", signature: str = "", **beside: str) -> None:
        self.subject = subject
        self.texts = tuple(Part(Layout(text, quoted, signature)) for text in texts)
        self.beside = beside

    def first(self, name: str) -> str | None:
        return self.subject if name == "subject" else None

    def values(self, name: str) -> tuple[str, ...]:
        return (self.beside[name],) if name in self.beside else ()

    @property
    def header_lines(self) -> tuple[str, ...]:
        return tuple(f"{name}: {value}" for name, value in self.beside.items())

    @property
    def attachments(self) -> tuple[str, ...]:
        return self.values("attachment")


def rules(*more: str) -> RuleSet:
    return RuleSet.parse([("10_base.toml", BASE.encode()), *((f"9{i}.toml", m.encode()) for i, m in enumerate(more))])


@pytest.mark.parametrize(
    ("subject", "text", "reason"),
    [
        ("", "採用をお断りします。", "decline:refused"),
        ("", "採用は今回できません。", "decline:refused"),
        ("", "採用。今回できません。", "no-decline"),  # a gap does not cross a sentence
        ("", "採用は、いろいろと考えましたができません。", "no-decline"),  # … nor more than its rule's `gap`
        ("", "今回は見送ります。", "below-threshold"),  # 7, less 2 for no word of a job
        ("", "面接の結果、今回は見送ります。", "below-threshold"),
        ("", "ご応募と面接の結果、今回は見送ります。", "decline:put-off"),
        ("", "ご応募ありがとうございます。今回は見送ります。", "below-threshold"),
        ("ご応募の件", "面接の結果、今回は見送ります。", "decline:put-off"),  # a sign counts wherever it stands …
        ("ご応募の件", "ご応募の面接の結果、見送ります。ご応募。", "decline:put-off"),  # … and once
        ("Re: ご応募の件", "面接の結果、今回は見送ります。", "decline:put-off"),  # also in the subject of an answer
        ("面接の結果", "お祈りします。見送ります。", "below-threshold"),  # 7 + 1.5 + 1: 9.5
        ("面接の結果", "ご応募の件、お祈りします。見送ります。See you tomorrow.", "below-threshold"),
        ("面接の結果", "ご応募の件、お祈りします。見送ります。Foresee your.", "decline:put-off"),  # whole words
        ("", "採用をお断りします。See you.", "decline:refused"),  # a decline proves by itself
        ("", "ご応募の方、採用をお断りする場合です。", "guard:if"),
        ("", "前回は採用をお断りしました。", "guard:last-time"),
        ("", "前回に続き、今回も採用をお断りします。", "decline:refused"),
        ("", "彼は「採用をお断りします」と言いました。", "guard:quoted"),
        ("", "採用を「お断りします」とさせていただきます。", "no-decline"),
        ("", "今回は「採用をお断り」とさせていただきます。", "decline:refused"),
        ("", "ご応募、面接の結果、見送ります。\n\n見積の件です。", "below-threshold"),
        ("", "ご応募、面接、お祈り。見送ります。\n\n見積の件です。", "decline:put-off"),
        ("", "ご応募、面接、お祈り。見積は見送ります。", "below-threshold"),
        ("", "長谷様\n\n春日さんの件ですが、採用をお断りします。", "guard:names-another"),
        ("", "長谷様\n\n長谷様の件ですが、採用をお断りします。", "decline:refused"),
        ("", "採用をお断りします。\n\n内定です。", "veto:offer"),
        ("採用をお断り", "本文です。", "decline:refused"),
        ("Re: 採用をお断り", "本文です。", "no-decline"),
        ("", "", "no-decline"),
    ],
)
def test_judge(subject: str, text: str, reason: str) -> None:
    verdict = rules().judge(Mail(subject, text))
    assert verdict.reason == reason
    assert (verdict.kind == "rejection") is reason.startswith("decline:")


def test_a_hit_says_where() -> None:
    verdict = rules().judge(Mail("面接の結果", "拝啓。\nご応募の件、今回は見\n送りです。\n"))
    assert [(hit.rule, hit.score, hit.part, hit.text) for hit in verdict.hits] == [
        ("put-off", 7.0, "new", "ご応募の件、今回は見送りです。"),
        ("interviewed", 0.0, "subject", "面接の結果"),
        ("sign", 1.0, "subject", "結果"),
        ("sign", 3.0, "new", "ご応募"),
    ]
    assert (verdict.score, verdict.threshold) == (11.0, 10.0)
    assert [(hit.rule, hit.score) for hit in rules().judge(Mail("", "見送りです。")).hits][1:] == [("no-job", -2.0)]


def test_a_sender_who_asks_for_a_link_needs_less() -> None:
    mail = Mail("面接の結果", "見送りです。")
    assert rules().judge(mail).reason == "below-threshold"
    asked = rules().judge(mail, forced=True)
    assert (asked.reason, asked.threshold) == ("decline:put-off", 8.0)
    assert rules().judge(Mail("", "内定です。見送りです。"), forced=True).reason == "veto:offer"


@pytest.mark.parametrize(
    ("place", "mail"),
    [
        ("quoted", Mail("", "採用をお断りします。", quoted="ひみつ\nの\n言葉")),
        ("signature", Mail("", "採用をお断りします。", signature="ひみつ部")),
        ("whole", Mail("", "採用をお断りします。", quoted="ひみつ")),
        ("whole", Mail("ひみつ", "採用をお断りします。")),
        ("whole", Mail("", "ひみつです。採用をお断りします。")),
        ("header", Mail("", "採用をお断りします。", **{"X-Mailer": "ひみつ 2"})),
        ("sender", Mail("", "採用をお断りします。", **{"from": "ひみつ課 <a@x.example>"})),
        ("sender", Mail("", "採用をお断りします。", **{"sender": "ひみつ課 <a@x.example>"})),
        ("recipient", Mail("", "採用をお断りします。", **{"cc": "ひみつ様 <a@x.example>"})),
        ("attachment", Mail("", "採用をお断りします。", attachment="ひみつ.pdf")),
    ],
)
def test_a_rule_may_look_beside_the_new_text(place: str, mail: Mail) -> None:
    rule = f'[[rule]]\nid = "v"\nabout = "v"\nkind = "veto"\nwhere = ["{place}"]\nfind = ["ひみつ"]\n'
    assert rules(rule).judge(mail).reason == "veto:v"
    assert rules().judge(mail).reason == "decline:refused"
    assert rules(rule).judge(Mail("", "採用をお断りします。")).reason == "decline:refused"


def test_a_rule_may_look_at_the_envelope() -> None:
    rule = '[[rule]]\nid = "v"\nabout = "v"\nkind = "veto"\nwhere = ["sender", "recipient"]\nfind = ["vip"]\n'
    mail = Mail("", "採用をお断りします。")
    for envelope in (Envelope("vip@x.example", ()), Envelope("", (Recipient("vip@x.example"),))):
        assert rules(rule).judge(mail, envelope).reason == "veto:v"


def test_signs_are_changed_and_taken_out() -> None:
    mail = Mail("", "ご応募、面接の結果、今回は見送ります。")
    assert rules('[signs]\n"御応募" = 2\n').judge(mail).score == 9.0  # folded alike: the same sign
    assert rules('[signs]\n"ご応募" = 0\n').judge(mail).score == 7.0
    assert rules('[signs]\n"今回" = 5\n').judge(mail).score == 15.0


def test_a_latin_sign_is_found_however_it_is_written() -> None:
    mail = Mail("", "ご応募、面接の結果、今回は見送ります。 It's a follow-up.")
    for word in ("follow-up", "Follow up", "it's a"):
        assert rules(f'[signs]\n"{word}" = 1\n').judge(mail).score == 11.0


def test_evidence_has_the_weight_of_its_place() -> None:
    heavier = '[[rule]]\nid = "refused"\noverride = true\nkind = "decline"\nweight = { subject = 12, new = 4 }\n'
    for mail, score in ((Mail("採用をお断り", "本文です。"), 12.0), (Mail("", "採用をお断りします。"), 4.0)):
        assert rules(heavier).judge(mail).score == score


def test_judging_ends_when_the_time_is_up() -> None:
    asked: list[None] = []

    def patience() -> bool:
        asked.append(None)
        return len(asked) > 2

    with pytest.raises(SpliceError, match="limit:time"):
        rules().judge(Mail("ご応募", "採用をお断りします。見送り。", "採用をお断りします。"), patience=patience)
    assert len(asked) == 3


def test_what_was_taken_back_is_told() -> None:
    verdict = rules().judge(Mail("", "採用をお断りする場合です。"))
    assert ("refused/if", 0.0) in [(hit.rule, hit.score) for hit in verdict.hits]


def test_renditions_are_combined_safely() -> None:
    declined, silent, offered = "採用をお断りします。", "HTMLでご覧ください。", "内定です。採用をお断りします。"
    assert rules().judge(Mail("", declined, silent)).kind == "rejection"
    assert rules().judge(Mail("", silent, declined)).kind == "rejection"
    assert rules().judge(Mail("", declined, offered)).reason == "veto:offer"
    for texts in ((declined, "内定です。"), ("内定です。", declined)):  # an offer without any evidence beside it
        assert rules().judge(Mail("", *texts)).reason == "veto:offer"
    assert rules().judge(Mail("採用をお断りします")).reason == "no-text"
    assert rules().judge(Mail(None, declined)).kind == "rejection"


def test_language() -> None:
    assert rules().judge(Mail("", "We regret to inform you, 山田")).language == "en"
    assert rules().judge(Mail("", "山田様 今回は residency の件です。")).language == "ja"


def test_a_later_file_changes_and_drops_rules() -> None:
    heavier = '[[rule]]\nid = "put-off"\noverride = true\nkind = "decline"\nweight = 12\n'
    dropped = '[[rule]]\nid = "refused"\ndisabled = true\n'
    changed = rules(heavier, dropped)
    assert changed.judge(Mail("", "見送ります。")).reason == "decline:put-off"
    assert changed.judge(Mail("", "採用をお断りします。")).reason == "no-decline"
    added = rules('[words]\n"+no" = ["かねます"]\n')
    assert added.judge(Mail("", "採用はできかねます。")).reason == "decline:refused"


def test_the_hash_is_of_what_can_change_a_verdict() -> None:
    commented = rules("# nothing\n[words]\n")
    assert rules().hash == rules().hash == commented.hash
    assert rules("[scoring]\nthreshold = 11\n").hash != rules().hash
    assert rules('[signs]\n"お祈り" = 1\n').hash != rules().hash
    assert rules('[[rule]]\nid = "offer"\ndisabled = true\n').hash != rules().hash


def test_examples_are_run() -> None:
    assert rules().failing_examples() == ()
    wrong = rules('[[rule]]\nid = "refused"\noverride = true\nok = ["採用します。"]\nfail = ["採用をお断りします。"]\n')
    assert [problem.key for problem in wrong.failing_examples()] == ["refused", "refused"]


def test_regexes_stay_within_their_sentence() -> None:
    made = rules('[[rule]]\nid = "box"\nabout = "表"\nkind = "decline"\nweight = 10\nregex = [\'^結果[^。]*不可$\']\n')
    assert made.judge(Mail("", "結果：不可")).reason == "decline:box"
    assert made.judge(Mail("", "結果です。\n不可")).reason == "no-decline"


RULE = '[[rule]]\nid = "a"\nabout = "x"\nkind = "decline"\nweight = 10\nfind = ["採用"]\n'


@pytest.mark.parametrize(
    ("content", "line", "told"),
    [
        (RULE.replace("weight = 10", 'weight = "ten"').encode(), 5, "points greater than 0"),
        (RULE.replace("weight = 10", "weight = nan").encode(), 5, "points greater than 0"),
        (RULE.replace("weight = 10", "weight = true").encode(), 5, "points greater than 0"),
        (RULE.replace('kind = "decline"', 'kind = "rejection"').encode(), 4, "expected decline, hint, job"),
        ((RULE + "colour = 1\n").encode(), 7, "unknown key"),
        ((RULE + "gap = 1000\n").encode(), 7, "0 to 200"),
        ((RULE + 'where = ["body"]\n').encode(), 7, "is no place"),
        ((RULE + 'where = ["quoted"]\n').encode(), 7, "what the sender writes now"),
        (RULE.replace("weight = 10", "weight = { quoted = 10 }").encode(), 5, "what the sender writes now"),
        (RULE.replace("weight = 10", "weight = { new = 10, opening = 4 }").encode(), 5, "what the sender writes now"),
        (RULE.replace("decline", "sign").replace("weight = 10", "weight = 0").encode(), 5, "less than 0 where"),
        (RULE.replace("decline", "job").encode(), 5, "a job has none"),
        (b'[signs]\n"a" = "x"\n' + RULE.encode(), 2, "expected a number of points"),
        (b'[signs]\n"a" = true\n' + RULE.encode(), 2, "expected a number of points"),
        (b'[signs-of-subject]\n" " = 1\n' + RULE.encode(), None, "expected a word"),
        (b"signs = 3\n" + RULE.encode(), 1, "expected a table"),
        ((RULE + 'side = "after"\n').encode(), 7, "only a guard"),
        ((RULE + RULE).encode(), 8, "used twice"),
        (RULE.replace('find = ["採用"]', "find = []").encode(), 6, "at least one phrase"),
        (RULE.replace('find = ["採用"]', 'find = ["採用("]').encode(), 2, "closing bracket"),
        (RULE.replace('find = ["採用"]', 'find = ["{nobody}"]').encode(), 2, "no list 'nobody'"),
        (RULE.replace('find = ["採用"]', "regex = ['(?<=a)b']").encode(), 2, "RE2 cannot read"),
        (RULE.replace('find = ["採用"]', "regex = ['採用|']").encode(), 2, "no characters"),
        (RULE.replace('id = "a"', 'id = "ä"').encode(), 2, "expected an id"),
        ((RULE + "override = true\n").encode(), 2, "no earlier rule"),
        (RULE.encode() + b"\xff", 7, "not UTF-8"),
        (RULE.encode() + b"[[rule", 7, "not TOML"),
        (b"x = 1\n[words]\nw = []\n", 1, "unknown table"),
        (b"[scoring]\nthreshold = -1\n" + RULE.encode(), 2, "0 or more"),
        (b"[scoring]\nlimit = 1\n" + RULE.encode(), 2, "unknown key"),
        (b"", None, "not a single rule"),
        (b"#" * 2_000_000, None, "at most"),
        (b"a = " + b"[" * 5000, None, "not TOML"),
    ],
)
def test_bad_files_are_told_with_their_line(content: bytes, line: int | None, told: str) -> None:
    with pytest.raises(RuleError) as caught:
        RuleSet.parse([("50_bad.toml", content)])
    fitting = [problem for problem in caught.value.problems if told in problem.text]
    assert fitting, str(caught.value)
    if line is not None:
        assert fitting[0].line == line
    assert fitting[0].file == "50_bad.toml"


def test_all_problems_of_all_files_are_told_at_once() -> None:
    bad = RULE.replace("weight = 10", "weight = 0")
    with pytest.raises(RuleError) as caught:
        RuleSet.parse([("a.toml", bad.encode()), ("b.toml", b"["), ("c.toml", bad.replace('"a"', '"c"').encode())])
    assert {problem.file for problem in caught.value.problems} == {"a.toml", "b.toml", "c.toml"}
    with pytest.raises(RuleError):
        RuleSet.parse([])


def test_phrases() -> None:
    words = {
        "x": ["一", "{y}"],
        "y": ["二", "三(五|)"],
        "loop": ["{loop}"],
        "gap": ["一…二"],
        "many": ["(一|二|三)" * 9],
    }
    assert parse("(a|b)c", {}).slots == (frozenset({"ac", "bc"}),)
    assert parse("{x}…四", words).slots == (frozenset({"一", "二", "三", "三五"}), frozenset({"四"}))
    for wrong in (
        "…",
        "a…",
        "(a",
        "a)",
        "a|b",
        "{",
        "{z}",
        "{loop}",
        "{gap}",
        "{many}{many}",
        "(a…b)",
        "a* b",
        "(" * 500 + ")" * 500,
    ):
        with pytest.raises(PhraseError):
            parse(wrong, words)


def test_latin_words_are_whole_words_and_a_star_opens_them() -> None:
    finder = Finder()
    whole, opened = finder.add(parse("role", {})), finder.add(parse("role*", {}))
    finder.freeze()
    assert sorted(finder.find("a role.").candidates()) == [whole, opened]
    assert list(finder.find("the roles").candidates()) == [opened]
    assert list(finder.find("parole").candidates()) == []


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60), st.text(alphabet="採用お断り見送ません。場合前回「」\n ¶\ud800", max_size=60))
def test_no_text_raises(subject: str, text: str) -> None:
    verdict = rules().judge_text(subject, [text, text[::-1]])
    assert (verdict.kind == "rejection") is verdict.reason.startswith("decline:")


def test_hostile_text_stays_cheap() -> None:
    made = rules()
    assert made.judge(Mail("採用" * 9000, "採用" * 300_000 + "できません")).kind == "none"
    assert made.judge(Mail("", "「" * 100_000)).kind == "none"
    assert made.judge(Mail("", "\n様" * 100_000)).kind == "none"
