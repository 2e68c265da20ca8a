"""`relay-mta check`: what it prints, what it writes, and that one bad file does not stop the others."""

from __future__ import annotations

import io
import json
import os
import re
import sys
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

pytestmark = pytest.mark.usefixtures("rules_parsed_once")

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


# --- what the relay does with it ------------------------------------------------------------------------------------


RECEIVED = b"Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0900\r\n"


def verdict(result: Result) -> tuple[str, str]:
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    return found["verdict"], found["reason"]


@pytest.mark.parametrize(("end", "mended"), [(b"\r", b" "), (b"\n", b"\r\n")])
def test_bare_line_ends_are_mended_as_the_relay_mends_them(tmp_path: Path, end: bytes, mended: bytes) -> None:
    raw = REJECTION.replace(b"\r\n\r\n", b"\r\n\r\nx" + end + b"y\r\n", 1)
    path = mail(tmp_path, "bare.eml", raw)
    assert verdict(check(path, "--json", "--out", tmp_path / "out")) == ("exempt", "bare-newline")
    assert (tmp_path / "out" / "bare.1.eml").read_bytes() == raw.replace(b"x" + end + b"y", b"x" + mended + b"y")


@pytest.mark.parametrize("raw", [REJECTION, PLAIN], ids=["rejection", "harmless"])
def test_what_proves_whose_a_mail_is_does_not_go_out(tmp_path: Path, raw: bytes) -> None:
    example = Path(__file__).resolve().parents[2] / "config.example.toml"
    keys = 'proof_header = "X-Acme-Proof"\nproof_value = { env = "NOT_NEEDED_HERE" }\n'
    config = tmp_path / "config.toml"
    config.write_text(example.read_text("utf-8").replace("[[company]]\n", f"[[company]]\n{keys}", 1), encoding="utf-8")
    path = mail(tmp_path, "proven.eml", b"X-Acme-Proof: canary\r\n" + raw)
    assert check(path, "--out", tmp_path / "out", "--config", config).exit_code == 0
    written = [copy.read_bytes() for copy in (tmp_path / "out").iterdir()]
    assert written and all(b"canary" not in copy for copy in written)


def test_a_mail_that_the_relay_refuses_as_a_loop_is_no_rejection(tmp_path: Path) -> None:
    path = mail(tmp_path, "loop.eml", RECEIVED * 50 + REJECTION)
    assert verdict(check(path, "--json", "--out", tmp_path / "out")) == ("exempt", "loop")
    assert not list((tmp_path / "out").iterdir())
    found = json.loads(check(path, "--json").stdout)["recipients"]
    assert found and all(each["copy"] == 0 and not each["relayed"] for each in found)
    assert "nothing, as the relay refuses the mail" in check(path).stdout
    assert verdict(check(mail(tmp_path, "near.eml", RECEIVED * 49 + REJECTION), "--json"))[0] == "rejection"


def test_limits_of_the_configuration_count(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / "config.example.toml"
    text = re.sub(r"(?ms)^\[limits\].*?(?=^\[|\Z)", "", example.read_text("utf-8"))
    config = tmp_path / "config.toml"
    config.write_text(text + '\n[limits]\nmax_size = "2KiB"\nmax_received = 2\n', encoding="utf-8")
    big, near = (mail(tmp_path, f"{n}.eml", PLAIN + b"x" * (n - len(PLAIN) - 2) + b"\r\n") for n in (2049, 2048))
    assert verdict(check(big, "--json", "-c", config)) == ("exempt", "too-big")
    assert verdict(check(near, "--json", "-c", config))[1] != "too-big"
    assert verdict(check(big, "--json"))[1] != "too-big"
    assert verdict(check(mail(tmp_path, "loop.eml", RECEIVED * 2 + PLAIN), "--json", "-c", config))[1] == "loop"


# --- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        *("", " ", "not an address", "HR <boss@acme.example.jp>", "<a@b.example>", "a@b.example, c@d.example", "@b"),
        *("a@", "a@b.example\r\nRCPT TO:<c@d.example>", "a@b.example\0", "all: a@b.example;", "a@\u202eb.example"),
    ],
)
def test_an_invalid_to_is_wrong_usage(tmp_path: Path, to: str) -> None:
    result = check(mail(tmp_path, "a.eml"), "--json", "--to", to)
    assert result.exit_code == 2 and not result.stdout


