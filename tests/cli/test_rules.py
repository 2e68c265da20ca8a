"""`relay-mta rules`: what an admin asks, and what they are told."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from relay_mta import rulecheck, rulefolder, rulemeasure, shipped
from relay_mta.cli import rulepages
from relay_mta.cli.root import root
from relay_mta.core.rules import RuleSet
from relay_mta.rulereport import Rules
from tests.e2e.process import Relay, free_port

pytestmark = pytest.mark.usefixtures("rules_parsed_once")

CONFIG = """\
hostname = "relay.example.jp"
[[listener]]
address = "127.0.0.1:2525"
[web]
address = "127.0.0.1:{port}"
base_url = "https://relay.example.jp"
[rules]
directory = "mine"
[[company]]
id = "acme"
name = "Acme"
domains = ["acme.example.jp"]
clients = ["192.0.2.0/24"]
upstream = {{ host = "smtp.example.jp" }}
agency = {{ name = "Agency", url = "https://agency.example/" }}
rules = "acme-rules"
"""
GOOD = """\
[[rule]]
id = "own-phrase"
about = "店長の言い回し"
kind = "hint"
weight = 8
find = ["パート…お願いできません"]
ok = ["パートのお仕事は今回お願いできません。"]
fail = ["パートのお仕事をお願いできますか。"]
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["rules", *map(str, arguments)])


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of an admin's own rules."""
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


@pytest.fixture
def config(tmp_path: Path, mine: Path) -> Path:
    (tmp_path / "acme-rules").mkdir()
    (tmp_path / "acme-rules" / "95_acme.toml").write_text('[[rule]]\nid = "own-phrase"\noverride = true\nweight = 3\n')
    (mine / "90_local.toml").write_text(GOOD, encoding="utf-8")
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(port=free_port()), encoding="utf-8")
    return path


# --- check ----------------------------------------------------------------------------------------------------------


def test_the_shipped_rules_are_good() -> None:
    result = run("check")
    assert result.exit_code == 0 and result.stderr == ""
    digest = rulefolder.load().hash
    assert re.search(rf"^\d+ files, \d+ rules, \d+ signs, \d+ examples: all good, hash {digest}$", result.stdout, re.M)


def test_everything_that_is_wrong_is_told_at_once_with_line_and_caret(mine: Path) -> None:
    text = """\
        [[rule]]
        id = "a"
        about = "brackets and what RE2 cannot do"
        kind = "hint"
        weight = 8
        find = ["採用を(お|見送", "{nobody}を…見送"]
        regex = ['採用(?=を)']

        [[rule]]
        id = "b"
        about = "weight and an unknown key"
        kind = "hint"
        weight = "ten"
        find = ["x"]
        nonsense = 1

        [[rule]]
        id = "c"
        about = "examples"
        kind = "sign"
        weight = 1
        find = ["ゆめまぼろし"]
        ok = ["ほかの文です。"]
        fail = ["ゆめまぼろしの如く。"]
        """
    path = mine / "90_local.toml"
    path.write_text(re.sub("(?m)^ {8}", "", text), encoding="utf-8")
    (mine / "91_more.toml").symlink_to("91_more.toml")
    result = run("check", mine)
    assert result.exit_code == 1
    said = result.stderr
    for place in ("6:10: a: find", "6:22: a: find", "7:13: a: regex", "13:10: b: weight", "15:1: b: nonsense"):
        assert f"relay-mta: {path}:{place}" in said
    assert f"relay-mta: {mine}/91_more.toml: cannot be read: its symbolic links lead in a circle" in said
    assert "8 problems" not in result.stdout and "examples and effects were not looked at" in result.stdout
    lines = said.splitlines()
    for number, line in enumerate(lines):
        if line.strip("^ ") == "":  # a caret line: it stands below what the problem quotes
            column = cell_len(line) - cell_len(line.lstrip(" "))
            source = lines[number - 1]
            start = next(at for at in range(len(source)) if cell_len(source[:at]) == column)
            meant = source[start:]
            assert meant.startswith(("採用を(お|見送", "{nobody}", "(?=", '"ten"', "nonsense")), (source, meant)
    (mine / "91_more.toml").unlink()
    result = run("check", mine)  # what is wrong is a matter of these rules alone: the examples are tried
    assert f"{path}:23:8: c: ok example: the rule does not match 'ほかの文です。'" in result.stderr
    assert f"{path}:24:10: c: fail example: the rule matches" in result.stderr
    assert re.search(r": 7 problems$", result.stdout, re.M)


