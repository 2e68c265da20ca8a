"""What all tests share: the repository's root, how long an example may take, and that nothing is skipped in CI.

A test marked `real("postfix")` needs that program, Python package, or path in the repository. On a person's machine it
is skipped where that is missing, and the summary says so; with CI=true it fails the test, and any skip at all the run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
PROGRAM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

# On a busy machine an example takes several times as long: what has to be quick is measured where that is the matter.
settings.register_profile("busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

_skipped: list[str] = []


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the checkout."""
    return ROOT


@pytest.fixture(scope="module")
def rules_parsed_once() -> Iterator[None]:
    """Whoever reads rules in this process, and not for the first time, gets the rule set that was read before."""
    # Imported here: tests/test_skips.py runs this file on its own.
    from relay_mta.core.rules import RuleSet
    from tests.rulesets import parsed_once

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RuleSet, "parse", parsed_once)
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("real"):
        needed = marker.args[0]
        if not (shutil.which(needed, path=PROGRAM_PATH) or (ROOT / needed).exists() or find_spec(needed)):
            text = f"needs the real `{needed}`, which is not installed here"
            if IN_CI:
                pytest.fail(f"{text}; in CI it has to be (.ci/run installs it)", pytrace=False)
            pytest.skip(text)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # With pytest-xdist every worker's reports come to the controller, too, whose summary and exit status are the run's.
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:  # a module that skips itself has no test that could report it
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if IN_CI and _skipped:
        terminalreporter.section("skipped tests fail the run in CI", red=True)
        for nodeid in _skipped:
            terminalreporter.line(nodeid)
