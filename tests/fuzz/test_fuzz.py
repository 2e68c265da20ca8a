"""Ten seconds of coverage-guided fuzzing for each target, from the golden mails on; `tests/nightly/fuzz.py` does more.

What a fuzzer finds becomes a test named after it, and its bytes go into `found/`, which every run begins with.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(HERE.glob("target_*.py"))
SECONDS = 10

pytestmark = pytest.mark.real("atheris")


def fuzz(target: Path, corpus: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run one target on a folder of mails; what it finds new is added to the folder."""
    for number, mail in enumerate(sorted([*HERE.parent.glob("golden/*/*.eml"), *HERE.glob("found/*")])):
        shutil.copy(mail, corpus / f"{number:03d}-{mail.name}")
    command = [sys.executable, str(target), f"-max_total_time={seconds}", "-max_len=16384", "-rss_limit_mb=2048"]
    command += ["-timeout=10", f"-artifact_prefix={corpus}/crash-", str(corpus)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)


@pytest.mark.parametrize("target", TARGETS, ids=lambda path: path.stem)
def test_nothing_is_found_in_a_short_run(target: Path, tmp_path: Path) -> None:
    done = fuzz(target, tmp_path, SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done " in done.stderr and not list(tmp_path.glob("crash-*"))


@pytest.mark.parametrize("found", sorted(HERE.glob("found/*")), ids=lambda path: path.name)
@pytest.mark.parametrize("target", TARGETS, ids=lambda path: path.stem)
def test_what_was_found_stays_mended(target: Path, found: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(target), str(found)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