def test_notes_are_what_was_done_on_purpose(mine: Path) -> None:
    (mine / "90_local.toml").write_text(
        '[[rule]]\nid = "ja-put-off"\noverride = true\nweight = 5\n'
        '[[rule]]\nid = "ja-hire-put-off"\ndisabled = true\n'
        '[[rule]]\nid = "T_new"\nabout = "new"\nkind = "sign"\nweight = 1\nfind = ["ゆめまぼろし"]\n',
        encoding="utf-8",
    )
    (mine / "00_scoring.toml").write_bytes(dict(shipped.rules())["00_scoring.toml"])
    result = run("check", mine)
    notes = [line for line in result.stdout.splitlines() if line.startswith("note: ")]
    assert result.exit_code == 0, result.stderr
    assert f"note: {mine}/00_scoring.toml: takes the place of shipped/00_scoring.toml" in notes
    assert any(re.search(r"90_local\.toml:2: ja-put-off: changes weight of shipped/\w+\.toml:\d+$", n) for n in notes)
    assert any(
        re.search(r"90_local\.toml:6: ja-hire-put-off: drops the rule of shipped/\w+\.toml:\d+$", n) for n in notes
    )
    assert any("T_new: is on probation" in note for note in notes)


RULE = '[[rule]]\nid = "own"\nabout = "own"\n'
SIGN = RULE + 'kind = "sign"\nweight = 1\n'
HINT = RULE + 'kind = "hint"\nweight = 8\n'


def effects(mine: Path, text: str) -> list[str]:
    """What a check of one file alone finds wrong."""
    (mine / "90_local.toml").write_text(text + "\n", encoding="utf-8")
    found = rulecheck.check(rulefolder.gather((mine,), alone=True))
    return [rulepages.finding(problem) for problem in found.problems]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SIGN + 'find = ["ゆめ", "まぼろし", "ゆめ"]', "6:24: own: find: 'ゆめ' stands there a second time"),
        (SIGN + 'find = ["ご訳では", "御わけでは"]', "'御わけでは' stands there already, as 'ご訳では'"),
        (SIGN + 'find = ["ゆめ", "このゆめを"]', "'このゆめを' adds nothing: wherever it stands, 'ゆめ' stands too"),
        (SIGN + 'find = ["credit*", "a credit card"]', "'a credit card' adds nothing"),
        (HINT + 'find = ["見送。またの"]', "goes on behind the end of a sentence"),
        (HINT + 'find = ["ゆめ見送る"]\nunless = ["見送"]', "it can never match"),
        (
            SIGN + 'find = ["ゆめ"]\n' + RULE.replace("own", "two") + 'kind = "guard"\nonly = ["own"]\nfind = ["う"]',
            "the guard has nothing to take back",
        ),
        (
            SIGN + 'find = ["ゆめ"]\n' + SIGN.replace("own", "two") + 'find = ["ゆめ"]',
            "two: find: the rule does what own (",
        ),
    ],
    ids=["twice", "alike", "within", "latin", "beyond", "void", "guard", "rule-twice"],
)
def test_what_can_have_no_effect_is_a_problem(mine: Path, text: str, told: str) -> None:
    (line,) = effects(mine, text)
    assert told in line


