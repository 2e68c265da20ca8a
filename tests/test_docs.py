"""What the guides say is so: their links lead somewhere, their commands exist, and CI runs the README's own words."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from configparser import RawConfigParser
from pathlib import Path

import pytest

from relay_mta.config import load

ROOT = Path(__file__).resolve().parent.parent
GUIDES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "rules").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")
FENCED = re.compile(r"(?ms)^ *```(\w*)\n(.*?)^ *```$")
CONNECT = [ROOT / "docs" / name for name in ("connect.md", "connect.ja.md")]
UNIT = ROOT / "docs" / "relay-mta.service"


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


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_anchors_are_headings(guide: Path) -> None:
    found = ANCHOR.findall(guide.read_text("utf-8"))
    own = [(name, anchor) for name, anchor in found if "://" not in name]
    broken = [
        f"{name}#{anchor}" for name, anchor in own if anchor not in anchors(guide.parent / name if name else guide)
    ]
    assert not broken


def anchors(guide: Path) -> set[str]:
    """What a link may lead to in a guide: its headings, as GitHub writes them."""
    if guide.suffix != ".md":
        return set()
    headings = re.findall(r"(?m)^#+ (.+)$", FENCED.sub("", guide.read_text("utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("guide", CONNECT, ids=lambda path: path.name)
def test_every_configuration_of_the_recipes_loads(guide: Path, tmp_path: Path) -> None:
    configurations = [text for kind, text in FENCED.findall(guide.read_text("utf-8")) if kind == "toml"]
    assert len(configurations) >= 10
    for text in configurations:
        for name in re.findall(r'\b(?:cert|key|ca_file) = "([^"]+)"', text):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "config.toml").write_text(text, "utf-8")
        config = load(tmp_path / "config.toml")
        assert {each.company.mode for each in config.companies} == {"observe"}  # as "For every recipe" says


def test_both_languages_hold_the_same_recipes() -> None:
    """Whoever changes a command in one has to change it in the other; pictures have words in them."""
    english, japanese = (
        [block for block in FENCED.findall(guide.read_text("utf-8")) if block[0] != "mermaid"] for guide in CONNECT
    )
    assert english == japanese


def test_the_unit_file_and_the_recipes_agree() -> None:
    unit = RawConfigParser(strict=False, interpolation=None, comment_prefixes=(";",), inline_comment_prefixes=())
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(re.sub(r"(?m)^#.*$", "", UNIT.read_text("utf-8")))
    service = unit["Service"]
    assert service["ExecStart"] == "/opt/relay-mta/bin/relay-mta serve --config /etc/relay-mta/config.toml"
    offered = set(re.findall(r"(?m)^#LoadCredential=([\w-]+):", UNIT.read_text("utf-8")))
    for guide in CONNECT:
        text = guide.read_text("utf-8")
        assert set(re.findall(r'credential = "([\w-]+)"', text)) == offered
        explained = re.findall(r"(?m)^\| `(\w+)=\w*` \|", text)
        assert {name for name in explained if name != "LoadCredential"} <= set(service)
        assert set(re.findall(r'data_dir = "([^"]+)"', text)) == {f"/var/lib/{service['StateDirectory']}"}


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
