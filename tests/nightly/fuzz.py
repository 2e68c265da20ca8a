"""Fuzzes every target for long, on a corpus that is kept between the runs.

python tests/nightly/fuzz.py CORPUS [SECONDS, 3600 by default]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.test_fuzz import TARGETS, fuzz


def main() -> int:
    corpus, seconds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3600
    failed = 0
    for target in TARGETS:
        place = corpus / target.stem
        place.mkdir(parents=True, exist_ok=True)
        done = fuzz(target, place, seconds)
        print(f"{target.stem}: {'nothing found' if done.returncode == 0 else done.stderr[-4000:]}")
        failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