def test_a_to_beyond_ascii_is_an_address(tmp_path: Path) -> None:
    found = json.loads(check(mail(tmp_path, "a.eml"), "--json", "--to", "太郎@mail.example").stdout)
    assert [each["address"] for each in found["recipients"]] == ["太郎@mail.example"]


def test_one_bad_argument_does_not_end_the_run(tmp_path: Path) -> None:
    good = mail(tmp_path, "good.eml")
    (tmp_path / "loop.eml").symlink_to("loop.eml")
    bad = [tmp_path / "loop.eml", "a" * 5000, "b/" * 3000, tmp_path / "good.eml" / "below"]
    for options in ([], ["--out", tmp_path / "out"]):
        result = check(*bad, good, "--json", *options)
        assert result.exit_code == 1
        assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == [str(good)]
        assert len(result.stderr.splitlines()) == len(bad) and "internal error" not in result.stderr


def test_standard_input_is_read_once() -> None:
    result = check("-", "-", "--json", stdin=PLAIN)
    assert result.exit_code == 1
    assert [json.loads(line)["file"] for line in result.stdout.splitlines()] == ["-"]
    assert result.stderr == "relay-mta: -: is given twice; standard input can be read only once\n"


def test_a_folder_finds_eml_in_capitals(tmp_path: Path) -> None:
    for name in ("a/MAIL.EML", "b.Eml", "c.eml.txt"):
        mail(tmp_path, name)
    found = [json.loads(line)["file"] for line in check(tmp_path, "--json").stdout.splitlines()]
    assert found == [str(tmp_path / "a" / "MAIL.EML"), str(tmp_path / "b.Eml")]


def test_a_check_can_be_repeated_into_the_same_folder(tmp_path: Path) -> None:
    path, out = mail(tmp_path, "a.eml"), tmp_path / "out"
    mail(out, "a.1.eml", b"of yesterday")
    assert check(path, "--out", out).exit_code == 0
    assert (out / "a.1.eml").read_bytes() == PLAIN
    assert "written over" in " ".join(check("--help").stdout.split())


def test_an_input_is_never_written_over_by_another_name(tmp_path: Path) -> None:
    path, out = mail(tmp_path, "in/a.eml"), tmp_path / "out"
    kept = mail(tmp_path, "in/kept.eml", PLAIN + b"kept\r\n")
    out.mkdir()
    os.link(kept, out / "a.1.eml")
    result = check(path, kept, "--out", out)
    assert result.exit_code == 1 and "is one of the mails to check" in result.stderr
    assert kept.read_bytes() == PLAIN + b"kept\r\n"
    assert (out / "kept.1.eml").exists()


# --- outputs that lack characters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "euc_jp"])
@pytest.mark.parametrize("option", [[], ["--json"], ["--diff"]])
def test_an_output_that_lacks_the_characters_gets_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, option: list[str]
) -> None:
    """A log pipe under LANG=C, an old console."""
    path = mail(tmp_path, "\U00020bb7髙.eml", REJECTION.replace(b"To: ", b"To: =?utf-8?B?8KCut+mrmQ==?= "))
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    with pytest.raises(SystemExit) as ended:
        root.main(["check", str(path), *option])
    sys.stdout.flush()
    assert ended.value.code == 0
    text = written.getvalue().decode(encoding)
    assert "rejection" in text and "candidate" in text
    if option == ["--json"]:
        assert json.loads(text)["file"] == str(path)
