"""`relay-mta users`: who may log in is changed with one command, and every mistake is one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay_mta.cli.root import root
from relay_mta.users import LONGEST, UserFile, read
from tests.e2e.process import environment

CONFIG = """\
hostname = "relay.example.jp"
[[listener]]
address = "127.0.0.1:2525"
auth_in_clear = true
[web]
base_url = "https://relay.example.jp"
[[company]]
id = "acme"
name = "Acme"
domains = ["acme.example.jp"]
auth = "users"
upstream = { host = "smtp.example.jp" }
agency = { name = "Agency", url = "https://agency.example" }
[[company]]
id = "beta"
name = "Beta"
domains = ["beta.example.jp"]
clients = ["10.0.0.0/8"]
upstream = { host = "smtp.example.jp" }
agency = { name = "Agency", url = "https://agency.example" }
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def run(config: Path, *arguments: str, typed: str | bytes = "canary\n") -> Result:
    return CliRunner().invoke(root, ["users", *arguments, "--config", str(config)], input=typed)


def complaint(result: Result) -> str:
    """The one line of an error, without the configuration's folder."""
    assert result.exit_code == 1 and result.stdout == "" and "Traceback" not in result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("relay-mta: ") and "canary" not in line and "internal error" not in line
    return line.removeprefix("relay-mta: ")


async def test_add_passwd_list_remove(config: Path) -> None:
    file = config.parent / "users-acme"
    known = UserFile(file)
    done = run(config, "add", "acme", "HR@Acme.example.jp")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "hr@acme.example.jp may log in as acme\n")
    assert await known.verify("hr@acme.example.jp", b"canary")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "canary" not in file.read_text()

    assert run(config, "add", "acme", "採用", typed="ひみつ\r\n").exit_code == 0
    assert await known.verify("採用", "ひみつ".encode())
    done = run(config, "list", "acme")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "hr@acme.example.jp\n採用\n", "")

    before = read(file)["採用"]
    done = run(config, "passwd", "acme", "hr@ACME.example.jp", typed=" new one ")
    assert (done.exit_code, done.stderr) == (0, "hr@acme.example.jp has another password\n")
    assert await known.verify("hr@acme.example.jp", b" new one ")  # blanks are part of it
    assert not await known.verify("hr@acme.example.jp", b"canary")
    assert read(file)["採用"] == before

    done = run(config, "remove", "acme", "HR@acme.example.jp")
    assert (done.exit_code, done.stderr) == (0, "hr@acme.example.jp may not log in any more\n")
    assert not await known.verify("hr@acme.example.jp", b" new one ")
    assert run(config, "list", "acme").stdout == "採用\n"


def test_nobody_yet(config: Path) -> None:
    done = run(config, "list", "acme")
    assert (done.exit_code, done.output) == (0, "")
    assert not (config.parent / "users-acme").exists()


def test_the_file_may_be_elsewhere(config: Path) -> None:
    config.write_text(CONFIG.replace('auth = "users"', 'auth = "users"\nusers = "secret/people"'))
    assert run(config, "add", "acme", "hr").exit_code == 0
    assert list(read(config.parent / "secret" / "people")) == ["hr"]


@pytest.mark.parametrize("typed", ["first\nsecond\n", "first\r\nsecond", "first"])
async def test_a_password_is_one_line_of_standard_input(config: Path, typed: str) -> None:
    assert run(config, "add", "acme", "hr", typed=typed).exit_code == 0
    assert await UserFile(config.parent / "users-acme").verify("hr", b"first")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "nobody", "hr"], "there is no company 'nobody' in config.toml"),
        (["list", "nobody"], "there is no company 'nobody' in config.toml"),
        (["list", "beta"], "config.toml: company 'beta' has no users of its own; expected auth = \"users\""),
        (["add", "beta", "hr"], "config.toml: company 'beta' has no users of its own; expected auth = \"users\""),
        (["add", "acme", "old"], "users-acme: there is a user 'old' already; `relay-mta users passwd` gives another"),
        (["add", "acme", "OLD"], "users-acme: there is a user 'old' already; `relay-mta users passwd` gives another"),
        (["passwd", "acme", "hr"], "users-acme: there is no user 'hr'; `relay-mta users list` names them"),
        (["remove", "acme", "hr"], "users-acme: there is no user 'hr'; `relay-mta users list` names them"),
        (["add", "acme", "a b"], "a login has 1 to 255 characters without blanks and colons"),
        (["add", "acme", "a:b"], "a login has 1 to 255 characters without blanks and colons"),
        (["add", "acme", "#hr"], "a login has 1 to 255 characters without blanks and colons"),
        (["add", "acme", ""], "a login has 1 to 255 characters without blanks and colons"),
    ],
)
def test_every_mistake_is_one_line_and_changes_nothing(config: Path, arguments: list[str], said: str) -> None:
    assert run(config, "add", "acme", "old").exit_code == 0
    file = config.parent / "users-acme"
    before = file.read_bytes()
    assert complaint(run(config, *arguments)).replace(f"{config.parent}/", "").startswith(said)
    assert file.read_bytes() == before


