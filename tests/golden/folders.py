"""The golden mails: folders with a mail as a real client writes it, what is expected of it, and the expected bytes.

    mail.eml       what the client sends                about.toml   which client, what is special, the outcome
    expected.eml   where the outcome is "relay": what leaves, with a token of fixed bits, without our Received field

`python tests/golden/folders.py` writes every expected.eml anew from what the product does now. Look at the difference
before you commit it: these files are the promise that nothing but the block changes.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from relay_mta import rulefolder, templatefolder  # noqa: E402  (the checkout goes before an installed copy)
from relay_mta.core.company import Agency, Company  # noqa: E402  (as above)
from relay_mta.examine import Examination, Examiner  # noqa: E402  (as above)

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("*/mail.eml"))
BASE_URL = "https://relay.example.jp"
BITS = bytes(range(16))


@dataclass(frozen=True)
class Golden:
    folder: Path
    raw: bytes
    outcome: str
    reason: str | None
    language: str

    @property
    def expected(self) -> bytes:
        """What leaves."""
        return (self.folder / "expected.eml").read_bytes() if self.outcome == "relay" else self.raw


def read(folder: Path) -> Golden:
    about = tomllib.loads((folder / "about.toml").read_text("utf-8"))
    return Golden(folder, (folder / "mail.eml").read_bytes(), about["outcome"], about.get("reason"), about["language"])


@cache
def examiner() -> Examiner:
    company = Company(
        "acme", "株式会社アクメ", ("acme.example",), Agency("サンプル人材紹介", "https://agency.example/"), mode="relay"
    )
    return Examiner(rulefolder.load(), templatefolder.load(), [company], BASE_URL, random=lambda count: BITS[:count])


def examined(raw: bytes) -> Examination:
    return examiner().examine(raw)


def main() -> None:
    for folder in FOLDERS:
        golden = read(folder)
        found = examined(golden.raw)
        outcome = {"rejection": "relay", "none": "pass", "exempt": "exempt"}[found.verdict]
        if (outcome, found.reason if outcome == "exempt" else None) != (golden.outcome, golden.reason):
            print(f"{folder.name}: expected {golden.outcome} {golden.reason or ''}, found {outcome} {found.reason}")
        elif outcome == "relay":
            (folder / "expected.eml").write_bytes(b"".join(found.copies[0]))


if __name__ == "__main__":
    main()
