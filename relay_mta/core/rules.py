"""Judging: does this mail tell its reader, now and in its own words, that their job application was not successful?

A rule set never counts words. It looks for positive proof in single sentences and is silent otherwise:

1. What was written *now* (the subject, and each rendition's new text without quotes and signature) is cleaned, cut into
   sentences and folded (`core.fold`, `core.sentence`); all phrases of all rules are found in one pass (`core.phrase`).
2. *Evidence*: a `decline` proves by itself; an `unclear` event, which names hiring (採用を見送る …), only within a mail
   about the reader's application (`context`); a `vague` one, which does not (見送り, ご希望に添えない …), only beside
   clearly more of that than of other business.
3. A `guard` takes back a piece of evidence in its own sentence (… の場合, もし …, 前回は …); so does a quotation 「…」,
   unless the sentence goes on to perform what it quotes. A guard never looks beyond its sentence.
4. The strongest evidence decides; further evidence, context and closing words add a little, each kind up to its cap;
   words of `other` business subtract, much in the subject and the event's sentence, little elsewhere.
5. A `veto` (an offer, a withdrawal, a reader who is an organisation …) ends the matter, in whichever rendition.

`Verdict.reason`: "decline:RULE" for a rejection; otherwise "veto:RULE", "no-decline" (no evidence), "guard:RULE" (all
evidence taken back), "no-context" (only unclear or vague events, and too little context), "below-threshold", "no-text".
`Verdict.hits` has everything that counted; evidence that was taken back has score 0 and "RULE/GUARD" as its rule.

Work is bounded: `page.LONGEST_JUDGED` characters of a rendition, `MOST_RENDITIONS` of a mail, regexes by RE2 (linear).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final, Protocol, cast

import re2

from relay_mta.core import fold, rulefile, sentence
from relay_mta.core.errors import Problem
from relay_mta.core.page import ANSWERED, Page, prepare
from relay_mta.core.phrase import Finder, Phrase, PhraseError, parse
from relay_mta.core.rulefile import Rule, RuleFiles, Scoring
from relay_mta.core.verdict import Hit, Verdict

LONGEST_HIT: Final = 200
"""Characters of a sentence that a hit shows."""
MOST_RENDITIONS: Final = 4
"""Alternatives of one mail that are judged; a real mail has two."""

_PERFORMS = re.compile("(?:という|との|といった)?(?:結果|結論|判断|決定)?(?:と|に|で)(?:さ|な|いたし|ございま|決|ご返)")
"""Behind a quotation: the sentence does what it quotes (「見送り」とさせていただきます)."""
_PART_SHOWN: Final = {ANSWERED: "subject"}
EVIDENCE: Final = ("decline", "unclear", "vague")
QUOTED: Final = "quoted"
"""The name of the guard that is built in."""


class _Layout(Protocol):
    @property
    def new(self) -> str: ...


class _TextPart(Protocol):
    @property
    def layout(self) -> _Layout: ...


class Judged(Protocol):
    """What judging reads of a mail (`core.message.Message` is one)."""

    def first(self, name: str) -> str | None:
        """A header field's decoded value."""
        ...

    @property
    def texts(self) -> Sequence[_TextPart]:
        """The body's renditions."""
        ...


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A rule with its phrases as numbers of the finder."""

    rule: Rule
    find: tuple[int, ...]
    regex: tuple[re2._Regexp, ...]
    unless: tuple[int, ...]
    until: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Match:
    """A span of the folded text, within its line."""

    start: int
    end: int
    line: int


class RuleSet:
    """Immutable, and safe to share between sessions."""

    hash: str
    threshold: float

    def __init__(self, files: RuleFiles) -> None:
        """Compile what was read; adds problems to `files.problems` and is unusable then. Use `parse`."""
        self.scoring: Scoring = files.scoring
        self.threshold = files.scoring.threshold
        self.rules: Mapping[str, Rule] = dict(files.rules)
        self._finder = Finder()
        self._compiled = [
            one for rule in files.rules.values() if (one := _compile(rule, files, self._finder)) is not None
        ]
        self._finder.freeze()
        self._by_phrase: dict[int, list[int]] = {}
        for index, one in enumerate(self._compiled):
            for number in one.find:
                self._by_phrase.setdefault(number, []).append(index)
        self._with_regex = [index for index, one in enumerate(self._compiled) if one.regex]
        self.hash = _digest(files)

    @classmethod
    def parse(cls, files: Sequence[tuple[str, bytes]]) -> RuleSet:
        """Read rule files (name, content) in load order. Raises `RuleError` with all problems of all files."""
        found = rulefile.read(files)
        made = cls(found)
        rulefile.check(found)
        return made

    def judge(self, message: Judged) -> Verdict:
        """Judge a mail: each rendition for itself; a veto in any counts, a rejection needs to stand in one."""
        texts = [part.layout.new for part in message.texts[:MOST_RENDITIONS]]
        return self.judge_text(message.first("subject") or "", texts)

    def judge_text(self, subject: str, renditions: Iterable[str]) -> Verdict:
        """As `judge`, of a decoded subject and the new text of each rendition ("\\n" line ends)."""
        verdicts: dict[str, Verdict] = {}
        for text in renditions:
            page = prepare(subject, text)
            if page.folded not in verdicts:
                verdicts[page.folded] = _Judging(self, page).verdict()
        if not verdicts:
            return Verdict("none", 0.0, self.threshold, "no-text")
        return max(verdicts.values(), key=_precedence)

    def failing_examples(self) -> tuple[Problem, ...]:
        """Every `ok` sentence in which its rule finds nothing, and every `fail` sentence in which it does."""
        problems = []
        for one in self.rules.values():
            for wanted, examples in ((True, one.ok), (False, one.fail)):
                for example in examples:
                    if self.stands(one.id, example) is not wanted:
                        told = "ok example: the rule does not match" if wanted else "fail example: the rule matches"
                        problems.append(Problem(one.file, f"{told} {example!r}", one.line, key=one.id))
        return tuple(problems)

    def stands(self, rule: str, text: str) -> bool:
        """Whether a rule finds something in a text that no guard takes back; a guard: whether it is there at all."""
        page = prepare("", text)
        judging = _Judging(self, page, everything=True)
        return judging.stands(rule)


class _Judging:
    """One page being judged by one rule set."""

    def __init__(self, rules: RuleSet, page: Page, *, everything: bool = False) -> None:
        self.rules = rules
        self.page = page
        self.everything = everything
        self.occurrences = rules._finder.find(page.folded)
        self.matched = self._matched()
        self.quotations: dict[int, list[tuple[int, int]]] = {}

    def _matched(self) -> dict[int, list[_Match]]:
        """All matches of all rules that their `unless` leaves standing, by the rule's index.

        A page without any evidence gets no further look: nothing else could make it a rejection.
        """
        compiled = self.rules._compiled
        by_rule: dict[int, list[int]] = {}
        for number in self.occurrences.candidates():
            for index in self.rules._by_phrase.get(number, ()):
                by_rule.setdefault(index, []).append(number)
        for index in self.rules._with_regex:
            by_rule.setdefault(index, [])
        found: dict[int, list[_Match]] = {}
        ordered = sorted(by_rule, key=lambda index: compiled[index].rule.kind not in EVIDENCE)
        for index in ordered:
            if compiled[index].rule.kind not in EVIDENCE and not found and not self.everything:
                break
            matches = self._matches_of(compiled[index], by_rule[index])
            if matches:
                found[index] = matches
        return found

    def _matches_of(self, one: _Compiled, numbers: Sequence[int]) -> list[_Match]:
        page = self.page
        matches = [match for number in numbers for match in self._spans(number, one.rule.gap)]
        for regex in one.regex:
            for match in regex.finditer(page.folded):
                start, end = match.span()
                line = page.line_of(end)
                if page.starts[line] <= start:
                    matches.append(_Match(start, end, line))
        if matches and one.unless:
            void = {match.line for number in one.unless for match in self._spans(number, one.rule.gap)}
            matches = [match for match in matches if match.line not in void]
        return matches

    def _spans(self, number: int, gap: int) -> list[_Match]:
        if any(slot not in self.occurrences.spans for slot in self.occurrences.chains[number]):
            return []
        spans = self.occurrences.matches(number, gap, self.page.ends)
        return [_Match(start, end, self.page.line_of(end)) for start, end in spans]

    def stands(self, rule: str) -> bool:
        for index, matches in self.matched.items():
            one = self.rules._compiled[index].rule
            if one.id == rule:
                return one.kind not in EVIDENCE or any(self._taken_back(index, m) is None for m in matches)
        return False

    def verdict(self) -> Verdict:
        rules, page, scoring = self.rules, self.page, self.rules.scoring
        events, taken_back = self._events()
        event_lines = {match.line for _, match in events}
        hits: list[Hit] = []
        veto: str | None = None
        sums = {"context": 0.0, "closing": 0.0, "other": 0.0}
        for index, matches in self.matched.items():
            rule = rules._compiled[index].rule
            if rule.kind in (*EVIDENCE, "guard"):
                continue
            counted = self._strongest_place(rule, matches, event_lines)
            if counted is None:
                continue
            points, match = counted
            if rule.kind == "veto":
                veto = veto or rule.id
                hits.append(self._hit(rule.id, 0.0, match))
            else:
                sums[rule.kind] += points
                hits.append(self._hit(rule.id, -points if rule.kind == "other" else points, match))
        context = min(sums["context"], scoring.context_cap)
        net = sums["context"] + min(sums["closing"], scoring.closing_cap) - sums["other"]
        enough = {
            "decline": True,
            "unclear": context >= scoring.context_needed,
            "vague": net >= scoring.vague_needed,
        }
        sure = [pair for pair in events if enough[pair[0].kind]]
        best: dict[str, tuple[Rule, _Match]] = {}
        for rule, match in sure:
            best.setdefault(rule.id, (rule, match))
        ranked = sorted(best.values(), key=lambda pair: (-max(pair[0].weights.values()), pair[1].start))
        score = 0.0
        if ranked:
            further = min((len(ranked) - 1) * scoring.further, scoring.further_cap)
            score = max(ranked[0][0].weights.values()) + further + context
            score += min(sums["closing"], scoring.closing_cap) - sums["other"]
        evidence = [self._hit(rule.id, max(rule.weights.values()), match) for rule, match in ranked]
        reason = self._reason(events, taken_back, ranked, score, veto)
        return Verdict(
            kind="rejection" if reason.startswith("decline:") else "none",
            score=round(score, 2),
            threshold=rules.threshold,
            reason=reason,
            hits=(*evidence, *hits, *taken_back),
            language=page.language(),
        )

    def _events(self) -> tuple[list[tuple[Rule, _Match]], list[Hit]]:
        """The evidence that stands, and hits for what was taken back."""
        standing: list[tuple[Rule, _Match]] = []
        taken_back: list[Hit] = []
        for index, matches in self.matched.items():
            rule = self.rules._compiled[index].rule
            if rule.kind not in EVIDENCE:
                continue
            for match in matches:
                if self.page.parts[match.line] not in rule.weights:
                    continue
                guard = self._taken_back(index, match)
                if guard is None:
                    standing.append((rule, match))
                else:
                    taken_back.append(self._hit(f"{rule.id}/{guard}", 0.0, match))
        return standing, taken_back

    def _taken_back(self, index: int, match: _Match) -> str | None:
        """The id of the guard that takes a piece of evidence back."""
        evidence = self.rules._compiled[index].rule
        for guard_index, guards in self.matched.items():
            one = self.rules._compiled[guard_index]
            rule = one.rule
            if rule.kind != "guard" or evidence.id in rule.spares or (rule.only and evidence.id not in rule.only):
                continue
            for guard in guards:
                if guard.line == match.line and self._reaches(one, guard, match):
                    return rule.id
        if match.line not in self.quotations:
            line = self.page.folded[self.page.starts[match.line] : self.page.ends[match.line]]
            self.quotations[match.line] = [
                span for span in sentence.quotations(line) if not _PERFORMS.match(line, span[1])
            ]
        start = self.page.starts[match.line]
        first, last = match.start - start, match.end - start
        if any(a <= first < b or a < last <= b for a, b in self.quotations[match.line]):
            return QUOTED
        return None

    def _reaches(self, one: _Compiled, guard: _Match, match: _Match) -> bool:
        rule = one.rule
        if rule.side == "around":
            return True
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
        self, rule: Rule, matches: Sequence[_Match], event_lines: set[int]
    ) -> tuple[float, _Match] | None:
        """Where a rule that counts once counts most: its points there and the match."""
        best: tuple[float, _Match] | None = None
        for match in matches:
            part = _PART_SHOWN.get(self.page.parts[match.line], self.page.parts[match.line])
            places = [part, "event"] if match.line in event_lines else [part]
            for place in places:
                points = rule.weights.get(cast("rulefile.Place", place))
                if points is not None and (best is None or points > best[0]):
                    best = points, match
        return best

    def _hit(self, rule: str, score: float, match: _Match) -> Hit:
        part = _PART_SHOWN.get(self.page.parts[match.line], self.page.parts[match.line])
        return Hit(rule, score, part, self.page.shown[match.line][:LONGEST_HIT])

    def _reason(
        self,
        events: Sequence[tuple[Rule, _Match]],
        taken_back: Sequence[Hit],
        ranked: Sequence[tuple[Rule, _Match]],
        score: float,
        veto: str | None,
    ) -> str:
        if not events:
            return f"guard:{taken_back[0].rule.partition('/')[2]}" if taken_back else "no-decline"
        if veto is not None:
            return f"veto:{veto}"
        if not ranked:
            return "no-context"
        return f"decline:{ranked[0][0].id}" if score >= self.rules.threshold else "below-threshold"


def _precedence(verdict: Verdict) -> tuple[bool, bool, float]:
    """A veto in any rendition goes first, then a rejection, then the highest score."""
    return verdict.reason.startswith("veto:"), verdict.kind == "rejection", verdict.score


def _compile(rule: Rule, files: RuleFiles, finder: Finder) -> _Compiled | None:
    """Compile a rule's phrases and regexes; what cannot be goes to `files.problems`."""
    before = len(files.problems)

    def phrases(key: str, written: Sequence[str]) -> tuple[int, ...]:
        numbers = []
        for one in written:
            try:
                read: Phrase = parse(one, files.words)
            except PhraseError as error:
                files.problems.append(Problem(rule.file, f"{key}: {one!r}: {error}", rule.line, key=rule.id))
            else:
                numbers.append(finder.add(read))
        return tuple(numbers)

    regexes = []
    for written in rule.regex:
        options = re2.Options()
        options.log_errors = False
        options.never_nl = True  # a sentence is a line of the page; [^x] and \s must not cross into the next one
        try:
            regexes.append(re2.compile(f"(?m:{fold.fold_japanese(written)})", options))
        except re2.error as error:
            told = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error.args[0])
            text = f"regex: RE2 cannot read {written!r}: {told}"
            files.problems.append(Problem(rule.file, text, rule.line, key=rule.id))
    compiled = _Compiled(
        rule, phrases("find", rule.find), tuple(regexes), phrases("unless", rule.unless), phrases("until", rule.until)
    )
    return compiled if len(files.problems) == before else None


def _digest(files: RuleFiles) -> str:
    """Twelve hex digits over everything that can change a verdict; not over comments, examples, places or layout."""
    told: list[object] = [astuple(files.scoring), sorted(files.words.items())]
    for rule in files.rules.values():
        plain = replace(rule, about="", file="", line=None, ok=(), fail=(), weights={})
        told.append([sorted(rule.weights.items()), sorted(rule.only), sorted(rule.spares)])
        told.append(replace(plain, only=frozenset(), spares=frozenset()))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12]