@pytest.mark.parametrize(
    "text",
    [
        HINT + 'find = ["ゆめ", "このゆめを"]',  # a guard's reach depends on where evidence ends
        RULE
        + 'kind = "sign"\nweight = { event = -1 }\nfind = ["ゆめ", "このゆめを"]',  # nor how near to it a word stands
        RULE + 'kind = "guard"\nside = "around"\nfind = ["ゆめ", "このゆめを"]',
        SIGN + 'find = ["art", "party"]',  # whole words
        SIGN + 'find = ["a credit", "credit cards"]',
        SIGN + 'find = ["ゆめ…まぼろし", "このゆめ…まぼろし"]',  # the gap is another one
        SIGN + 'find = ["ゆめ「はい。そう」と"]',  # a quotation holds its sentences together
        SIGN + 'find = ["ゆめ。"]',
        HINT + 'find = ["ゆめ見送る", "まぼろし"]\nunless = ["見送"]',
    ],
)
def test_what_may_have_an_effect_is_none(mine: Path, text: str) -> None:
    assert effects(mine, text) == []


WRONG = (
    "[[",
    '"',
    "\\",
    "(",
    "…",
    "{x}",
    "(?=",
    "'",
    "\r",
    "\u2028",
    "\x00",
    "nan",
    "true",
    "=",
    "\n",
    "T_",
    "。",
    "*",
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 6), st.sampled_from(WRONG)), min_size=1, max_size=4))
def test_whatever_is_written_each_problem_has_a_place_and_a_caret_within_it(
    changes: list[tuple[int, int, str]],
) -> None:
    text = GOOD + GOOD.replace("own-phrase", "two").replace("hint", "sign") + "[words]\nx = ['y']\n"
    for at, length, wrong in changes:
        text = text[:at] + wrong + text[at + length :]
    gathered = rulefolder.Gathered((rulefolder.RuleFile("90_local.toml", "90_local.toml", text.encode()),), ())
    found = rulecheck.check(gathered)
    for finding in (*found.problems, *found.notes):
        assert "\n" not in rulepages.finding(finding)
        if finding.span is not None:
            assert finding.source is not None and 0 <= finding.span[0] <= finding.span[1]
        assert len(rulepages.caret(finding).split("\n")) in (1, 2)
    assert bool(found.hash) or found.problems


def test_check_of_a_configuration_and_one_company(config: Path) -> None:
    result = run("check", "--config", config)
    assert result.exit_code == 0
    shared, acme = result.stdout.splitlines()[-2:]
    count = len(shipped.rules())
    assert re.match(rf"{count + 1} files, .*all good", shared) and re.match(
        rf"acme: {count + 2} files, .*all good", acme
    )
    result = run("check", "--config", config, "--company", "acme")
    assert re.search(r"95_acme\.toml:2: own-phrase: changes weight of \S+/mine/90_local\.toml:2", result.stdout)
    result = run("check", "--config", config, "--company", "nobody")
    assert result.exit_code == 1 and "there is no company 'nobody'; expected one of acme" in result.stderr
    assert run("check", "--company", "acme").exit_code == 2
    (config.parent / "mine" / "90_local.toml").write_text("[[rule")
    (config.parent / "acme-rules" / "96_acme.toml").write_text("[[rule")
    result = run("check", "--config", config)
    told = [line for line in result.stderr.splitlines() if line.startswith("relay-mta: ")]
    assert result.exit_code == 1 and [Path(line.split(":")[1]).name for line in told] == [
        *("90_local.toml", "95_acme.toml", "96_acme.toml")
    ]


# --- list, show, explain-phrase -------------------------------------------------------------------------------------


def test_list(mine: Path) -> None:
    (mine / "90_local.toml").write_text(GOOD, encoding="utf-8")
    lines = run("list", "--rules", mine).stdout.splitlines()
    rules = rulefolder.load((mine,))
    assert len(lines) == len(rules.rules) + 1
    assert (
        lines[-1]
        == f"{len(rules.rules)} rules, {rules.signs_count} signs, threshold {rules.threshold:g}, hash {rules.hash}"
    )
    (own,) = [line for line in lines if line.startswith("own-phrase ")]
    assert re.search(rf"hint +8 in new +店長の言い回し +{mine}/90_local\.toml:2$", own)
    guards = run("list", "--kind", "guard", "--json").stdout.splitlines()
    assert guards and all(json.loads(line)["kind"] == "guard" for line in guards)


