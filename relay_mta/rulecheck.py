"""Everything that is wrong with rule files, at once, each with the place where it stands, for the person who wrote it.

*Problems* are what keeps a rule set from being put in force (`rulefolder`, `core.rulefile`, `core.rules`), examples
that do not come out as written, and what can have no effect (`ruleeffect`). *Notes* are what an admin did on purpose
and will want to see: shipped files replaced, rules changed or dropped, rules on probation. What has no effect in a
shipped file, which an admin should leave alone, is a note, and only where the shipped files are checked by themselves.

If something is wrong on which other rules rest (a file that cannot be read, a word list, a guard), examples and effects
are not looked at: what they would tell is not the rules' own fault. `Checked.examined` says so.
"""

from __future__ import annotations

import ast
import contextlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from relay_mta.core import rulefile
from relay_mta.core.errors import Problem
from relay_mta.core.rulefile import RuleFiles
from relay_mta.core.rules import RuleSet
from relay_mta.core.verdict import PROBATION
from relay_mta.ruleeffect import without_effect
from relay_mta.rulefolder import SHIPPED, Gathered
from relay_mta.tomllines import key_lines

_HEADER = re.compile(r"\s*\[\[\s*rule\s*\]\]")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_KEYED = re.compile(r"(?:\w+\.)?(\w+): ")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say. `source` is the line that it is about, if there is one; `span` where in it: (start, end)."""

    problem: Problem
    source: str | None = None
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found. `rules`, `signs`, `examples`: how many there are; `hash`: "" if the set cannot be used."""

    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    files: int
    rules: int
    signs: int
    examples: int
    hash: str
    examined: bool


@dataclass(frozen=True, slots=True)
class Mention:
    """One [[rule]] table that speaks of a rule: `says` are its keys other than the id, as written."""

    id: str
    file: str
    line: int | None
    says: Mapping[str, Any]

    @property
    def disables(self) -> bool:
        return self.says.get("disabled") is True


def check(gathered: Gathered) -> Checked:
    """Check gathered rule files whole; never raises for what they say."""
    found = rulefile.read(gathered.parts())
    rules = RuleSet(found)
    problems = [*gathered.problems, *found.problems]
    notes = list(_notes(gathered, found))
    examined = not any(_others_rest_on(problem, found) for problem in problems)
    only_shipped = all(each.place.startswith(SHIPPED) for each in gathered.files)
    if examined:
        wrong = {problem.key for problem in problems}
        problems += [problem for problem in rules.failing_examples() if problem.key not in wrong]
        written = {(each.file, each.id, key) for each in mentions(gathered) for key in each.says}
        for problem in without_effect(found):
            key = problem.text.partition(":")[0]
            if (problem.file, problem.key, key) in written and not problem.file.startswith(SHIPPED):
                problems += [problem] if problem.key not in wrong else []
            elif key == "weight" or only_shipped:  # not what the admin wrote, but perhaps what came of it
                notes.append(problem)
    texts = {each.place: each.content.decode("utf-8-sig", "replace").split("\n") for each in gathered.files}
    order = {each.place: number for number, each in enumerate(gathered.files)}

    def placed(found: list[Problem]) -> tuple[Finding, ...]:
        findings = (_placed(problem, texts.get(problem.file, [])) for problem in found)
        return tuple(sorted(findings, key=lambda f: (order.get(f.problem.file, -1), f.problem.line or 0)))

    usable = not gathered.problems and not found.problems
    return Checked(
        problems=placed(problems),
        notes=placed(notes),
        files=len(gathered.files),
        rules=len(found.rules),
        signs=len(found.signs) + len(found.signs_of_subject),
        examples=sum(len(rule.ok) + len(rule.fail) for rule in found.rules.values()),
        hash=rules.hash if usable else "",
        examined=examined,
    )


def mentions(gathered: Gathered) -> Iterator[Mention]:
    """Every [[rule]] table that has an id, in load order; files that are not TOML are passed over."""
    for each in gathered.files:
        try:
            text = each.content.decode("utf-8-sig")
            tables = tomllib.loads(text).get("rule", [])
        except (ValueError, RecursionError):
            continue
        lines = key_lines(text)
        for number, table in enumerate(tables if isinstance(tables, list) else []):
            if isinstance(table, dict) and isinstance(table.get("id"), str):
                line = lines.get(("rule", number, "id"))
                yield Mention(table["id"], each.place, line, {k: v for k, v in table.items() if k != "id"})


