"""Which rule files are in force, in which order, and what is said of those that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from relay_mta import rulefolder, shipped
from relay_mta.core.errors import Problem, RuleError
from relay_mta.core.rulefile import LARGEST_FILE
from relay_mta.core.rules import RuleSet

pytestmark = pytest.mark.usefixtures("rules_parsed_once")

SHIPPED = [name for name, _ in shipped.rules()]
RULE = '[[rule]]\nid = "own"\nabout = "own"\nkind = "decline"\nweight = 20\nfind = ["ゆめまぼろし"]\n'


def folder(place: Path, name: str = "rules", **files: str | bytes) -> Path:
    """A folder of rule files; `_` in a name stands for itself, the ending is added."""
    made = place / name
    made.mkdir()
    for stem, text in files.items():
        (made / f"{stem}.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return made


def problems(*folders: Path) -> list[Problem]:
    with pytest.raises(RuleError) as caught:
        rulefolder.load(folders)
    assert all(len(str(problem)) < 300 and "\n" not in str(problem) for problem in caught.value.problems)
    return list(caught.value.problems)


# --- how files go together ------------------------------------------------------------------------------------------


def test_without_folders_the_shipped_files_alone() -> None:
    gathered = rulefolder.gather()
    assert [each.name for each in gathered.files] == SHIPPED == sorted(SHIPPED)
    assert all(each.place == f"shipped/{each.name}" and each.replaces is None for each in gathered.files)
    assert rulefolder.load().hash == RuleSet.parse(shipped.rules()).hash


def test_a_folder_with_one_local_file_adds_it(tmp_path: Path) -> None:
    own = folder(tmp_path, **{"90_local": RULE})
    gathered = rulefolder.gather((own,))
    assert [each.name for each in gathered.files] == [*SHIPPED, "90_local.toml"]
    rules = rulefolder.load((own,))
    assert rules.rules["own"].file == str(own / "90_local.toml") and len(rules.rules) > 50
    assert rules.judge_text("", ["ゆめまぼろし。"]).kind == "rejection"


def test_order_is_by_name_over_all_folders(tmp_path: Path) -> None:
    one = folder(tmp_path, "one", **{"90_local": "", "12_early": ""})
    two = folder(tmp_path, "two", **{"91_more": "", "05_first": ""})
    names = [each.name for each in rulefolder.gather((one, two)).files]
    assert names == sorted([*SHIPPED, "90_local.toml", "12_early.toml", "91_more.toml", "05_first.toml"])


def test_a_file_of_a_shipped_name_replaces_that_file_alone(tmp_path: Path) -> None:
    own = folder(tmp_path, **{"00_scoring": "[scoring]\nthreshold = 77\n"})
    gathered = rulefolder.gather((own,))
    assert [each.name for each in gathered.files] == SHIPPED
    assert gathered.files[0].place == str(own / "00_scoring.toml")
    assert gathered.files[0].replaces == "shipped/00_scoring.toml"
    rules = rulefolder.load((own,))
    assert rules.threshold == 77 and len(rules.rules) == len(rulefolder.load().rules)


def test_an_empty_file_takes_a_shipped_one_out(tmp_path: Path) -> None:
    own = folder(tmp_path, **{"25_decline_en": "", "90_local": RULE})
    left = rulefolder.gather((own,))
    assert left.problems == () and left.files[SHIPPED.index("25_decline_en.toml")].content == b""


def test_a_companys_folder_comes_on_top(tmp_path: Path) -> None:
    everybody = folder(tmp_path, "all", **{"90_local": RULE, "95_more": ""})
    own = folder(tmp_path, "acme", **{"90_local": RULE.replace("20", "30")})
    rules = rulefolder.load((everybody, own))
    assert rules.rules["own"].weights["new"] == 30 and rules.rules["own"].file == str(own / "90_local.toml")
    assert rulefolder.gather((everybody, own)).files[-2].replaces == str(everybody / "90_local.toml")


def test_a_whole_copy_of_the_shipped_rules_is_the_shipped_rules(tmp_path: Path) -> None:
    own = tmp_path / "rules"
    own.mkdir()
    for name, content in shipped.rules():
        (own / name).write_bytes(content)
    assert rulefolder.load((own,)).hash == rulefolder.load().hash
    alone = rulefolder.gather((own,), alone=True)
    assert rulefolder.parse(alone).hash == rulefolder.load().hash
    assert all(each.replaces is None for each in alone.files)


def test_what_is_no_rule_file_is_passed_over(tmp_path: Path) -> None:
    own = folder(tmp_path, **{"90_local": RULE})
    for name in ("README.md", "90_local.toml~", ".#91_emacs.toml", "92_draft.toml.tmp", "93_saved.toml.rpmsave"):
        (own / name).write_text("not [ TOML")
    (own / ".94_lock.toml").symlink_to("nobody@nowhere:1")
    (own / "archive").mkdir()
    assert [each.name for each in rulefolder.gather((own,)).files] == [*SHIPPED, "90_local.toml"]


def test_links_are_followed(tmp_path: Path) -> None:
    """As in a mounted configuration volume: the files are links into a folder whose name changes."""
    own = folder(tmp_path)
    data = folder(tmp_path, "..data-1", **{"90_local": RULE})
    (own / "90_local.toml").symlink_to(data / "90_local.toml")
    assert "own" in rulefolder.load((own,)).rules


# --- what cannot be read --------------------------------------------------------------------------------------------


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def nowhere(path: Path) -> None:
    path.symlink_to("not-there.toml")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unreadable(path: Path) -> None:
    path.symlink_to("/proc/self/mem")  # also root is told that it cannot be read


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 << 20)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (circle, "cannot be read: its symbolic links lead in a circle"),
        (nowhere, "cannot be read: No such file or directory"),
        (pipe, "is not a file; expected TOML"),
        (Path.mkdir, "cannot be read: Is a directory"),
        (unreadable, "cannot be read: Input/output error"),
        (large, f"has 52428800 bytes or more; a rule file has at most {LARGEST_FILE}"),
        (endless, "is not a file; expected TOML"),
    ],
    ids=["circle", "nowhere", "pipe", "folder", "unreadable", "50-MB", "endless"],
)
def test_one_clear_line_for_a_file_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
    own = folder(tmp_path, **{"90_local": RULE})
    make(own / "95_bad.toml")
    assert [str(problem) for problem in problems(own)] == [f"{own}/95_bad.toml: {told}"]


@pytest.mark.parametrize(
    ("content", "line", "told"),
    [
        (b'[[rule]]\nid = "\x90\xdb\x91\x97"\n', 2, "not UTF-8"),
        (b'[[rule]]\nid = "half', 2, "not TOML"),
        ((RULE * 2).encode(), 8, "used twice"),
        (RULE.replace("20", '"ten"').encode(), 5, "expected a number"),
        (RULE.replace("20", "nan").encode(), 5, "expected a number"),
        (RULE.replace("ゆめ", "(ゆめ").encode(), 2, "without its closing bracket"),
        (b"#" * (LARGEST_FILE + 1), None, "at most"),
    ],
    ids=["not-utf-8", "half-written", "id-twice", "weight-text", "weight-nan", "bracket", "1-MiB"],
)
def test_one_clear_line_for_what_a_file_says_wrongly(
    tmp_path: Path, content: bytes, line: int | None, told: str
) -> None:
    own = folder(tmp_path, **{"90_local": content})
    (problem,) = problems(own)
    assert problem.file == str(own / "90_local.toml") and problem.line == line and told in problem.text


def test_a_folder_without_rule_files_or_none_at_all(tmp_path: Path) -> None:
    own = folder(tmp_path)
    (own / "README.md").write_text("nothing")
    (problem,) = problems(own)
    assert str(problem).startswith(f"{own}: there are no rule files in this folder")
    (problem,) = problems(tmp_path / "gone")
    assert str(problem) == f"{tmp_path}/gone: the rules cannot be read: No such file or directory"


def test_everything_at_once_and_no_echo_of_it(tmp_path: Path) -> None:
    """A file that cannot be read does not take the shipped one of its name with it: nothing else seems wrong for it."""
    own = folder(tmp_path, **{"90_local": RULE.replace("20", '"ten"'), "91_more": b"\xff"})
    circle(own / "10_words_ja.toml")
    assert [Path(problem.file).name for problem in problems(own)] == [
        *("10_words_ja.toml", "90_local.toml", "91_more.toml"),
    ]


def test_a_name_that_is_no_text_can_be_told(tmp_path: Path) -> None:
    own = folder(tmp_path)
    Path(os.fsdecode(os.fsencode(own) + b"/9\xff.toml")).write_text("[[")
    (problem,) = problems(own)
    str(problem).encode("utf-8")


# --- the stamp ------------------------------------------------------------------------------------------------------


def test_a_stamp_tells_every_change(tmp_path: Path) -> None:
    own = folder(tmp_path, **{"90_local": RULE})
    seen = [rulefolder.stamp((own,))]
    assert rulefolder.stamp((own,)) == seen[0]

    def changed() -> bool:
        seen.append(rulefolder.stamp((own,)))
        return seen[-1] not in seen[:-1]

    (own / "90_local.toml").write_text(RULE + "\n")
    assert changed()
    (own / "91_more.toml").write_text("")
    assert changed()
    circle(own / "92_circle.toml")
    assert changed()
    (own / "90_local.toml").rename(own / "93_local.toml")
    assert changed()
    own.rename(tmp_path / "away")
    assert changed()