def test_show(config: Path) -> None:
    shown = run("show", "own-phrase", "--config", config, "--company", "acme").stdout
    assert shown.startswith("own-phrase  hint  3 in new  (")
    assert "  find: パート…お願いできません\n      パート   …   ご願いできません\n" in shown
    assert "  gap: … stands for up to 25 characters\n" in shown
    assert re.search(r"told by\n +\S+90_local\.toml:2  defines it\n +\S+95_acme\.toml:2  changes weight\n", shown)


def test_show_every_shipped_rule() -> None:
    asked = Rules(rulefolder.gather())
    for rule in asked.all():
        lines = list(rulepages.shown(asked.show(rule.id)))
        assert lines[0].startswith(f"{rule.id}  {rule.kind}") and len(lines) > 2


def test_show_a_dropped_rule_and_none(mine: Path) -> None:
    (mine / "90_local.toml").write_text('[[rule]]\nid = "ja-put-off"\ndisabled = true\n')
    assert run("show", "ja-put-off", "--rules", mine).stdout.startswith("ja-put-off is not in force: it was dropped\n")
    result = run("show", "nothing-of-it")
    assert result.exit_code == 1 and "there is no rule 'nothing-of-it'" in result.stderr


def test_explain_phrase_shows_the_folded_form_and_who_meets_it(mine: Path) -> None:
    (mine / "90_local.toml").write_text(GOOD, encoding="utf-8")
    said = run("explain-phrase", "　ﾊﾟｰﾄの御仕事は 今回お願い出来ません。", "--rules", mine).stdout
    assert "as a phrase:   パートのご仕ことは今回ご願いできません。\n" in said
    assert re.search(r"  own-phrase  hint  8 in new\n      find: パート…お願いできません\n", said)
    said = run("explain-phrase", "採用を(お|").stdout
    assert "as a phrase:   cannot be read: '(' without its closing bracket" in said
    assert "no rule finds anything in it" in run("explain-phrase", "qwertyuiop").stdout
    (mine / "91_signs.toml").write_text('[signs]\n"qwertyuiop" = -1.5\n[signs-of-subject]\n"qwertyuiop" = 2\n')
    said = run("explain-phrase", "Qwertyuiop!", "--rules", mine).stdout
    assert "  -1.5  sign  qwertyuiop\n" in said and "  +2  sign of subject  qwertyuiop\n" in said
    said = run("explain-phrase", "採用を見送らせていただく場合がございます").stdout
    assert "(voided, or taken back, by other words in it)" in said
    assert run("explain-phrase", " ").exit_code == 2


def test_broken_rules_are_lines_for_every_question(mine: Path) -> None:
    (mine / "90_local.toml").write_text("[[rule")
    for arguments in (["list"], ["show", "ja-put-off"], ["explain-phrase", "x"], ["measure", mine]):
        result = run(*arguments, "--rules", mine)
        assert result.exit_code == 1 and result.stdout == ""
        assert result.stderr.startswith(f"relay-mta: {mine}/90_local.toml:1:")


# --- measure --------------------------------------------------------------------------------------------------------


MAILS = {
    "found": ("rejection", "選考結果", "選考の結果、残念ながら今回は採用を見送らせていただくことになりました。"),
    "missed": ("rejection", "ご連絡", "またの機会に。\x1b[31m"),
    "right": ("other", "打ち合わせ", "来週の打ち合わせの件、承知しました。"),
    "flagged": ("other", "選考の件", "選考の結果、ゆめまぼろしとなりました。"),
    "unsure": ("other", "選考の件", "選考の結果、ゆめまぼろしとなりました。"),
}  # fmt: skip
DREAM = GOOD.replace("パート…お願いできません", "ゆめまぼろし").replace('"unclear"', '"decline"').replace("= 8", "= 20")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    folder = tmp_path / "mails"
    folder.mkdir()
    labels: dict[str, Any] = {}
    for name, (label, subject, body) in MAILS.items():
        head = "From: a@acme.example.jp\nTo: b@mail.example\nContent-Type: text/plain; charset=utf-8\n"
        (folder / f"{name}.eml").write_text(f"{head}Subject: {subject}\n\n{body}\n", encoding="utf-8")
        tier = "unsure" if name == "unsure" else "written"
        labels[name] = {"label": label, "lang": "ja", "kind": f"kind-{name}", "tier": tier}
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