@pytest.mark.parametrize("typed", ["", "\n", "\r\n", "a\0b\n", "x" * (LONGEST + 1) + "\n"])
@pytest.mark.parametrize("command", ["add", "passwd"])
def test_a_password_that_cannot_be(config: Path, command: str, typed: str) -> None:
    assert run(config, "add", "acme", "old").exit_code == 0
    before = (config.parent / "users-acme").read_bytes()
    said = complaint(run(config, command, "acme", "old" if command == "passwd" else "new", typed=typed))
    assert said == f"a password has 1 to {LONGEST} bytes and no NUL"
    assert (config.parent / "users-acme").read_bytes() == before


@pytest.mark.parametrize("arguments", [["list", "acme"], ["add", "acme", "hr"], ["remove", "acme", "hr"]])
def test_a_broken_file_is_not_written_over(config: Path, arguments: list[str]) -> None:
    file = config.parent / "users-acme"
    file.write_text("hr:canary\nsales\n")
    result = run(config, *arguments)
    assert result.exit_code == 1
    assert [line.rpartition("/")[2] for line in result.stderr.splitlines()] == [
        f"users-acme:{line}: is not login:hash; `relay-mta users` writes such lines" for line in (1, 2)
    ]
    assert file.read_text() == "hr:canary\nsales\n"


def test_a_broken_configuration_is_told_as_everywhere(config: Path) -> None:
    config.write_text(CONFIG.replace('"Acme"', "5"))
    assert "config.toml:9: company[1].name: 5 is not a string" in complaint(run(config, "list", "acme"))
    config.unlink()
    assert "there is no such file" in complaint(run(config, "add", "acme", "hr"))


def test_a_file_that_cannot_be_written(config: Path) -> None:
    config.write_text(CONFIG.replace('auth = "users"', 'auth = "users"\nusers = "config.toml/people"'))
    assert "config.toml/people: cannot be " in complaint(run(config, "add", "acme", "hr"))


@pytest.mark.parametrize("arguments", [[], ["add"], ["add", "acme"], ["list"], ["list", "acme", "x"], ["nope", "acme"]])
def test_wrong_usage_is_2(config: Path, arguments: list[str]) -> None:
    assert run(config, *arguments).exit_code == 2


def real(config: Path, *arguments: str | bytes, typed: bytes, **more: str) -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own, with its real standard input and arguments."""
    command = [sys.executable, "-m", "relay_mta", "users", *arguments, "--config", str(config)]
    return subprocess.run(command, input=typed, capture_output=True, env={**environment(), **more}, check=False)


async def test_by_a_real_pipe(config: Path) -> None:
    done = real(config, "add", "acme", "hr@acme.example.jp", typed="ひみつ\n".encode())
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"hr@acme.example.jp may log in as acme\n"
    assert await UserFile(config.parent / "users-acme").verify("hr@acme.example.jp", "ひみつ".encode())


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_is_not_utf8_is_one_line_and_no_error_of_ours(config: Path, locale: str) -> None:
    for name, typed in ((b"caf\xe9", b"canary\n"), (b"hr", b"caf\xe9\n")):
        done = real(config, "add", "acme", name, typed=typed, LC_ALL=locale)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1
        assert done.stderr.startswith(b"relay-mta: ") and b"internal error" not in done.stderr
        assert (b"the password is not UTF-8" if name == b"hr" else b"a login has 1 to 255 characters") in done.stderr
    assert not (config.parent / "users-acme").exists()


def test_a_password_is_asked_for_twice_on_a_terminal_and_not_shown(config: Path) -> None:
    import pty

    pid, terminal = pty.fork()
    if pid == 0:  # the child, whose standard streams are the terminal now
        try:
            command = [sys.executable, "-m", "relay_mta", "users", "add", "acme", "hr", "--config", str(config)]
            os.execve(sys.executable, command, environment())
        finally:
            os._exit(127)
    seen = b""
    answers = [b"canary\n", b"cannary\n", b"canary\n", b"canary\n"]
    while True:
        try:
            piece = os.read(terminal, 1000)
        except OSError:  # Linux's way of saying that the other side is closed
            break
        if not piece:
            break
        seen += piece
        if answers and seen.count(b"Password: ") + seen.count(b"confirmation: ") > 4 - len(answers):
            os.write(terminal, answers.pop(0))
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    assert b"do not match" in seen and b"hr may log in as acme" in seen
    assert b"canary" not in seen and answers == []
    assert list(read(config.parent / "users-acme")) == ["hr"]
