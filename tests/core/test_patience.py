"""Work is bounded: hostile mails end soon and with a reason, and no step between two looks at the time is long.

CPU time of this thread is measured, the best of three runs: other load on the machine must not decide.
"""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from relay_mta import shipped
from relay_mta.core.company import Agency, Company
from relay_mta.core.disposition import Disposition, decide
from relay_mta.core.envelope import Envelope, Recipient
from relay_mta.core.message import index
from tests.rulesets import parsed_once

RULES = parsed_once(shipped.rules())
COMPANY = Company("acme", "Acme", ("acme.example",), Agency("A", "https://a.example/"), mode="relay")
ENVELOPE = Envelope("hr@acme.example", (Recipient("taro@mail.example"),))
HEAD = b"From: hr@acme.example\r\nTo: taro@mail.example\r\n"
LONGEST_STEP = 0.05
LONGEST = 0.1


def html(body: bytes) -> bytes:
    return text(body).replace(b"text/plain", b"text/html")


def text(body: bytes) -> bytes:
    kind = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    return HEAD + b"Subject: x\r\nMIME-Version: 1.0\r\n" + kind + b"\r\n" + body + b"\r\n"


def nested(depth: int) -> bytes:
    parts = [f'Content-Type: multipart/mixed; boundary="b{i}"\r\n\r\n--b{i}\r\n' for i in range(depth)]
    return HEAD + b"Subject: x\r\nMIME-Version: 1.0\r\n" + "".join(parts).encode()


PARTS = b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n" * 50_000
WORD = b"=?utf-8?B?5o6h55So44KS6KaL6YCB44KL?="
ROW = "<tr><td style='color:#333'>選考の結果、今回は</td><td><span>採用を見送る場合</span></td></tr>"
HOSTILE = {
    "deep": (nested(3_000), "limit:depth"),
    "parts": (HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + PARTS + b"--b--\r\n", "limit:parts"),
    "words": (HEAD + b"Subject: " + b"\r\n ".join([WORD] * 7_500) + b"\r\n\r\nx\r\n", "limit:header"),
    "open-tags": (html(b"<a " * 100_000), "limit:html-tags"),
    "comments": (html(b"<!--" * 75_000), "limit:html-tags"),
    "attributes": (html(b"<p " + b"a=b " * 200_000 + b">x"), "limit:html-tags"),
    "slashes": (html(b"<p " + b"a/" * 200_000 + b">x"), "limit:html-tags"),
    "references": (html(b"&amp;" * 200_000), "limit:html-references"),
    "nesting": (html(b"<div>" * 50_000), "limit:html-tags"),
}
HEAVY = {
    "table": html(ROW.encode() * 900),
    "lines": text("採用を見送ります。\r\n".encode() * 33_000),
    "froms": text(b"From: a\r\n" * 100_000),
    "one-line": text("採用を見送る場合".encode() * 40_000),
    "guards": text(b"if you not selected unless " * 35_000),
    "quotations": text("「".encode() * 300_000),
    "blanks": text(b"a b c d " * 110_000),
    "katakana": text("カタカナ ".encode() * 60_000),
    "parentheses": text("採用を見送り阪口さん(".encode() * 1_400),
    "persons": text("北見様\r\n\r\n".encode() + "阪口さんの件は採用を見送ります。".encode() * 6_000),
}


def timed(raw: bytes) -> tuple[Disposition, float, float]:
    """The outcome, all CPU time, and the longest step: the best of three."""
    runs = []
    for _ in range(3):
        marks = [time.thread_time()]

        def patience(marks: list[float] = marks) -> bool:
            marks.append(time.thread_time())
            return False

        found = decide(index(raw, patience), ENVELOPE, company=COMPANY, rules=RULES, base_url="https://r.example")
        marks.append(time.thread_time())
        step = max(after - before for before, after in pairwise(marks))
        runs.append((found, marks[-1] - marks[0], step))
    return runs[0][0], min(run[1] for run in runs), min(run[2] for run in runs)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_mail_is_exempt_soon(name: str) -> None:
    raw, reason = HOSTILE[name]
    found, seconds, step = timed(raw)
    assert (found.kind, found.reason) == ("exempt", reason)
    assert seconds <= LONGEST and step <= LONGEST_STEP


@pytest.mark.parametrize("name", HEAVY)
def test_no_step_is_long(name: str) -> None:
    found, _, step = timed(HEAVY[name])
    assert found.kind == "pass"
    assert step <= LONGEST_STEP


def test_a_mail_that_is_out_of_time_goes_as_it_is() -> None:
    def patience() -> bool:
        patience.asked += 1  # type: ignore[attr-defined]
        return patience.asked > 20  # type: ignore[attr-defined]

    patience.asked = 0  # type: ignore[attr-defined]
    found = decide(
        index(HEAVY["table"], patience), ENVELOPE, company=COMPANY, rules=RULES, base_url="https://r.example"
    )
    assert (found.kind, found.reason) == ("exempt", "limit:time")
