"""One page being judged by one rule set: what matched, what a guard took back, and what it adds up to.

`core.rules` says what the kinds of evidence mean. A rule on probation (`verdict.PROBATION`) is looked for like any
other; what it found becomes a hit of 0 points and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import re2

from relay_mta.core import names, rulefile, sentence
from relay_mta.core.page import ANSWERED, Page
from relay_mta.core.patience import Patience, ask, endless
from relay_mta.core.phrase import Finder, Occurrences
from relay_mta.core.rulefile import EVIDENCE, Rule, Scoring
from relay_mta.core.signs import Signs
from relay_mta.core.verdict import PROBATION, Hit, Verdict

LONGEST_HIT: Final = 200
"""Characters of a sentence that a hit shows."""
BESIDE: Final = 30
"""Characters of its sentence within which a word stands beside the evidence (place "event")."""
QUOTED: Final = "quoted"
NAMES_ANOTHER: Final = "names-another"
"""The names of the guards that are built in."""
SIGN: Final = "sign"
SIGNS: Final = "signs"
NO_JOB: Final = "no-job"
LINK: Final = "dedicated-link"
"""The rule that a hit names which comes of no rule: one sign, all lighter signs together, no word of a job, the
company's dedicated link."""
MOST_SIGNS: Final = 10
"""Signs that are hits of their own; a mail has some hundred."""

