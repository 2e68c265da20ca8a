"""The newcomer's first minute: it ends well, stays if asked to, and does not hide a mail that went wrong."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from relay_mta import demo, shipped
from tests.e2e.process import environment

KINDS = ("06-offer", "07-condolence", "08-vendor-decline", "09-quoted", "10-signed", "11-attachment", "12-rejection")


def test_the_samples_are_mails_as_clients_write_them() -> None:
    samples = demo.samples()
    assert len(samples) >= 12
    assert [sample.file for sample in samples] == [name for name, _ in shipped.samples()]
    for kind in KINDS:
        assert any(sample.file.startswith(kind) for sample in samples)
    for sample in samples:
        assert sample.raw.endswith(b"\r\n")
        assert re.search(rb"(?<!\r)\n|\r(?!\n)", sample.raw) is None, f"{sample.file} has bare line ends"
        assert max(map(len, sample.raw.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1
        assert set(sample.linked) <= set(sample.recipients)
        for name in (b"From:", b"To:", b"Date:", b"Message-ID:"):
            assert len(re.findall(rb"(?im)^" + name, sample.raw.partition(b"\r\n\r\n")[0])) == 1
    assert sum(bool(sample.linked) for sample in samples) >= 6


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_keep_leaves_it_running_until_ctrl_c_or_sigterm(tmp_path: Path, end: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "relay_mta", "demo", "--keep"],
        cwd=tmp_path,
        env={**environment(), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = ""
        while "swaks --server" not in said:
            line = process.stdout.readline()
            assert line, said + (process.stderr.read() if process.stderr else "")
            said += line
        link = re.search(r"http://127\.0\.0\.1:\d+/r/[a-z2-7]{26}", said)
        assert link
        with urllib.request.urlopen(link[0], timeout=10) as page:
            assert page.status == 200
        process.send_signal(end)
        assert process.wait(30) == 0
        assert list(tmp_path.iterdir()) == [], "the demo leaves nothing behind"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def test_a_mail_that_does_something_else_is_shown_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = next(sample for sample in demo.samples() if sample.file.startswith("06-"))
    signed = next(sample for sample in demo.samples() if sample.file.startswith("10-"))
    wrong = replace(offer, linked=offer.recipients)
    monkeypatch.setattr(demo, "samples", lambda: [wrong, signed])
    out = io.StringIO()
    assert await demo.run(Console(file=out, width=120)) is False
    assert "no link" in out.getvalue()
    assert "1 of 2 mails" in out.getvalue()
