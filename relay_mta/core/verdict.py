"""What judging a mail says: a verdict with every piece of evidence it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

VerdictKind = Literal["rejection", "none"]
Language = Literal["ja", "en"]

PROBATION: Final = "T_"
"""A rule whose id begins so is on probation: it is looked for like any other, and changes no verdict."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One rule that matched: `part` is where ("subject", "new", "quoted", …), `text` the sentence it stood in."""

    rule: str
    score: float
    part: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` says whether the mail tells its reader that their job application was not successful.

    `score` and `threshold` are in the rule set's points; `reason` is one stable word or phrase that names what decided;
    `language` is the language of the mail's new text, which chooses the block's template.
    """

    kind: VerdictKind
    score: float
    threshold: float
    reason: str
    hits: tuple[Hit, ...] = ()
    language: Language = "ja"

    @property
    def trials(self) -> tuple[str, ...]:
        """The rules on probation that matched."""
        return tuple(sorted({hit.rule for hit in self.hits if hit.rule.startswith(PROBATION) and "/" not in hit.rule}))
