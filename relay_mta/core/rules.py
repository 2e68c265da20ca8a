"""Judging: does this mail tell its reader, now and in its own words, that their job application was not successful?

It looks for positive proof in single sentences, and for signs of what kind of mail they stand in:

1. What was written *now* (the subject, and each rendition's new text without quotes and signature) is cleaned, cut into
   sentences and folded (`core.fold`, `core.sentence`); phrases are found in one pass (`core.phrase`).
2. *Evidence*: a `decline` proves by itself; a `hint` says no, perhaps to something else. Without evidence there is no
   score.
3. A `guard` takes back a piece of evidence in its own sentence (… の場合, もし …, 前回は …); so does a quotation 「…」,
   unless the sentence goes on to perform what it quotes, and so does the name of somebody else than the addressee
   (`core.names`). A guard never looks beyond its sentence.
4. The strongest evidence and the points of all *signs* are the score: `sign` rules, and single words with measured
   points (`core.signs`), and `dedicated_link` where the mail carries the company's own; less `no_job` where no `job`
   word stands.
5. A `veto` (an offer, a withdrawal, a reader who is an organisation …) ends the matter, in whichever rendition.

`Verdict.reason`: "decline:RULE" for a rejection; otherwise "veto:RULE", "no-decline" (no evidence), "guard:RULE" (all
evidence taken back), "below-threshold", "no-text". `Verdict.hits` has what counted, of the signs the weightiest;
evidence that was taken back has score 0 and "RULE/GUARD" as its rule.

Work is bounded: `page.LONGEST_JUDGED` characters of a rendition, `MOST_RENDITIONS` of a mail, regexes by RE2 (linear).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from typing import Final, Protocol

import re2

from relay_mta.core import fold, rulefile
from relay_mta.core.envelope import Envelope
from relay_mta.core.errors import Problem
from relay_mta.core.judging import Compiled, Judging, Phrases, Program
from relay_mta.core.page import Page, prepare
from relay_mta.core.patience import Patience, ask, endless
from relay_mta.core.phrase import Finder, Phrase, PhraseError, parse
from relay_mta.core.rulefile import EVIDENCE, Rule, RuleFiles, Scoring
from relay_mta.core.signs import Signs
from relay_mta.core.verdict import Verdict

__all__ = ["EVIDENCE", "Judged", "RuleSet"]

REGEX_MEMORY: Final = 64 << 20
"""Bytes that an automaton may grow to; at RE2's default of 8 MiB the one of all regexes was given up on most mails."""
MOST_RENDITIONS: Final = 4
"""Alternatives of one mail that are judged; a real mail has two."""


class _Layout(Protocol):
    @property
    def new(self) -> str: ...
    @property
    def quoted(self) -> str: ...
    @property
    def signature(self) -> str: ...


class _TextPart(Protocol):
    @property
    def layout(self) -> _Layout: ...


class Judged(Protocol):
    """What judging reads of a mail (`core.message.Message` is one)."""

    def first(self, name: str) -> str | None:
        """A header field's decoded value."""
        ...

    def values(self, name: str) -> Sequence[str]:
        """All decoded values of a header field."""
        ...

    @property
    def header_lines(self) -> Sequence[str]:
        """All header fields, decoded, as "Name: value"."""
        ...

    @property
    def attachments(self) -> Sequence[str]:
        """The attachments' file names."""
        ...

    @property
    def texts(self) -> Sequence[_TextPart]:
        """The body's renditions."""
        ...