def _others_rest_on(problem: Problem, found: RuleFiles) -> bool:
    """Whether other rules than the one that is wrong may come out otherwise for it."""
    if problem.key is None or problem.key not in found.tables:
        return True
    return found.tables[problem.key].get("kind") == "guard"


# --- notes ----------------------------------------------------------------------------------------------------------


def _notes(gathered: Gathered, found: RuleFiles) -> Iterator[Problem]:
    for each in gathered.files:
        if each.replaces is not None:
            what = "takes the place of" if each.content.strip() else "is empty and takes out"
            yield Problem(each.place, f"{what} {each.replaces}")
    first: dict[str, Mention] = {}
    for mention in mentions(gathered):
        earlier = first.setdefault(mention.id, mention)
        if mention is earlier:
            continue
        where = f"{earlier.file}:{earlier.line}" if earlier.line else earlier.file
        if mention.disables:
            yield Problem(mention.file, f"drops the rule of {where}", mention.line, key=mention.id)
        elif mention.says.get("override") is True:
            changed = ", ".join(key for key in mention.says if key not in ("override", "disabled"))
            yield Problem(mention.file, f"changes {changed or 'nothing'} of {where}", mention.line, key=mention.id)
    for rule in found.rules.values():
        if rule.id.startswith(PROBATION):
            yield Problem(rule.file, "is on probation: it changes no verdict", rule.line, key=rule.id)
        gone = sorted(id for id in rule.only | rule.spares if id in found.tables and id not in found.rules)
        if gone and (rule.spares or len(gone) < len(rule.only)):
            yield Problem(rule.file, f"names rules that are dropped: {', '.join(gone)}", rule.line, key=rule.id)
    used = set(re.findall(r"\{\s*([^{}]*?)\s*\}", " ".join(_phrases(found))))
    for name in sorted(found.words.keys() - used):
        yield Problem("words", f"no phrase names the list {name!r}")


def _phrases(found: RuleFiles) -> Iterator[str]:
    for rule in found.rules.values():
        yield from (*rule.find, *rule.unless, *rule.until)
    for words in found.words.values():
        yield from words


# --- places ---------------------------------------------------------------------------------------------------------


def _placed(problem: Problem, lines: list[str]) -> Finding:
    """A problem with the line it is about and where in it, as far as that can be told."""
    if problem.line is None or not 1 <= problem.line <= len(lines):
        return Finding(problem)
    if problem.column is not None:
        return Finding(problem, lines[problem.line - 1], (problem.column - 1, problem.column))
    end = next((n for n in range(problem.line, len(lines)) if _HEADER.match(lines[n])), len(lines))
    for pattern in _quoted(problem.text):
        for number in range(problem.line - 1, end):
            span = _span_of(pattern, lines[number], problem.text)
            if span is not None:
                return Finding(replace(problem, line=number + 1, column=span[0] + 1), lines[number], span)
    source = lines[problem.line - 1]
    keyed = _KEYED.match(problem.text)
    setting = re.search(rf"\b{keyed[1]}[\"']?\s*=\s*", source) if keyed else None
    if setting is None:
        return Finding(problem, source)
    span = (setting.end(), len(source.rstrip()))
    if "unknown key" in problem.text:
        span = (setting.start(), setting.start() + len(keyed[1] if keyed else ""))
    return Finding(replace(problem, column=span[0] + 1), source, span)


def _quoted(text: str) -> Iterator[str]:
    """What a problem quotes as Python writes it, the longest first: that is the pattern, not a word of the reason."""
    for quoted in sorted(_QUOTED.findall(text), key=len, reverse=True):
        with contextlib.suppress(ValueError, SyntaxError):  # quotation marks of somebody else's
            yield ast.literal_eval(quoted)


def _span_of(pattern: str, line: str, told: str) -> tuple[int, int] | None:
    """Where a pattern stands in a line, plainly or as a TOML basic string; or the part of it that RE2 cannot do."""
    escaped = pattern.replace("\\", "\\\\").replace('"', '\\"')
    for sign, written in (("'", pattern), ('"', escaped), ("", pattern)):
        whole = f"{sign}{written}{sign}"
        start = line.rfind(whole) if "a second time" in told else line.find(whole)
        if written and start >= 0:
            start += len(sign)
            fragment = told.rpartition(": ")[2]  # RE2 ends with the construct that it cannot do
            inner = written.find(fragment) if "RE2" in told else -1
            if fragment and inner >= 0:
                return start + inner, start + inner + len(fragment)
            return start, start + len(written)
    return None
