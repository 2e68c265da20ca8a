"""What the guides say is so: their links lead somewhere, their commands exist, and CI runs the README's own words."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "rules").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def command_behind(mark: str) -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(rf"<!-- {mark} -->\n```sh\n(.+)\n```\n", text)
    assert found, f"README.md has no one-line code block behind <!-- {mark} -->"
    return found[1]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(guide: Path) -> None:
    links = [link for link in LINK.findall(guide.read_text("utf-8")) if "://" not in link]
    broken = [link for link in links if not (guide.parent / link).exists()]
    assert not broken


def test_the_two_commands_need_nothing_but_python_and_pip() -> None:
    assert command_behind("demo command").startswith("python3 -m venv .venv && .venv/bin/pip install -q . && ")
    assert command_behind("demo command").endswith("relay-mta demo")
    assert "pip install -q -e '.[test]'" in command_behind("test command")
    assert ".venv/bin/pytest" in command_behind("test command")


def test_ci_takes_its_commands_from_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert 'readme_command "demo command"' in script
    assert 'readme_command "test command"' in script
    assert "pytest" not in re.sub(r"(?m)^\s*#.*$", "", script)


@pytest.mark.parametrize("guide", [ROOT / "README.md", ROOT / "docs" / "README.ja.md"], ids=lambda path: path.name)
def test_every_command_that_a_guide_names_exists(guide: Path) -> None:
    named = set(re.findall(r"relay-mta (check|credits|demo|serve|[a-z]+)(?= |`|$)", guide.read_text("utf-8"), re.M))
    shown = subprocess.run(
        [sys.executable, "-m", "relay_mta", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    exist = set(re.findall(r"^  ([a-z]+) ", shown, re.M))
    assert {"check", "credits", "demo", "serve"} <= exist
    assert {name for name in named if name not in {"and", "in"}} <= exist


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
