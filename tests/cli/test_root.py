"""The command line as a whole: versions, errors as lines, exit statuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay_mta import __version__, process
from relay_mta.cli.root import root
from relay_mta.config import Config
from relay_mta.core.errors import RelayError

EXAMPLE = Path(__file__).resolve().parents[2] / "config.example.toml"


def test_version_and_help() -> None:
    assert CliRunner().invoke(root, ["--version"]).stdout == f"relay-mta, version {__version__}\n"
    result = CliRunner().invoke(root, ["--help"])
    assert result.exit_code == 0
    for command in ("check", "credits", "demo", "serve"):
        assert f"  {command} " in result.stdout
        assert CliRunner().invoke(root, [command, "--help"]).exit_code == 0


def test_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "relay_mta", "--version"], capture_output=True, text=True, check=True)
    assert __version__ in done.stdout


@pytest.mark.parametrize(
    "arguments", [["nope"], ["serve", "--nope"], ["check"], ["credits", "export", "--csv", "--json"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(root, arguments)
    assert result.exit_code == 2 and "Traceback" not in result.output


def test_every_problem_of_a_configuration_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('hostnam = "x"\n[web]\nbase_url = 5\n', encoding="utf-8")
    for arguments in (["serve"], ["credits", "balance"], ["check", "x.eml"]):
        result = CliRunner().invoke(root, [*arguments, "--config", str(path)])
        assert result.exit_code == 1 and result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 5 and all(line.startswith(f"relay-mta: {path}") for line in lines)


def test_no_configuration_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(root, ["serve"])
    assert result.exit_code == 1
    assert result.stderr.startswith("relay-mta: config.toml: there is no such file")
    assert len(result.stderr.splitlines()) == 1


def test_serve_hands_the_configuration_over_and_returns_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Config] = []

    def run(config: Config) -> int:
        seen.append(config)
        return 3

    monkeypatch.setattr(process, "run", run)
    assert CliRunner().invoke(root, ["serve", "--config", str(EXAMPLE)]).exit_code == 3
    assert seen[0].hostname == "relay.example.jp"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RelayError("one\ntwo"), "relay-mta: one\nrelay-mta: two\n"),
        (PermissionError(13, "Permission denied", "/var/x"), "relay-mta: /var/x: Permission denied\n"),
        (KeyError("secret@example.jp"), "relay-mta: internal error: KeyError in run ("),
    ],
)
def test_an_error_is_never_a_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str) -> None:
    def run(config: Config) -> int:
        raise error

    monkeypatch.setattr(process, "run", run)
    result = CliRunner().invoke(root, ["serve", "--config", str(EXAMPLE)])
    assert result.exit_code == 1 and result.stderr.startswith(expected)
    assert "Traceback" not in result.output and "secret" not in result.output
