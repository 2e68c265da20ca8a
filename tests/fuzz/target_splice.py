"""Fuzzes the splice (atheris): a mail is refused with a reason, or it is what it was but for the block and its link.

python tests/fuzz/target_splice.py -max_total_time=10 CORPUS
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["relay_mta.core"]):
    from relay_mta import shipped
    from relay_mta.core import dedicated, link
    from relay_mta.core.block import BlockTemplates
    from relay_mta.core.edit import apply
    from relay_mta.core.errors import SpliceError
    from relay_mta.core.message import index
    from relay_mta.core.splice import plan

BASE = "https://relay.example.jp"
TOKEN = link.token(bytes(range(16)))
OWN, STOP, DEDICATED = link.url(BASE, TOKEN), link.opt_out_url(BASE, TOKEN), link.dedicated(BASE, "acme")
TEMPLATES = BlockTemplates.parse(shipped.templates())
BLOCKS = (
    TEMPLATES.render("ja", company="㈱髙島①", agency="ｻﾝﾌﾟﾙ 人材～", link=OWN, opt_out=STOP),
    TEMPLATES.render("en", company="Acme", agency="Agency", link=OWN, opt_out=STOP),
)


def one(raw: bytes) -> None:
    before = index(raw)
    for block in BLOCKS:
        try:
            edits = plan(before, block, dedicated_link=DEDICATED)
        except SpliceError as error:
            assert error.reason
            continue
        after = index(b"".join(apply(raw, edits)))
        assert after.trouble is None and after.text_trouble is None
        assert [part.content_type for part in after.parts] == [part.content_type for part in before.parts]
        for old, new in zip(before.texts, after.texts, strict=True):
            places = dedicated.places(old, DEDICATED)
            if places:
                expected = old.text
                for start, end in reversed(places):
                    expected = expected[:start] + OWN + expected[end:]
                assert new.text == expected
            else:
                at = old.layout.below
                gained = new.text[at : len(new.text) - (len(old.text) - at)]
                assert new.text == old.text[:at] + gained + old.text[at:] and OWN in gained


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