def test_measure_for_a_person(labelled: Path, mine: Path) -> None:
    (mine / "90_local.toml").write_text(re.sub("(?m)^(ok|fail) = .*$", "", DREAM), encoding="utf-8")
    result = run("measure", labelled, "--rules", mine, "--against", mine)
    assert result.exit_code == 0, result.stderr
    said = result.stdout
    figures = "found 1 of 2 rejections (50.0 %), flagged 1 of 2 others, precision 50.0 %"
    assert said.startswith(f"rules {rulefolder.load((mine,)).hash}, threshold 10: {figures}\n")
    assert f"  lang ja            {figures}\n" in said and "  kind kind-missed   found 0 of 1" in said
    assert "tier unsure" not in said
    assert (
        re.search(r"^  →    10  found 1 of 2", said, re.M)
        and len(re.findall(r"^ .{5,10}found \d of 2 rej", said, re.M)) == 9
    )
    assert "FLAGGED flagged, ja, written, kind-flagged: decline:own-phrase (score 2" in said
    assert re.search(r"subject: 選考の件\n +\+20  own-phrase  in new: 選考の結果、ゆめまぼろし", said)
    assert "MISSED missed, ja, written, kind-missed: no-decline (score 0)" in said
    assert "\x1b" not in said
    assert "  0 better, 0 worse, 0 decided alike for another reason" in said


def test_measure_two_rule_sets_as_json(labelled: Path, mine: Path, tmp_path: Path) -> None:
    (mine / "90_local.toml").write_text("[scoring]\nthreshold = 10\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "90_local.toml").write_text(DREAM, encoding="utf-8")
    found = json.loads(run("measure", labelled, "--rules", mine, "--against", other, "--json").stdout)
    assert (found["found"], found["rejections"], found["flagged"], found["others"]) == (1, 2, 0, 2)
    assert found["precision"] == 1.0 and found["recall"] == 0.5
    assert found["against"]["flagged"] == 1 and found["groups"]["lang:ja"]["others"] == 2
    assert [wrong["id"] for wrong in found["wrong"]] == ["missed"]
    assert {each["id"]: each["turned"] for each in found["differences"]} == {"flagged": "better"}
    back = json.loads(run("measure", labelled, "--rules", other, "--against", mine, "--json").stdout)
    assert {each["id"]: each["turned"] for each in back["differences"]} == {"flagged": "worse"}


def test_measure_with_plain_labels_alone(labelled: Path, mine: Path, tmp_path: Path) -> None:
    labels = tmp_path / "mine.json"
    labels.write_text(json.dumps({name: label for name, (label, _, _) in MAILS.items()}))
    (mine / "90_local.toml").write_text(DREAM, encoding="utf-8")
    result = run("measure", labelled, "--labels", labels, "--rules", mine, "--alone", "--json")
    found = json.loads(result.stdout)
    assert (found["found"], found["flagged"], found["others"], found["groups"]) == (0, 2, 3, {})
    assert run("measure", labelled, "--alone").exit_code == 2


def test_a_sweep_is_what_another_threshold_would_say(labelled: Path) -> None:
    mails = rulemeasure.read(labelled)
    rules = rulefolder.load()
    for threshold, counts in rulemeasure.measure(rules, mails).sweep[::4]:
        files = [*shipped.rules(), ("90_local.toml", f"[scoring]\nthreshold = {threshold}\n".encode())]
        assert rulemeasure.measure(RuleSet.parse(files), mails).counts == counts


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (None, "labels.json: cannot be read: No such file or directory"),
        ("{", "labels.json: is not JSON that can be read"),
        ("[]", "labels.json: is not an object"),
        ("{}", "labels.json: there are no labels"),
        ('{"found": "spam"}', 'labels.json: found: expected "rejection" or "other"'),
        ('{"found": {"kind": "x"}}', 'labels.json: found: expected "rejection" or "other"'),
        ('{"gone": "other"}', "gone.eml: cannot be read: No such file or directory"),
    ],
)
def test_labels_that_cannot_be_used(labelled: Path, labels: str | None, told: str) -> None:
    if labels is None:
        (labelled / "labels.json").unlink()
    else:
        (labelled / "labels.json").write_text(labels)
    result = run("measure", labelled)
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 1 and line.startswith("relay-mta: ") and told in line


