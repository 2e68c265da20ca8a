"""What a person gets from `pip install`: a wheel with rules, templates and samples that works from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

REJECTION = "01-rejection-ja-jis-text.eml"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree so that the tree stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in ("relay_mta", "rules", "pyproject.toml", "README.md", "LICENSE"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    out = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)])
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with nothing but the wheel in it; its bin folder."""
    place = tmp_path_factory.mktemp("venv")
    venv.create(place, with_pip=True)
    run([str(place / "bin" / "pip"), "install", "-q", str(wheel)])
    return place / "bin"


def run(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def test_the_wheel_carries_its_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped_rules = {f"relay_mta/rules/{path.name}" for path in (ROOT / "rules").glob("*.toml")}
    samples = {f"relay_mta/samples/{path.name}" for path in (ROOT / "relay_mta" / "samples").glob("*")}
    templates = {f"relay_mta/templates/{path.name}" for path in (ROOT / "relay_mta" / "templates").glob("*.*")}
    assert shipped_rules and shipped_rules <= names
    assert len(samples) > 12 and samples <= names
    assert templates and templates <= names
    assert "relay_mta/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "docs"))]


def test_check_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "relay_mta" / "samples" / REJECTION, tmp_path / "mail.eml")
    done = run([str(installed / "relay-mta"), "check", "mail.eml", "--json"], cwd=tmp_path)
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["verdict"] == "rejection"
    assert found["file"].endswith("mail.eml")
    assert found["score"] >= found["threshold"]
    assert found["hits"] and {"rule", "score", "part", "text"} <= set(found["hits"][0])
    assert found["recipients"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mail.eml"]


def test_demo_works_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = run([str(installed / "relay-mta"), "demo"], cwd=tmp_path)
    assert "200" in done.stdout
    assert not list(tmp_path.iterdir()), "the demo leaves nothing behind"
