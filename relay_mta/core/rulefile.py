"""Rule files: TOML that an admin writes, read into `Rule` values, with every problem found at once, file and line.

    [words]                             # lists that phrases name in {curly brackets}; "+name" adds to a list
    hire = ["採用", "(ご|)入社"]

    [scoring]                           # see `Scoring`
    threshold = 10

    [signs]                             # words and their points: how much a mail that has them reads like a rejection
    "応募いただき" = 1.2
    "ご返信ください" = -0.9              # 0 takes a sign out
    [signs-of-subject]                  # the same, of the subject alone
    "選考結果" = 0.7

    [[rule]]
    id = "ja-hire-put-off"              # unique; a later file may override or disable it
    about = "採用を見送る"               # one line for the person who reads an explanation
    kind = "decline"                    # what kind of evidence: see KINDS
    weight = 10                         # points; or by place: weight = { subject = -6, event = -6, new = -1 }
    find = ["{hire}を…見送"]            # phrases: see `core.phrase`
    regex = []                          # RE2, matched against the folded text
    gap = 25                            # how many characters a … may stand for
    where = ["new"]                     # places: see PLACES; "whole" stands for subject, new, quoted and signature
    unless = ["見送る場合"]              # phrases that void the match if they stand in the same sentence
    ok = ["今回は採用を見送ります。"]     # sentences in which it must find something
    fail = ["採用を見送る場合があります。"] # … and must not

A guard has also `side` ("after", "before" or "around" the evidence it takes back), `reach` (how many characters may lie
between the two), `until` (words between them that end its reach) and `only` / `spares` (the ids that it applies to
alone / never).

Reading is pure: the caller brings the bytes. docs/rules.md tells an admin the same at more length.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeVar, cast, get_args

from relay_mta.core import fold
from relay_mta.core.errors import Problem, RuleError

Kind = Literal["decline", "hint", "job", "sign", "guard", "veto"]
Place = Literal[
    "subject", "opening", "event", "new", "quoted", "signature", "header", "sender", "recipient", "attachment"
]
Side = Literal["after", "before", "around"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EVIDENCE: Final = ("decline", "hint")
PLACES: tuple[Place, ...] = get_args(Place)
SIDES: tuple[Side, ...] = get_args(Side)

LARGEST_FILE = 1_048_576
"""Bytes. The shipped files have a few dozen KiB each; a larger one is not a rule file."""
LARGEST_GAP = 200

WHOLE: tuple[Place, ...] = ("subject", "new", "quoted", "signature")
"""What "whole" stands for in `where`."""

_PLACES_OF: Mapping[Kind, tuple[Place, ...]] = {
    "decline": ("subject", "new"),
    "hint": ("new",),
    "job": ("subject", "opening", "new"),
    "sign": ("subject", "new"),
    "guard": (),
    "veto": ("subject", "opening", "new"),
}
_Word = TypeVar("_Word", bound=str)
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_NOT_LATIN = re.compile("[^a-z0-9]+")
_ID_LINE = re.compile(r"^\s*\[\[\s*rule\s*\]\]")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Scoring:
    """How points add up: the strongest evidence, and all signs, and `dedicated_link` where the mail carries its
    company's dedicated link; less `no_job` where no `job` word stands in the mail.

    `threshold` points make a rejection. A mail whose sender asks for a link (`X-Career-Relay: on`, where the company
    allows it) needs `forced_threshold`.
    """

    threshold: float = 10.0
    forced_threshold: float = 7.0
    no_job: float = 0.0
    dedicated_link: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as written, checked; `weights` has its points by place (a rule with one weight has it at each place)."""

    id: str
    kind: Kind
    about: str
    file: str
    line: int | None
    weights: Mapping[Place, float]
    find: tuple[str, ...] = ()
    regex: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    gap: int = 25
    side: Side = "after"
    reach: int = 8
    until: tuple[str, ...] = ()
    only: frozenset[str] = frozenset()
    spares: frozenset[str] = frozenset()
    ok: tuple[str, ...] = ()
    fail: tuple[str, ...] = ()