# --- and the other commands follow ---------------------------------------------------------------------------------


def test_check_of_a_mail_takes_its_companys_rules(config: Path, tmp_path: Path) -> None:
    subject, body = MAILS["found"][1:]
    path = tmp_path / "mail.eml"
    head = "From: a@acme.example.jp\nTo: b@mail.example\nContent-Type: text/plain; charset=utf-8\n"
    path.write_text(f"{head}Subject: {subject}\n\n{body}\n", encoding="utf-8")

    def verdict(*arguments: str | Path) -> str:
        result = CliRunner().invoke(root, ["check", "--json", *map(str, arguments), str(path)])
        assert result.exit_code == 0, result.output
        return str(json.loads(result.stdout)["verdict"])

    assert verdict() == "rejection" == verdict("--config", config)
    (tmp_path / "acme-rules" / "96_acme.toml").write_text("[scoring]\nthreshold = 99\n")
    assert verdict("--config", config) == "none"


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_of_a_relay_that_does_not_run(config: Path) -> None:
    result = run("status", "--config", config)
    assert result.exit_code == 1
    assert re.fullmatch(r"relay-mta: 127\.0\.0\.1:\d+: no relay answers here: .*\n", result.stderr)


def test_status_of_a_running_relay(tmp_path: Path) -> None:
    """The whole story of a relay in a process of its own: current, stale, mended, and read again on SIGHUP."""
    relay = Relay(tmp_path, upstream_port=free_port())
    folder = tmp_path / "rules"
    folder.mkdir()
    local = folder / "90_local.toml"
    local.write_text(GOOD, encoding="utf-8")
    text = relay.config.read_text("utf-8").replace("[[company]]", '[rules]\ndirectory = "rules"\n\n[[company]]', 1)
    relay.config.write_text(text, "utf-8")

    def status() -> tuple[int, str]:
        done = run("status", "--config", relay.config)
        return done.exit_code, done.output

    def until(told: str) -> tuple[int, str]:
        deadline = time.monotonic() + 10
        while told not in (found := status())[1]:
            assert time.monotonic() < deadline, found
        return found

    try:
        relay.start()
        digest = rulefolder.load((folder,)).hash
        code, said = status()
        assert code == 0 and re.fullmatch(rf"rules {digest}, in force since \S+\+00:00: current\n", said)
        local.write_text(GOOD.replace("weight = 8", 'weight = "8"'), encoding="utf-8")
        code, said = until("stale")
        assert code == 1 and f"rules {digest}, in force since" in said
        assert f"1 problems in newer rule files; the last good rules stay in force:\n  {local}:5: own-phrase" in said
        local.write_text(GOOD.replace("weight = 8", "weight = 9"), encoding="utf-8")
        code, said = until("current")
        assert code == 0 and f"rules {rulefolder.load((folder,)).hash}," in said
        assert relay.process is not None
        os.kill(relay.process.pid, signal.SIGHUP)
        deadline = time.monotonic() + 5
        while relay.said().count("event=rules-loaded") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert relay.stop() == 0
        assert "Traceback" not in relay.said()
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()
