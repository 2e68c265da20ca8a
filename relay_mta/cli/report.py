"""What `relay-mta check` prints about one mail: as JSON, for a person, or as a difference.

A mail is hostile text: nothing that a terminal would obey is ever printed.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from relay_mta.examine import Examination

# C0 and C1 controls but for tab and line feed, bidi controls, what ends a line in disguise, lone surrogates
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_STYLES = {"rejection": "bold magenta", "exempt": "bold yellow", "none": "bold green"}


def safe(text: str) -> str:
    """Text that a terminal shows and does not obey."""
    return _UNSAFE.sub("\ufffd", text)


def as_json(file: str, found: Examination, *, ascii_only: bool = False) -> str:
    """One line, whose keys are the public interface; `ascii_only` escapes all else as JSON has it."""
    value = {
        "file": file,
        "verdict": found.verdict,
        "reason": found.reason,
        "score": found.score,
        "threshold": found.threshold,
        "hits": [{"rule": hit.rule, "score": hit.score, "part": hit.part, "text": hit.text} for hit in found.hits],
        "recipients": [
            {"address": each.address, "role": each.role, "relayed": each.relayed, "copy": each.copy}
            for each in found.recipients
        ],
    }
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(value, ensure_ascii=ascii_only))


def for_person(file: str, found: Examination) -> Text:
    """Verdict and reason, the sentences that decided, and what each recipient would get."""
    text = Text()
    text.append(f"{safe(file)}\n", style="bold")
    text.append(f"  {found.verdict}", style=_STYLES.get(found.verdict, "bold"))
    text.append(f"  {safe(found.reason)}  (score {found.score:g}, threshold {found.threshold:g})\n")
    missing = _missing(found)
    if missing:
        text.append(f"  missing: {missing}\n")
    for hit in found.hits:
        text.append(f"    {hit.score:+g}  {safe(hit.rule)}", style="cyan")
        text.append(f"  in {safe(hit.part)}: {_one_line(hit.text)}\n" if hit.text else "\n")
    for each in found.recipients:
        gets = "nothing, as the relay refuses the mail"
        if each.copy:
            gets = "a copy with a link of their own" if each.relayed else "the mail as it is"
        text.append(f"  → {_one_line(each.address)}", style="bold" if each.relayed else "")
        text.append(f"  {safe(each.role)}: {gets}")
        text.append(f" (copy {each.copy})\n" if each.copy else "\n")
    return text


def _missing(found: Examination) -> str:
    """What a mail lacks that was judged and is no rejection; empty for any other."""
    if found.verdict != "none":
        return ""
    if found.reason == "below-threshold":
        return f"{found.threshold - found.score:g} points"
    if found.reason == "no-decline":
        return "a sentence that says no (evidence)"
    return "evidence that no guard takes back" if found.reason.startswith("guard:") else ""


def difference(file: str, found: Examination) -> Text:
    """The decoded text parts before and after as a unified diff; empty for a mail that is not changed."""
    text = Text()
    after = dict(found.texts_after)
    for label, before in found.texts_before:
        for line in _diff(f"{safe(file)} ({safe(label)})", before, after.get(label, before)):
            marks = (("+++", "bold"), ("---", "bold"), ("@@", "cyan"), ("+", "green"), ("-", "red"))
            style = next((style for mark, style in marks if line.startswith(mark)), "")
            text.append(f"{line}\n", style=style)
    return text


def _diff(name: str, before: str, after: str) -> Iterator[str]:
    old, new = (safe(text.replace("\r\n", "\n")).split("\n") for text in (before, after))
    return difflib.unified_diff(old, new, f"{name} before", f"{name} after", lineterm="")


def _one_line(text: str) -> str:
    return safe(" ".join(text.split()))
