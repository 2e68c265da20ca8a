"""`relay-mta check`: what it prints, what it writes, and that one bad file does not stop the others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from relay_mta import shipped
from relay_mta.cli import report
from relay_mta.cli.root import root
from relay_mta.core.verdict import Hit
from relay_mta.examine import Examination, Reached

PLAIN = b"From: a@acme.example.jp\r\nTo: b@mail.example\r\nSubject: lunch\r\n\r\nAt noon?\r\n"
REJECTION = dict(shipped.samples())["02-rejection-ja-outlook.eml"]

FOUND = Examination(
    verdict="rejection",
    reason="score",
    score=9.0,
    threshold=5.0,
    hits=(Hit("R1", 4.5, "new", "誠に残念ながら、\x1b[31m今回は…\x9b\u202e"),),
    recipients=(Reached("c@mail.example", "candidate", True, 1), Reached("d@x.example", "cc", False, 2)),
    copies=((b"a",), (b"b",)),
    texts_before=(("text/plain (part 1)", "one\r\ntwo\r\n"), ("text/html (part 2)", "<p>\r\n")),
    texts_after=(("text/plain (part 1)", "one\r\n\x1b]0;x\x07link\r\ntwo\r\n"), ("text/html (part 2)", "<p>\r\n")),
)


def check(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(root, ["check", *map(str, arguments)], input=stdin)


def mail(folder: Path, name: str, raw: bytes = PLAIN) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


# --- printing -------------------------------------------------------------------------------------------------------


def test_json_has_exactly_the_public_keys() -> None:
    line = report.as_json("mail.eml", FOUND)
    assert json.loads(line) == {
        "file": "mail.eml",
        "verdict": "rejection",
        "reason": "score",
        "score": 9.0,
        "threshold": 5.0,
        "hits": [{"rule": "R1", "score": 4.5, "part": "new", "text": "誠に残念ながら、\x1b[31m今回は…\x9b\u202e"}],
        "recipients": [
            {"address": "c@mail.example", "role": "candidate", "relayed": True, "copy": 1},
            {"address": "d@x.example", "role": "cc", "relayed": False, "copy": 2},
        ],
    }
    assert line.startswith('{"file": ') and "誠に残念ながら" in line and "\n" not in line


@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_survives_json_on_one_harmless_line(text: str) -> None:
    line = report.as_json(text, FOUND)
    assert json.loads(line)["file"] == text
    line.encode("utf-8")
    assert len(line.splitlines()) == 1 and not re.search(r"[\x00-\x1f\x7f-\x9f\u202e]", line)


def test_a_person_sees_why_and_who() -> None:
    shown = report.for_person("mail.eml", FOUND).plain
    assert (
        "rejection" in shown and "score 9, threshold 5" in shown and "誠に残念ながら" in shown and "+4.5  R1" in shown
    )
    assert re.search(r"c@mail\.example  candidate: a copy with a link of their own \(copy 1\)", shown)
    assert re.search(r"d@x\.example  cc: the mail as it is \(copy 2\)", shown)


def test_a_difference_shows_what_was_added_alone() -> None:
    lines = report.difference("mail.eml", FOUND).plain.splitlines()
    assert [line for line in lines if line.startswith("+") and not line.startswith("+++")] == ["+\ufffd]0;x\ufffdlink"]
    assert not [line for line in lines if line.startswith("-") and not line.startswith("---")]
    assert not any("part 2" in line for line in lines)


@pytest.mark.parametrize("text", [report.for_person("\x1b[2Jx", FOUND), report.difference("\x1b[2Jx", FOUND)])
def test_a_terminal_obeys_nothing(text: Text) -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text.plain)


# --- the command ----------------------------------------------------------------------------------------------------


def test_json_of_files_and_folders(tmp_path: Path) -> None:
    mail(tmp_path, "box/b.eml")
    mail(tmp_path, "box/a/deep.eml", REJECTION)
    mail(tmp_path, "box/notes.txt", b"not a mail")
    single = mail(tmp_path, "single")
    result = check(tmp_path / "box", single, "--json")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(each["file"]).name for each in found] == ["deep.eml", "b.eml", "single"]
    assert [each["verdict"] for each in found] == ["rejection", "none", "none"]
    assert found[0]["score"] >= found[0]["threshold"] and found[0]["hits"]


def test_people_get_the_sentence_and_the_difference(tmp_path: Path) -> None:
    result = check(mail(tmp_path, "a.eml", REJECTION), "--diff")
    assert result.exit_code == 0, result.output
    assert "rejection" in result.stdout and "candidate" in result.stdout
    assert re.search(r"(?m)^\+.*/r/[a-z2-7]{26}", result.stdout)
    untouched = check(mail(tmp_path, "b.eml"), "--diff").stdout
    assert "@@" not in untouched and "none" in untouched


def test_out_writes_every_copy_and_untouched_mails_too(tmp_path: Path) -> None:
    plain, rejection = mail(tmp_path, "in/plain.eml"), mail(tmp_path, "in/no.eml", REJECTION)
    out = tmp_path / "new" / "out"
    result = check(plain, rejection, "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["no.1.eml", "plain.1.eml"]
    assert (out / "plain.1.eml").read_bytes() == PLAIN
    spliced = (out / "no.1.eml").read_bytes()
    assert spliced != REJECTION and len(spliced) > len(REJECTION)


def test_one_name_in_two_folders_is_two_outputs(tmp_path: Path) -> None:
    mail(tmp_path, "in/a/mail.eml", PLAIN)
    mail(tmp_path, "in/b/mail.eml", PLAIN.replace(b"noon", b"one"))
    mail(tmp_path, "in/mail-2.eml", PLAIN.replace(b"noon", b"two"))
    out = tmp_path / "out"
    assert check(tmp_path / "in", "--out", out).exit_code == 0
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len(written) == 3 and len(set(written.values())) == 3


def test_an_input_is_never_written_over(tmp_path: Path) -> None:
    mail(tmp_path, "mail.eml")
    victim = mail(tmp_path, "mail.1.eml", PLAIN.replace(b"noon", b"one"))
    before = victim.read_bytes()
    result = check(tmp_path, "--out", tmp_path)
    assert result.exit_code == 1 and "is one of the mails to check" in result.stderr
    assert victim.read_bytes() == before


def test_lf_files_and_stdin_are_read_as_smtp_would_carry_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = check("-", mail(tmp_path, "lf.eml", PLAIN.replace(b"\r\n", b"\n").rstrip()), "--out", out, stdin=PLAIN)
    assert result.exit_code == 0, result.output
    assert (out / "stdin.1.eml").read_bytes() == (out / "lf.1.eml").read_bytes() == PLAIN
    assert json.loads(check("-", "--json", stdin=PLAIN).stdout)["file"] == "-"


def test_to_sets_the_envelope(tmp_path: Path) -> None:
    path = mail(tmp_path, "a.eml", REJECTION)
    result = check(path, "--json", "--to", "x@other.example", "--to", "y@other.example")
    recipients = json.loads(result.stdout)["recipients"]
    assert [each["address"] for each in recipients] == ["x@other.example", "y@other.example"]


def test_trouble_with_one_file_does_not_stop_the_others(tmp_path: Path) -> None:
    good, empty = mail(tmp_path, "good.eml"), mail(tmp_path, "empty.eml", b"\n")
    (tmp_path / "folder").mkdir()
    result = check(tmp_path / "missing.eml", tmp_path / "folder", empty, good, "--json")
    assert result.exit_code == 1
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [str(good)]
    assert result.stderr.splitlines() == [
        f"relay-mta: {tmp_path}/missing.eml: there is no such file",
        f"relay-mta: {tmp_path}/folder: there are no .eml files in this folder",
        f"relay-mta: {empty}: is empty; expected a mail",
    ]


def test_json_and_diff_do_not_go_together(tmp_path: Path) -> None:
    assert check(mail(tmp_path, "a.eml"), "--json", "--diff").exit_code == 2


def test_an_out_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    path = mail(tmp_path, "a.eml")
    result = check(path, "--out", path / "below")
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1


def test_a_configuration_names_the_company(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / "config.example.toml"
    path = mail(tmp_path, "a.eml", REJECTION)
    found = json.loads(check(path, "--json", "--config", example).stdout)
    assert found["verdict"] == "rejection" and any(each["relayed"] for each in found["recipients"])
