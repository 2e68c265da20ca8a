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
from relay_mta.core.phrase import Finder
from relay_mta.core.rulefile import Rule, Scoring
from relay_mta.core.verdict import PROBATION, Hit, Verdict

LONGEST_HIT: Final = 200
"""Characters of a sentence that a hit shows."""
BESIDE: Final = 30
"""Characters of its sentence within which a word stands beside the evidence (place "event")."""
EVIDENCE: Final = ("decline", "unclear", "vague")
QUOTED: Final = "quoted"
NAMES_ANOTHER: Final = "names-another"
"""The names of the guards that are built in."""

_PERFORMS = re.compile("(?:という|との|といった)?(?:結果|結論|判断|決定)?(?:と|に|で)(?:さ|な|いたし|ございま|決|ご返)")
"""Behind a quotation: the sentence does what it quotes (「見送り」とさせていただきます)."""
_PART_SHOWN: Final = {ANSWERED: "subject"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule with its phrases as numbers of the finder."""

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
class Program:
    """A rule set, compiled. `with_regex` are the rules that have regexes; `any_regex` tells in one pass which of their
    regexes are in a text at all, and `regex_of` the rule of each."""

    scoring: Scoring
    compiled: Sequence[Compiled]
    finder: Finder
    by_phrase: Mapping[int, Sequence[int]]
    any_regex: re2.Set | None
    regex_of: Sequence[int]


class Judging:
    """One page being judged by one rule set."""

    def __init__(self, program: Program, page: Page, *, everything: bool = False) -> None:
        self.program = program
        self.page = page
        self.everything = everything
        self.occurrences = program.finder.find(page.folded)
        self.matched = self._matched()
        self.quotations: dict[int, list[tuple[int, int]]] = {}
        self.guards: dict[int, list[tuple[Compiled, Match]]] | None = None
        self.tried: list[Hit] = []  # of rules on probation: shown and counted, without effect

    def _matched(self) -> dict[int, list[Match]]:
        """All matches of all rules that their `unless` leaves standing, by the rule's index.

        A page without any evidence gets no further look: nothing else could make it a rejection.
        """
        compiled = self.program.compiled
        by_rule: dict[int, list[int]] = {}
        for number in self.occurrences.candidates():
            for index in self.program.by_phrase.get(number, ()):
                by_rule.setdefault(index, []).append(number)
        if self.program.any_regex is not None:
            met = self.program.any_regex.Match(self.page.folded)
            for rule in self.program.regex_of if met is None else {self.program.regex_of[one] for one in met}:
                by_rule.setdefault(rule, [])  # None: no regex, or its automaton grew too large; so all are tried
        found: dict[int, list[Match]] = {}
        ordered = sorted(by_rule, key=lambda index: compiled[index].rule.kind not in EVIDENCE)
        for index in ordered:
            if compiled[index].rule.kind not in EVIDENCE and not found and not self.everything:
                break
            matches = self._matches_of(compiled[index], by_rule[index])
            if matches:
                found[index] = matches
        return found

    def _matches_of(self, one: Compiled, numbers: Sequence[int]) -> list[Match]:
        page = self.page
        matches = [match for number in numbers for match in self._spans(number, one.rule.gap)]
        for regex in one.regex:
            for match in regex.finditer(page.folded):
                start, end = match.span()
                line = page.line_of(end)
                if page.starts[line] <= start:
                    matches.append(Match(start, end, line))
        if matches and one.unless:
            void = {match.line for number in one.unless for match in self._spans(number, one.rule.gap)}
            matches = [match for match in matches if match.line not in void]
        return matches

    def _spans(self, number: int, gap: int) -> list[Match]:
        if any(slot not in self.occurrences.spans for slot in self.occurrences.chains[number]):
            return []
        spans = self.occurrences.matches(number, gap, self.page.ends)
        return [Match(start, end, self.page.line_of(end)) for start, end in spans]

    def stands(self, rule: str) -> bool:
        for index, matches in self.matched.items():
            one = self.program.compiled[index].rule
            if one.id == rule:
                return one.kind not in EVIDENCE or any(self._taken_back(index, m) is None for m in matches)
        return False

    def verdict(self) -> Verdict:
        page, scoring, compiled = self.page, self.program.scoring, self.program.compiled
        events, taken_back = self._events()
        evidence_at = [match for _, match in events]
        hits: list[Hit] = []
        veto: str | None = None
        near = 0.0  # points of other business in the subject and beside the event
        sums = {"job": 0.0, "context": 0.0, "closing": 0.0, "other": 0.0}
        for index, matches in self.matched.items():
            rule = compiled[index].rule
            if rule.kind in (*EVIDENCE, "guard"):
                continue
            counted = self._strongest_place(rule, matches, evidence_at)
            if counted is None:
                continue
            points, match = counted
            if rule.id.startswith(PROBATION):
                hits.append(self._hit(rule.id, 0.0, match))
            elif rule.kind == "veto":
                veto = veto or rule.id
                hits.append(self._hit(rule.id, 0.0, match))
            else:
                sums[rule.kind] += points
                if rule.kind == "other" and points > rule.weights.get("new", 0.0):
                    near += points
                hits.append(self._hit(rule.id, -points if rule.kind == "other" else points, match))
        about_it = sums["job"] + sums["context"]
        context = min(about_it, scoring.context_cap)
        net = about_it + min(sums["closing"], scoring.closing_cap) - sums["other"]
        a_job = sums["job"] >= scoring.job_needed
        enough = {
            "decline": True,
            "unclear": a_job and context >= scoring.context_needed,
            "vague": a_job and net >= scoring.vague_needed,
        }
        sure = [pair for pair in events if enough[pair[0].kind]]
        best: dict[str, tuple[Rule, Match]] = {}
        for rule, match in sure:
            best.setdefault(rule.id, (rule, match))
        ranked = sorted(best.values(), key=lambda pair: (-max(pair[0].weights.values()), pair[1].start))
        score = 0.0
        if ranked:
            further = min((len(ranked) - 1) * scoring.further, scoring.further_cap)
            score = max(ranked[0][0].weights.values()) + further + context
            score += min(sums["closing"], scoring.closing_cap)
            score -= sums["other"] if all(rule.kind == "vague" for rule, _ in ranked) else near
        evidence = [self._hit(rule.id, max(rule.weights.values()), match) for rule, match in ranked]
        reason = self._reason(events, taken_back, ranked, score, veto)
        return Verdict(
            kind="rejection" if reason.startswith("decline:") else "none",
            score=round(score, 2),
            threshold=scoring.threshold,
            reason=reason,
            hits=(*evidence, *hits, *taken_back, *dict.fromkeys(self.tried)),
            language=page.language(),
        )

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
        if names.speaks_of_another(self.page.shown[match.line], self.page.reader):
            return NAMES_ANOTHER
        return None

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
            for stop in self._spans(number, rule.gap):
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
                if points is not None and (best is None or points > best[0]):
                    best = points, match
        return best

    def _hit(self, rule: str, score: float, match: Match) -> Hit:
        part = _PART_SHOWN.get(self.page.parts[match.line], self.page.parts[match.line])
        return Hit(rule, score, part, self.page.shown[match.line][:LONGEST_HIT])

    def _reason(
        self,
        events: Sequence[tuple[Rule, Match]],
        taken_back: Sequence[Hit],
        ranked: Sequence[tuple[Rule, Match]],
        score: float,
        veto: str | None,
    ) -> str:
        if not events:
            return f"guard:{taken_back[0].rule.partition('/')[2]}" if taken_back else "no-decline"
        if veto is not None:
            return f"veto:{veto}"
        if not ranked:
            return "no-context"
        return f"decline:{ranked[0][0].id}" if score >= self.program.scoring.threshold else "below-threshold"


def _apart(one: Match, other: Match) -> int:
    """Characters between two spans; 0 if they touch or overlap."""
    return max(0, one.start - other.end, other.start - one.end)
