"""Precision and recall of the checkout's rules on a folder of labelled mails, for those who write them.

    python tests/bench/measure_rules.py DIR [--rules RULES] [--skip FILE] [--quiet]

RULES (the checkout's by default) is taken alone; FILE lists ids to leave out. Exit status 1 if anything innocent was
flagged. `relay-mta rules measure` is the same for everybody else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from relay_mta import rulefolder, rulemeasure  # noqa: E402  (the checkout goes before an installed copy)
from relay_mta.cli import rulepages  # noqa: E402  (as above)


def main() -> int:
    parser = argparse.ArgumentParser(description="precision and recall on a folder of labelled mails")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rules", type=Path, default=ROOT / "rules")
    parser.add_argument("--skip", type=Path)
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    rules = rulefolder.parse(rulefolder.gather((arguments.rules,), alone=True))
    skipped = set(arguments.skip.read_text().split()) if arguments.skip else set()
    mails = [mail for mail in rulemeasure.read(arguments.directory) if mail.id not in skipped]
    measured = rulemeasure.measure(rules, mails)
    lines = rulepages.measured(measured)
    print(next(lines) if arguments.quiet else "\n".join(lines))
    return 1 if measured.counts.flagged else 0


if __name__ == "__main__":
    sys.exit(main())