class RuleSet:
    """Immutable, and safe to share between sessions."""

    hash: str
    threshold: float

    def __init__(self, files: RuleFiles) -> None:
        """Compile what was read; adds problems to `files.problems` and is unusable then. Use `parse`."""
        self.scoring: Scoring = files.scoring
        self.threshold = files.scoring.threshold
        self.rules: Mapping[str, Rule] = dict(files.rules)
        finders = Finder(), Finder()  # of evidence, and of everything else
        rules_of: tuple[dict[int, list[int]], dict[int, list[int]]] = {}, {}
        compiled = []
        for rule in files.rules.values():
            one = _compile(rule, files, finders[rule.kind not in EVIDENCE])
            if one is not None:
                compiled.append(one)
        for finder in finders:
            finder.freeze()
        for index, one in enumerate(compiled):
            for number in one.find:
                rules_of[one.rule.kind not in EVIDENCE].setdefault(number, []).append(index)
        places = frozenset(place for one in compiled for place in one.rule.weights)
        signs = Signs(files.signs), Signs(files.signs_of_subject)
        self.signs_count = sum(
            1 for each in (files.signs, files.signs_of_subject) for points in each.values() if points
        )
        evidence, others = (Phrases(*parts) for parts in zip(finders, rules_of, strict=True))
        self._program = Program(files.scoring, compiled, evidence, others, *_any_regex(compiled), places, *signs)
        self.hash = _digest(files)

    @classmethod
    def parse(cls, files: Sequence[tuple[str, bytes]]) -> RuleSet:
        """Read rule files (name, content) in load order. Raises `RuleError` with all problems of all files."""
        found = rulefile.read(files)
        made = cls(found)
        rulefile.check(found)
        return made

    def judge(
        self,
        message: Judged,
        envelope: Envelope | None = None,
        *,
        forced: bool = False,
        linked: bool = False,
        patience: Patience = endless,
    ) -> Verdict:
        """Judge a mail: each rendition for itself; a veto in any counts, a rejection needs to stand in one.

        The envelope's paths count to the places "sender" and "recipient". `forced`: `Scoring.forced_threshold` is in
        force; `linked`: the mail carries its company's dedicated link. Raises `SpliceError("limit:time")` when the time
        is up, which is asked for between renditions and rules.
        """
        subject = message.first("subject") or ""
        beside = self._beside(message, envelope)
        pages = []
        for part in message.texts[:MOST_RENDITIONS]:
            told = {"quoted": part.layout.quoted, "signature": part.layout.signature}
            own = {place: text for place, text in told.items() if text and place in self._program.places}
            pages.append(prepare(subject, part.layout.new, own | beside))
            ask(patience)
        return self._verdict(pages, forced=forced, linked=linked, patience=patience)

    def judge_text(self, subject: str, renditions: Iterable[str]) -> Verdict:
        """As `judge`, of a decoded subject and the new text of each rendition ("\\n" line ends)."""
        return self._verdict([prepare(subject, text) for text in renditions])

    def _verdict(
        self, pages: Sequence[Page], *, forced: bool = False, linked: bool = False, patience: Patience = endless
    ) -> Verdict:
        verdicts: dict[str, Verdict] = {}
        for page in pages:
            if page.folded not in verdicts:
                judging = Judging(self._program, page, forced=forced, linked=linked, patience=patience)
                verdicts[page.folded] = judging.verdict()
        if not verdicts:
            return Verdict("none", 0.0, self.threshold, "no-text")
        found = max(verdicts.values(), key=_precedence)
        if found.kind == "rejection":
            for page in pages:
                if verdicts[page.folded].reason.startswith(("decline:", "below-threshold")):
                    continue  # looked at for vetoes, because it has evidence
                veto = Judging(self._program, page, everything=True, patience=patience).veto()
                if veto is not None:  # a rendition that says nothing of a rejection may still be an offer
                    return replace(found, kind="none", reason=f"veto:{veto}")
        return found

    def _beside(self, message: Judged, envelope: Envelope | None) -> dict[str, str]:
        """What rules look at beside the text, as far as some rule does."""
        found: dict[str, Sequence[str]] = {}
        if "header" in self._program.places:
            found["header"] = message.header_lines
        if "sender" in self._program.places:
            path = (envelope.reverse_path,) if envelope else ()
            found["sender"] = (*message.values("from"), *message.values("sender"), *path)
        if "recipient" in self._program.places:
            paths = [recipient.forward_path for recipient in envelope.recipients] if envelope else []
            found["recipient"] = (*message.values("to"), *message.values("cc"), *paths)
        if "attachment" in self._program.places:
            found["attachment"] = message.attachments
        return {place: "\n".join(lines) for place, lines in found.items() if any(lines)}

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

    def signs_in(self, text: str) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, float], ...]]:
        """The signs of a text and their points: as part of a mail, and as its subject."""
        folded = prepare("", text).folded
        return tuple(self._program.signs.find(folded)), tuple(self._program.signs_of_subject.find(folded))

    def stands(self, rule: str, text: str) -> bool:
        """Whether a rule finds something in a text that no guard takes back; a guard: whether it is there at all."""
        page = prepare("", text)
        judging = Judging(self._program, page, everything=True)
        return judging.stands(rule)


def _precedence(verdict: Verdict) -> tuple[bool, bool, float]:
    """A veto in any rendition goes first, then a rejection, then the highest score."""
    return verdict.reason.startswith("veto:"), verdict.kind == "rejection", verdict.score


def _compile(rule: Rule, files: RuleFiles, finder: Finder) -> Compiled | None:
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
        try:
            regex = re2.compile(_for_lines(written), _options())
            if regex.search(""):
                text = f"regex: {written!r} matches a text of no characters: it is everywhere"
                files.problems.append(Problem(rule.file, text, rule.line, key=rule.id))
            regexes.append(regex)
        except re2.error as error:
            told = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error.args[0])
            text = f"regex: RE2 cannot read {written!r}: {told}"
            files.problems.append(Problem(rule.file, text, rule.line, key=rule.id))
    compiled = Compiled(
        rule, phrases("find", rule.find), tuple(regexes), phrases("unless", rule.unless), phrases("until", rule.until)
    )
    return compiled if len(files.problems) == before else None


def _for_lines(written: str) -> str:
    """An admin's regex for a folded page whose lines are its sentences."""
    return f"(?m:{fold.fold_japanese(written)})"


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = REGEX_MEMORY
    options.never_nl = True  # a sentence is a line of the page; [^x] and \s must not cross into the next one
    return options


def _any_regex(compiled: Sequence[Compiled]) -> tuple[re2.Set | None, tuple[int, ...]]:
    """One automaton of all regexes of evidence, and the rule of each; None if there is no regex."""
    numbered = [
        (index, regex) for index, one in enumerate(compiled) if one.rule.kind in EVIDENCE for regex in one.regex
    ]
    if not numbered:
        return None, ()
    every = re2.Set.SearchSet(_options())
    for _, regex in numbered:
        every.Add(regex.pattern)
    every.Compile()
    return every, tuple(index for index, _ in numbered)


def _digest(files: RuleFiles) -> str:
    """Twelve hex digits over everything that can change a verdict; not over comments, examples, places or layout."""
    signs = [sorted(each.items()) for each in (files.signs, files.signs_of_subject)]
    told: list[object] = [astuple(files.scoring), sorted(files.words.items()), signs]
    for rule in files.rules.values():
        plain = replace(rule, about="", file="", line=None, ok=(), fail=(), weights={})
        told.append([sorted(rule.weights.items()), sorted(rule.only), sorted(rule.spares)])
        told.append(replace(plain, only=frozenset(), spares=frozenset()))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12]