@dataclass
class RuleFiles:
    """What a sequence of rule files says together. `rules` is in the order of first mention."""

    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scoring: Scoring = field(default_factory=Scoring)
    signs: dict[str, float] = field(default_factory=dict)
    signs_of_subject: dict[str, float] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read(files: Sequence[tuple[str, bytes]]) -> RuleFiles:
    """Read all files in order; whatever is wrong stands in `.problems`, and what is right is there all the same."""
    found = RuleFiles()
    for name, content in files:
        _File(name, content, found).read()
    if not files:
        found.problems.append(Problem("rules", "there is no rule file"))
    elif not found.rules and not found.problems:
        found.problems.append(Problem(files[0][0], "there is not a single rule in the rule files"))
    for rule in found.rules.values():
        for other in (*rule.only, *rule.spares):
            if other not in found.tables:
                found.problems.append(Problem(rule.file, f"there is no rule {other!r}", rule.line, key=rule.id))
    return found


class _File:
    """One file on its way into `RuleFiles`."""

    def __init__(self, name: str, content: bytes, into: RuleFiles) -> None:
        self.name = name
        self.content = content
        self.into = into
        self.lines: list[str] = []
        self.headers: list[int] = []

    def problem(self, text: str, line: int | None = None, column: int | None = None, key: str | None = None) -> None:
        self.into.problems.append(Problem(self.name, text, line, column, key))

    def read(self) -> None:
        if len(self.content) > LARGEST_FILE:
            self.problem(f"it has {len(self.content)} bytes; a rule file has at most {LARGEST_FILE}")
            return
        try:
            text = self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = self.content.count(b"\n", 0, error.start) + 1
            self.problem(f"not UTF-8: byte 0x{self.content[error.start]:02x}; save the file as UTF-8", line)
            return
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            place = _TOML_PLACE.search(str(error))
            at = (int(place[1]), int(place[2])) if place and place[1] else (text.count("\n") + 1, None)
            self.problem(f"not TOML: {_TOML_PLACE.sub('', str(error))}", *at)
            return
        except RecursionError:
            self.problem("not TOML: nested too deeply")
            return
        self.lines = text.split("\n")
        self.headers = [number for number, line in enumerate(self.lines, 1) if _ID_LINE.match(line)]
        for key, value in document.items():
            if key == "words":
                self._words(value)
            elif key == "scoring":
                self._scoring(value)
            elif key == "signs":
                self._signs(key, value, self.into.signs)
            elif key == "signs-of-subject":
                self._signs(key, value, self.into.signs_of_subject)
            elif key == "rule":
                self._rules(value)
            else:
                self.problem(
                    "unknown table; expected words, scoring, signs, signs-of-subject or rule",
                    self._line_of(key),
                    key=key,
                )

    def _line_of(self, key: str, start: int = 1, end: int | None = None) -> int | None:
        """The first line from `start` that sets `key` or opens it as a table."""
        setting = re.compile(rf"\s*(?:\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*(?:=|\]|\.)")
        for number, line in enumerate(self.lines[start - 1 : end], start):
            if setting.match(line):
                return number
        return None

    def _words(self, value: object) -> None:
        if not isinstance(value, dict):
            self.problem("expected a table of lists", self._line_of("words"), key="words")
            return
        for name, listed in value.items():
            line = self._line_of(name)
            words = _strings(listed)
            plain = name.removeprefix("+")
            if words is None or not words:
                self.problem("expected a list of words", line, key=f"words.{name}")
            elif name.startswith("+"):
                self.into.words[plain] = self.into.words.get(plain, ()) + words
            elif plain in self.into.words:
                self.problem(f'this list exists already; "+{plain}" adds to it', line, key=f"words.{name}")
            else:
                self.into.words[plain] = words

    def _scoring(self, value: object) -> None:
        known = {one.name for one in fields(Scoring)}
        changes: dict[str, float] = {}
        for key, number in value.items() if isinstance(value, dict) else ():
            if key not in known:
                self.problem(
                    f"unknown key; expected {', '.join(sorted(known))}", self._line_of(key), key=f"scoring.{key}"
                )
            elif not _is_number(number) or number < 0:
                self.problem("expected a number of points, 0 or more", self._line_of(key), key=f"scoring.{key}")
            else:
                changes[key] = float(number)
        now = {one.name: getattr(self.into.scoring, one.name) for one in fields(Scoring)}
        self.into.scoring = Scoring(**(now | changes))

    def _signs(self, table: str, value: object, into: dict[str, float]) -> None:
        if not isinstance(value, dict):
            self.problem("expected a table of words and their points", self._line_of(table), key=table)
            return
        for word, points in value.items():
            folded = fold.phrase(word)
            folded = _NOT_LATIN.sub(" ", folded).strip() if folded.isascii() else folded  # as `core.signs` sees it
            if not folded:
                self.problem("expected a word to look for", self._line_of(word), key=f"{table}.{word}")
            elif not _is_number(points):
                text = f"{word!r}: expected a number of points, less than 0 where it speaks against a rejection"
                self.problem(text, self._line_of(word), key=table)
            else:
                into[folded] = float(points)

    def _rules(self, value: object) -> None:
        if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
            self.problem("expected [[rule]] tables", self._line_of("rule"), key="rule")
            return
        placed = len(self.headers) == len(value)
        for number, table in enumerate(value):
            start = self.headers[number] if placed else None
            end = self.headers[number + 1] - 1 if placed and number + 1 < len(value) else None
            self._rule(cast("dict[str, Any]", table), start, end)

    def _rule(self, table: dict[str, Any], start: int | None, end: int | None) -> None:
        name = table.get("id")
        line = self._line_of("id", start, end) or start if start else None
        if not isinstance(name, str) or not _ID.fullmatch(name):
            self.problem("expected an id of letters, digits, - and _ that starts with a letter", line, key="id")
            return
        before = self.into.tables.get(name)
        if before is not None and not (table.get("override") is True or table.get("disabled") is True):
            first = self.into.rules.get(name)
            where = f" ({first.file}:{first.line})" if first else ""
            self.problem(f"this id is used twice{where}; override = true changes the earlier rule", line, key=name)
            return
        if before is None and table.get("override") is True:
            self.problem("override = true, but there is no earlier rule of this id", line, key=name)
            return
        merged = {**(before or {}), **table}
        self.into.tables[name] = merged
        checked = _Table(self, name, merged, line, (start, end)).rule()
        if table.get("disabled") is True:
            self.into.rules.pop(name, None)
        elif checked is not None:
            self.into.rules[name] = checked


