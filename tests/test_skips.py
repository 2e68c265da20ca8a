"""The rule of tests/conftest.py that nothing is skipped in CI, on runs of their own: with workers and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODES = {"workers": ("-p", "xdist", "-n", "2"), "serial": ()}
FINE = """\
import pytest

def test_passes():
    pass

@pytest.mark.xfail
def test_is_known_to_fail():
    assert False
"""
SKIPPED = 'import pytest\n\ndef test_is_skipped():\n    pytest.skip("no reason")\n'
MODULE_SKIPPED = 'import pytest\n\npytest.skip("no reason", allow_module_level=True)\n'
TITLE = "skipped tests fail the run in CI"


def run(place: Path, mode: str, ci: str, **files: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest on these test modules and the real conftest.py."""
    folder = place / "tests"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *MODES[mode], "tests"],
        cwd=place, env={**ours, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_skip_fails_the_run_in_ci(tmp_path: Path, mode: str) -> None:
    done = run(tmp_path, mode, "true", fine=FINE, one=SKIPPED, whole=MODULE_SKIPPED)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "1 passed, 2 skipped, 1 xfailed" in done.stdout
    told = done.stdout.partition(TITLE)[2].splitlines()
    assert {"tests/test_one.py::test_is_skipped", "tests/test_whole.py"} <= set(told)


@pytest.mark.parametrize("mode", MODES)
def test_without_a_skip_the_run_is_good(tmp_path: Path, mode: str) -> None:
    done = run(tmp_path, mode, "true", fine=FINE)
    assert done.returncode == pytest.ExitCode.OK and TITLE not in done.stdout, done.stdout + done.stderr


def test_elsewhere_a_skip_is_only_said(tmp_path: Path) -> None:
    done = run(tmp_path, "workers", "", fine=FINE, one=SKIPPED)
    assert done.returncode == pytest.ExitCode.OK and TITLE not in done.stdout, done.stdout + done.stderr