_PERFORMS = re.compile("(?:という|との|といった)?(?:結果|結論|判断|決定)?(?:と|に|で)(?:さ|な|いたし|ございま|決|ご返)")
"""Behind a quotation: the sentence does what it quotes (「見送り」とさせていただきます)."""
_PART_SHOWN: Final = {ANSWERED: "subject"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule with its phrases as numbers of its finder."""

    rule: Rule
    find: tuple[int, ...]
    regex: tuple[re2._Regexp, ...]
    unless: tuple[int, ...]
    until: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A span of the folded text, within its line."""

    start: int
    end: int
    line: int


@dataclass(frozen=True, slots=True)
class Phrases:
    """All phrases of some rules in one finder; `rules_of` has the rules (by index) that look for a phrase."""

    finder: Finder
    rules_of: Mapping[int, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Program:
    """A rule set, compiled.

    Evidence has a finder of its own: most mails have none, and need no second look. `any_regex` tells in one pass which
    regexes of evidence are in a text, and `regex_of` is the rule of each; `places` are those that some rule looks at.
    """

    scoring: Scoring
    compiled: Sequence[Compiled]
    evidence: Phrases
    others: Phrases
    any_regex: re2.Set | None
    regex_of: Sequence[int]
    places: frozenset[str]
    signs: Signs
    signs_of_subject: Signs

    def by_regex(self, folded: str) -> frozenset[int]:
        """The evidence (by index) one of whose regexes is somewhere in a text."""
        met = self.any_regex.Match(folded) if self.any_regex is not None else None
        return frozenset(self.regex_of[one] for one in met or ())


class Judging:
    """One page being judged by one rule set."""

    def __init__(
        self,
        program: Program,
        page: Page,
        *,
        everything: bool = False,
        forced: bool = False,
        linked: bool = False,
        patience: Patience = endless,
    ) -> None:
        self.program = program
        self.threshold = program.scoring.forced_threshold if forced else program.scoring.threshold
        self.page = page
        self.everything = everything
        self.linked = linked
        self.patience = patience
        self.evidence = program.evidence.finder.find(page.folded)
        self.others: Occurrences | None = None  # looked for once there is evidence
        self.matched = self._matched()
        self.quotations: dict[int, list[tuple[int, int]]] = {}
        self.of_another: dict[int, bool] = {}
        self.addressed: tuple[frozenset[str], int] | None = None  # asked for once there is evidence
        self.guards: dict[int, list[tuple[Compiled, Match]]] | None = None
        self.tried: list[Hit] = []  # of rules on probation: shown and counted, without effect

    def _matched(self) -> dict[int, list[Match]]:
        """All matches of all rules that their `unless` leaves standing, by the rule's index.

        A page without any evidence gets no further look: nothing else could make it a rejection.
        """
        compiled = self.program.compiled
        found: dict[int, list[Match]] = {}
        for is_evidence in (True, False):
            if not is_evidence and not found and not self.everything:
                break
            if is_evidence:
                phrases, regexes = self.program.evidence, sorted(self.program.by_regex(self.page.folded))
            else:
                phrases = self.program.others
                regexes = [n for n, one in enumerate(compiled) if one.regex and one.rule.kind not in EVIDENCE]
                self.others = phrases.finder.find(self.page.folded)
            by_rule: dict[int, list[int]] = {index: [] for index in regexes}
            for number in self._occurrences(is_evidence=is_evidence).candidates():
                for index in phrases.rules_of.get(number, ()):
                    by_rule.setdefault(index, []).append(number)
            for index, numbers in by_rule.items():
                ask(self.patience)
                matches = self._matches_of(compiled[index], numbers)
                if matches:
                    found[index] = matches
        return found

    def _occurrences(self, *, is_evidence: bool) -> Occurrences:
        if is_evidence:
            return self.evidence
        assert self.others is not None  # found before the first rule that is no evidence is looked at
        return self.others

    def _matches_of(self, one: Compiled, numbers: Sequence[int]) -> list[Match]:
        page = self.page
        matches = [match for number in numbers for match in self._spans(one, number)]
        for regex in one.regex:
            for match in regex.finditer(page.folded):
                start, end = match.span()
                line = page.line_of(end)
                if page.starts[line] <= start:
                    matches.append(Match(start, end, line))
        if matches and one.unless:
            void = {match.line for number in one.unless for match in self._spans(one, number)}
            matches = [match for match in matches if match.line not in void]
        return matches

    def _spans(self, one: Compiled, number: int) -> list[Match]:
        occurrences = self._occurrences(is_evidence=one.rule.kind in EVIDENCE)
        if any(slot not in occurrences.spans for slot in occurrences.chains[number]):
            return []
        spans = occurrences.matches(number, one.rule.gap, self.page.ends)
        return [Match(start, end, self.page.line_of(end)) for start, end in spans]

    def stands(self, rule: str) -> bool:
        for index, matches in self.matched.items():
            one = self.program.compiled[index].rule
            if one.id == rule:
                return one.kind not in EVIDENCE or any(self._taken_back(index, m) is None for m in matches)
        return False

    def verdict(self) -> Verdict:
        """What it adds up to."""
        events, taken_back = self._events()
        best: dict[str, tuple[float, Rule, Match]] = {}
        for rule, match in events:
            weight = rule.weights[cast("rulefile.Place", self.page.parts[match.line])]
            if rule.id not in best or weight > best[rule.id][0]:
                best[rule.id] = weight, rule, match
        ranked = sorted(best.values(), key=lambda each: (-each[0], each[2].start))
        evidence = [self._hit(rule.id, weight, match) for weight, rule, match in ranked]
        veto: str | None = None
        score = 0.0
        beside: list[Hit] = []
        if ranked:
            veto, points, beside = self._beside([match for _, match in events])
            score = max(ranked[0][0] + points, *(weight for weight, rule, _ in ranked if rule.kind == "decline"), -1e9)
        reason = self._reason(ranked, taken_back, score, veto)
        return Verdict(
            kind="rejection" if reason.startswith("decline:") else "none",
            score=round(score, 2),
            threshold=self.threshold,
            reason=reason,
            hits=(*evidence, *beside, *taken_back, *dict.fromkeys(self.tried)),
            language=self.page.language(),
        )

    def veto(self) -> str | None:
        """The id of a veto that stands here, with or without evidence; needs `everything`."""
        return self._beside([])[0]

    def _beside(self, evidence: Sequence[Match]) -> tuple[str | None, float, list[Hit]]:
        """What speaks beside the evidence: the first veto, the points of all signs, and the hits of both."""
        veto: str | None = None
        points = 0.0
        a_job = False
        hits: list[Hit] = []
        for index, matches in self.matched.items():
            rule = self.program.compiled[index].rule
            if rule.kind in (*EVIDENCE, "guard"):
                continue
            ask(self.patience)
            counted = self._strongest_place(rule, matches, evidence)
            if counted is None:
                continue
            worth, match = counted
            if rule.id.startswith(PROBATION):
                worth = 0.0
            elif rule.kind == "veto":
                veto = veto or rule.id
            elif rule.kind == "job":
                a_job = True
            points += worth
            hits.append(self._hit(rule.id, worth, match))
        for part, signs, text in (
            ("subject", self.program.signs_of_subject, self.page.subject),
            ("new", self.program.signs, self.page.words),
        ):
            found = signs.find(text)
            points += sum(worth for _, worth in found)
            hits.extend(Hit(SIGN, worth, part, word) for word, worth in found[:MOST_SIGNS])
            if rest := found[MOST_SIGNS:]:
                hits.append(Hit(SIGNS, round(sum(worth for _, worth in rest), 2), part, f"{len(rest)} more"))
        if not a_job and self.program.scoring.no_job:
            points -= self.program.scoring.no_job
            hits.append(Hit(NO_JOB, -self.program.scoring.no_job, "new", ""))
        if self.linked and self.program.scoring.dedicated_link:
            points += self.program.scoring.dedicated_link
            hits.append(Hit(LINK, self.program.scoring.dedicated_link, "new", ""))
        return veto, points, hits

    def _events(self) -> tuple[list[tuple[Rule, Match]], list[Hit]]:
        """The evidence that stands, and hits for what was taken back; what is on probation goes to `tried`."""
        standing: list[tuple[Rule, Match]] = []
        taken_back: list[Hit] = []
        for index, matches in self.matched.items():
            rule = self.program.compiled[index].rule
            if rule.kind not in EVIDENCE:
                continue
            for match in matches:
                if self.page.parts[match.line] not in rule.weights:
                    continue
                ask(self.patience)
                guard = self._taken_back(index, match)
                if rule.id.startswith(PROBATION):
                    self.tried.append(self._hit(rule.id if guard is None else f"{rule.id}/{guard}", 0.0, match))
                elif guard is None:
                    standing.append((rule, match))
                else:
                    taken_back.append(self._hit(f"{rule.id}/{guard}", 0.0, match))
        return standing, list(dict.fromkeys(taken_back))

    def _guards(self) -> dict[int, list[tuple[Compiled, Match]]]:
        """The guards that matched, by their line."""
        found: dict[int, list[tuple[Compiled, Match]]] = {}
        for index, matches in self.matched.items():
            one = self.program.compiled[index]
            if one.rule.kind == "guard":
                for match in matches:
                    found.setdefault(match.line, []).append((one, match))
        return found

    def _taken_back(self, index: int, match: Match) -> str | None:
        """The id of the guard that takes a piece of evidence back."""
        evidence = self.program.compiled[index].rule
        if self.guards is None:
            self.guards = self._guards()
        for one, guard in self.guards.get(match.line, ()):
            rule = one.rule
            if evidence.id in rule.spares or (rule.only and evidence.id not in rule.only):
                continue
            if self._reaches(one, guard, match):
                if not rule.id.startswith(PROBATION):
                    return rule.id
                self.tried.append(self._hit(rule.id, 0.0, guard))
        if match.line not in self.quotations:
            line = self.page.folded[self.page.starts[match.line] : self.page.ends[match.line]]
            self.quotations[match.line] = [
                span for span in sentence.quotations(line) if not _PERFORMS.match(line, span[1])
            ]
        start = self.page.starts[match.line]
        first, last = match.start - start, match.end - start
        if any(a <= first < b or a < last <= b for a, b in self.quotations[match.line]):
            return QUOTED
        if self._of_another(match.line):
            return NAMES_ANOTHER
        return None

    def _of_another(self, line: int) -> bool:
        """Whether a line speaks of somebody else than the reader, or belongs to a letter to them."""
        if line not in self.of_another:
            page = self.page
            if self.addressed is None:
                self.addressed = page.addressed()
            reader, shows_another = self.addressed
            self.of_another[line] = (page.parts[line] == "new" and line >= shows_another) or names.speaks_of_another(
                page.shown[line], reader
            )
        return self.of_another[line]

    def _reaches(self, one: Compiled, guard: Match, match: Match) -> bool:
        rule = one.rule
        if rule.side == "around":
            return _apart(guard, match) <= rule.reach
        if rule.side == "after":
            if not (match.start <= guard.start <= match.end + rule.reach and guard.end > match.end):
                return False
            between = (match.end, guard.start)
        else:
            if not (guard.end <= match.end and guard.start < match.start and match.start - guard.end <= rule.reach):
                return False
            between = (guard.end, match.start)
        for number in one.until:
            for stop in self._spans(one, number):
                if stop.line == match.line and between[0] <= stop.start and stop.end <= max(between[1], match.end):
                    return False
        return True

    def _strongest_place(
        self, rule: Rule, matches: Sequence[Match], evidence: Sequence[Match]
    ) -> tuple[float, Match] | None:
        """Where a rule that counts once counts most: its points there and the match."""
        best: tuple[float, Match] | None = None
        for match in matches:
            part = _PART_SHOWN.get(self.page.parts[match.line], self.page.parts[match.line])
            beside = any(one.line == match.line and _apart(one, match) <= BESIDE for one in evidence)
            places = [part, "event"] if beside else [part]
            for place in places:
                points = rule.weights.get(cast("rulefile.Place", place))
                if points is not None and (best is None or abs(points) > abs(best[0])):
                    best = points, match
        return best

    def _hit(self, rule: str, score: float, match: Match) -> Hit:
        part = _PART_SHOWN.get(self.page.parts[match.line], self.page.parts[match.line])
        return Hit(rule, score, part, self.page.shown[match.line][:LONGEST_HIT])

    def _reason(
        self, ranked: Sequence[tuple[float, Rule, Match]], taken_back: Sequence[Hit], score: float, veto: str | None
    ) -> str:
        if not ranked:
            return f"guard:{taken_back[0].rule.partition('/')[2]}" if taken_back else "no-decline"
        if veto is not None:
            return f"veto:{veto}"
        return f"decline:{ranked[0][1].id}" if score >= self.threshold else "below-threshold"


def _apart(one: Match, other: Match) -> int:
    """Characters between two spans; 0 if they touch or overlap."""
    return max(0, one.start - other.end, other.start - one.end)
