"""Precision and recall of a rule set on a folder of labelled mails.

    python tests/bench/measure_rules.py DIR [--rules RULES_DIR] [--skip FILE] [--quiet]

DIR holds *.eml and labels.json ({file name without .eml: "rejection" | "other"}). Ids listed in FILE (one a line) are
not scored. Prints the figures, then every error with its hits. Exit status 1 if anything innocent was flagged.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from relay_mta.core.message import index  # noqa: E402  (the checkout goes before an installed copy)
from relay_mta.core.rules import RuleSet  # noqa: E402


def load(directory: Path) -> RuleSet:
    return RuleSet.parse([(path.name, path.read_bytes()) for path in sorted(directory.glob("*.toml"))])


def main() -> int:
    parser = argparse.ArgumentParser(description="precision and recall on a folder of labelled mails")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rules", type=Path, default=ROOT / "rules")
    parser.add_argument("--skip", type=Path)
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    rules = load(arguments.rules)
    labels = json.loads((arguments.directory / "labels.json").read_text(encoding="utf-8"))
    skipped = set(arguments.skip.read_text().split()) if arguments.skip else set()
    count = dict.fromkeys((("rejection", True), ("rejection", False), ("other", True), ("other", False)), 0)
    errors = []
    spent = 0.0
    for name, label in sorted(labels.items()):
        if name in skipped:
            continue
        message = index((arguments.directory / f"{name}.eml").read_bytes())
        _ = message.texts
        start = time.perf_counter()
        verdict = rules.judge(message)
        spent += time.perf_counter() - start
        flagged = verdict.kind == "rejection"
        count[label, flagged] += 1
        if flagged is not (label == "rejection"):
            errors.append((label, name, message.first("subject"), verdict))
    found, missed = count["rejection", True], count["rejection", False]
    wrong, right = count["other", True], count["other", False]
    print(
        f"rules {rules.hash}: found {found} of {found + missed} rejections, flagged {wrong} of {wrong + right} others"
    )
    precision = found / (found + wrong) if found + wrong else 1.0
    recall = found / (found + missed) if found + missed else 1.0
    print(f"precision {precision:.3f}, recall {recall:.3f}; judging: {spent / max(1, len(labels)) * 1e3:.2f} ms a mail")
    for label, name, subject, verdict in () if arguments.quiet else errors:
        print(
            f"\n{'MISSED' if label == 'rejection' else 'FLAGGED'} {name} | {subject} | {verdict.reason} {verdict.score}"
        )
        for hit in verdict.hits:
            print(f"    {hit.rule:36} {hit.score:5.1f} {hit.part:8} {hit.text[:90]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
