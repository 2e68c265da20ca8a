"""The shipped rules: every rule's own examples, and the corpus (tests/corpus) held at its measured figures.

The corpus: `roundN_*.toml` by the author of the rules, `rN.jsonl` by others who had not seen them. All invented.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from relay_mta.core.rules import EVIDENCE, RuleSet
from relay_mta.core.text import layout
from relay_mta.core.verdict import Verdict
from tests.rulesets import parsed_once

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "corpus"
LEAST_FOUND = {"own": 0.98, "published": 0.97, "written": 0.71}
"""Of the rejections of a tier; measured: see rules/README.md."""
KNOWN_FLAGGED: dict[str, str] = {}
"""Ids of innocent mails that are known to be flagged, each with the reason why that is not repaired yet."""


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return parsed_once([(path.name, path.read_bytes()) for path in sorted((ROOT / "rules").glob("*.toml"))])


def mails(label: str) -> list[tuple[str, str, str]]:
    """(id, subject, body) of all own mails of a label."""
    found = []
    for path in sorted(CORPUS.glob("*.toml")):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        if document["label"] == label:
            found.extend((mail["id"], mail["subject"], mail["body"]) for mail in document["mail"])
    found.extend((mail["id"], mail["subject"], mail["body"]) for mail in by_others() if mail["label"] == label)
    return found


def by_others() -> list[dict[str, str]]:
    lines = [line for path in sorted(CORPUS.glob("r*.jsonl")) for line in path.read_text(encoding="utf-8").split("\n")]
    return [json.loads(line) for line in lines if line]


def judge(rules: RuleSet, subject: str, body: str) -> Verdict:
    return rules.judge_text(subject, [layout(body).new])


def test_every_rule_meets_its_own_examples(rules: RuleSet) -> None:
    assert [str(problem) for problem in rules.failing_examples()] == []


def test_most_evidence_has_examples(rules: RuleSet) -> None:
    assert sum(1 for rule in rules.rules.values() if rule.kind in EVIDENCE and rule.ok) >= 20


def test_nothing_innocent_is_flagged(rules: RuleSet) -> None:
    flagged = [name for name, subject, body in mails("other") if judge(rules, subject, body).kind == "rejection"]
    assert flagged == sorted(KNOWN_FLAGGED)


def test_rejections_are_found(rules: RuleSet) -> None:
    tiers = {mail["id"]: mail["tier"] for mail in by_others()}
    every = mails("rejection")
    missed = [name for name, subject, body in every if judge(rules, subject, body).kind != "rejection"]
    for tier, least in LEAST_FOUND.items():
        of_tier = [name for name, _, _ in every if tiers.get(name, "own") == tier]
        missed_of_tier = [name for name in missed if name in of_tier]
        assert 1 - len(missed_of_tier) / len(of_tier) >= least, missed_of_tier


def test_the_corpus_is_large_enough() -> None:
    assert len(mails("rejection")) >= 150
    assert len(mails("other")) >= 250


def test_ids_are_unique() -> None:
    names = [name for label in ("rejection", "other") for name, _, _ in mails(label)]
    assert len(names) == len(set(names))


def test_a_quoted_rejection_is_no_rejection(rules: RuleSet) -> None:
    for name, subject, body in mails("rejection"):
        quoted = "お世話になっております。下記の件、資料をお送りします。\n\n" + "".join(
            f"> {line}\n" for line in body.split("\n")
        )
        assert judge(rules, f"Re: {subject}", quoted).kind == "none", name


@pytest.mark.parametrize("width", [17, 35])
def test_the_verdict_is_the_same_however_a_mailer_wraps(rules: RuleSet, width: int) -> None:
    """Wrapped Japanese: each line that is longer than the column goes on in the next one, also in mid-word."""
    for label in ("rejection", "other"):
        for name, subject, body in mails(label):
            if re.search("[A-Za-z]|(?:[一-龠ぁ-ん] ){4}", body):
                continue  # a mailer does not wrap within a Latin word; letter-spaced words have blanks of their own
            if any(len(line) > width and re.search("[:：|│┃]", line) for line in body.split("\n")):
                continue  # a box whose line is cut is another box
            new = layout(body).new  # cut first: wrapped headers of a forwarded mail are another test's matter
            lines = []
            for line in new.split("\n"):
                lines.extend(line[i : i + width] for i in range(0, len(line), width)) if line else lines.append("")
            wrapped = rules.judge_text(subject, ["\n".join(lines)])
            assert wrapped.kind == rules.judge_text(subject, [new]).kind, (name, wrapped)


DRAFT = """店長

お疲れさまです。総務の石井です。
採用の件、保科さんへは次の文面で今朝送りました。電話があれば総務に回してください。

{ruler}
保科様
このたびはご応募いただき、誠にありがとうございました。慎重に選考を重ねた結果、誠に残念ながら、今回は採用を
見送らせていただくことになりました。末筆ながら、今後のご活躍をお祈り申し上げます。
{ruler}
"""


@pytest.mark.parametrize("ruler", ["==========", "----------------", "――――――――――", "", "＊＊＊＊＊＊＊＊"])
def test_a_letter_shown_to_a_colleague_between_rulers_is_no_rejection(rules: RuleSet, ruler: str) -> None:
    draft = DRAFT.format(ruler=ruler)
    assert judge(rules, "選考結果のご連絡", draft).kind == "none"
    assert judge(rules, "選考結果のご連絡", draft[draft.index("保科様") :]).kind == "rejection"