class _Table:
    """One [[rule]] table, checked key by key."""

    KEYS = frozenset({one.name for one in fields(Rule)} - {"file", "line", "weights"}) | {
        "weight", "where", "override", "disabled",
    }  # fmt: skip

    def __init__(
        self, file: _File, name: str, table: dict[str, Any], line: int | None, lines: tuple[int | None, int | None]
    ) -> None:
        self.file = file
        self.name = name
        self.table = table
        self.line = line
        self.lines = lines
        self.sound = True

    def problem(self, key: str, text: str) -> None:
        start, end = self.lines
        line = (self.file._line_of(key, start, end) if start else None) or self.line
        self.file.problem(f"{key}: {text}", line, key=self.name)
        self.sound = False

    def rule(self) -> Rule | None:
        for key in self.table.keys() - self.KEYS:
            self.problem(key, f"unknown key; expected one of {', '.join(sorted(self.KEYS))}")
        kind = self.word("kind", KINDS, None)
        texts = {key: self.texts(key) for key in ("find", "regex", "unless", "until", "only", "spares", "ok", "fail")}
        about = self.table.get("about")
        if not isinstance(about, str) or not about.strip() or "\n" in about:
            self.problem("about", "expected one line that says what the rule is about")
        if not texts["find"] and not texts["regex"]:
            self.problem("find", "expected at least one phrase, here or in regex")
        for key in ("override", "disabled"):
            if not isinstance(self.table.get(key, False), bool):
                self.problem(key, "expected true or false")
        gap = self.table.get("gap", 25)
        if not isinstance(gap, int) or isinstance(gap, bool) or not 0 <= gap <= LARGEST_GAP:
            self.problem("gap", f"expected a number of characters from 0 to {LARGEST_GAP}")
        side = self.word("side", SIDES, "after")
        reach = self.table.get("reach", 8 if side == "after" else 400)
        if not isinstance(reach, int) or isinstance(reach, bool) or reach < 0:
            self.problem("reach", "expected a number of characters, 0 or more")
        weights = self.weights(kind) if kind else {}
        if kind != "guard":
            for key in ("side", "reach", "until", "only", "spares"):
                if key in self.table:
                    self.problem(key, "only a guard has it")
        if not self.sound or kind is None or side is None:
            return None
        return Rule(
            id=self.name, kind=kind, about=str(about).strip(), file=self.file.name, line=self.line, weights=weights,
            find=texts["find"], regex=texts["regex"], unless=texts["unless"], until=texts["until"], gap=gap, side=side,
            reach=reach, only=frozenset(texts["only"]), spares=frozenset(texts["spares"]), ok=texts["ok"],
            fail=texts["fail"],
        )  # fmt: skip

    def word(self, key: str, choices: tuple[_Word, ...], default: _Word | None) -> _Word | None:
        value = self.table.get(key, default)
        if value not in choices:
            self.problem(key, f"expected {', '.join(choices)}")
            return None
        return cast("_Word", value)

    def texts(self, key: str) -> tuple[str, ...]:
        value = _strings(self.table.get(key, []))
        if value is None:
            self.problem(key, "expected a list of texts, none of them empty")
        return value or ()

    def weights(self, kind: Kind) -> dict[Place, float]:
        written = self.texts("where") or _PLACES_OF[kind]
        where = [place for one in written for place in (WHOLE if one == "whole" else (one,))]
        for place in where:
            if place not in PLACES:
                self.problem("where", f"{place!r} is no place; expected whole, {', '.join(PLACES)}")
        if kind in EVIDENCE and set(where) - {"subject", "new"}:
            self.problem("where", f"{kind} evidence is what the sender writes now; expected subject, new")
        if kind in ("guard", "veto", "job"):
            if "weight" in self.table:
                self.problem("weight", f"a {kind} has none")
            return dict.fromkeys(cast("tuple[Place, ...]", where), 0.0)
        weight = self.table.get("weight")
        if isinstance(weight, dict):
            if "where" in self.table:
                self.problem("where", "the places stand in weight already")
            for place, points in weight.items():
                if place not in PLACES or not self._fits(kind, points):
                    self.problem("weight", f"expected places ({', '.join(PLACES)}) with {_POINTS[kind == 'sign']}")
                    return {}
            if kind in EVIDENCE and weight.keys() - {"subject", "new"}:
                self.problem("weight", f"{kind} evidence is what the sender writes now; expected subject, new")
            return {place: float(points) for place, points in weight.items()}
        if not self._fits(kind, weight):
            self.problem("weight", f"expected {_POINTS[kind == 'sign']}")
            return {}
        return dict.fromkeys(cast("tuple[Place, ...]", where), float(cast("float", weight)))

    @staticmethod
    def _fits(kind: Kind, points: object) -> bool:
        return _is_number(points) and (cast("float", points) != 0 if kind == "sign" else cast("float", points) > 0)


_POINTS = {
    False: "a number of points greater than 0",
    True: "a number of points, less than 0 where it speaks against a rejection",
}


def _strings(value: object) -> tuple[str, ...] | None:
    """A list of texts, none of them empty; None if it is anything else."""
    if isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value):
        return tuple(value)
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6


def check(found: RuleFiles) -> None:
    """Raise `RuleError` with all problems, if there are any."""
    if found.problems:
        raise RuleError(tuple(found.problems))
