"""Rules on probation (`T_…`): tried on live mail, without any effect on it."""

from __future__ import annotations

import pytest

from relay_mta import shipped
from relay_mta.core.rules import RuleSet
from tests.rulesets import parsed_once


@pytest.mark.parametrize(
    ("kind", "find", "more"),
    [
        ("decline", "ゆめまぼろし", "weight = 50"),
        ("hint", "ゆめまぼろし", "weight = 50"),
        ("job", "ゆめまぼろし", ""),
        ("sign", "ゆめまぼろし", "weight = -50"),
        ("veto", "ゆめまぼろし", ""),
        ("guard", "見送", 'side = "around"'),
    ],
)
def test_a_rule_on_probation_is_shown_and_changes_nothing(kind: str, find: str, more: str) -> None:
    rule = f'[[rule]]\nid = "T_try"\nabout = "t"\nkind = "{kind}"\n{more}\nfind = ["{find}"]\n'
    without = parsed_once(shipped.rules())
    tried = RuleSet.parse([*shipped.rules(), ("90_local.toml", rule.encode())])
    for text in (
        "選考の結果、今回は採用を見送らせていただきます。ゆめまぼろしです。",
        "選考の結果、採用を見送る場合はご連絡します。ゆめまぼろしです。",
        "ゆめまぼろしです。来週の打ち合わせの件、承知しました。",
    ):
        before, now = without.judge_text("選考結果", [text]), tried.judge_text("選考結果", [text])
        assert (now.kind, now.score, now.reason) == (before.kind, before.score, before.reason)
        assert set(before.hits) <= set(now.hits)
        assert all(hit.score == 0 for hit in now.hits if hit.rule == "T_try")
    assert tried.judge_text(
        "選考結果", ["選考の結果、今回は採用を見送らせていただきます。ゆめまぼろしです。"]
    ).trials == ("T_try",)
