"""What `relay-mta rules` prints, as lines of plain text. Sentences of mails are made harmless for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len

from relay_mta.cli.report import safe
from relay_mta.core.rulefile import Rule
from relay_mta.rulecheck import Checked, Finding, Mention
from relay_mta.rulemeasure import Counts, Judged, Measured, differences
from relay_mta.rulereport import Explained, Shown, Spelling, weights_text
from relay_mta.rulestatus import Status

_AROUND = 60
"""Characters of a long line that stand on each side of what is meant."""


# --- check ----------------------------------------------------------------------------------------------------------


def finding(found: Finding) -> str:
    """One finding on one line: file:line:column: id: what."""
    return _one_line(str(found.problem))


def caret(found: Finding) -> str:
    """The line that a finding is about and carets below what is meant; empty if that is not known."""
    if found.source is None or found.span is None:
        return ""
    start, end = found.span
    first, last = max(0, start - _AROUND), min(len(found.source), end + _AROUND)
    before = ("…" if first else "") + found.source[first:start].lstrip(" " if first == 0 else "")
    meant = found.source[start:end]
    line = before + meant + found.source[end:last] + ("…" if last < len(found.source) else "")
    blank = "".join("\t" if character == "\t" else " " * cell_len(character) for character in before)
    return f"    {safe(line)}\n    {blank}{'^' * max(1, cell_len(meant))}"


def summary(found: Checked) -> str:
    """One line: how much there is, and how much of it is wrong."""
    counted = f"{found.files} files, {found.rules} rules, {found.signs} signs, {found.examples} examples"
    problems = (
        f"{len(found.problems)} problem{'s' if len(found.problems) != 1 else ''}" if found.problems else "all good"
    )
    if not found.examined:
        problems += "; examples and effects were not looked at: they rest on what is wrong"
    return f"{counted}: {problems}" + (f", hash {found.hash}" if found.hash else "")


# --- list, show, explain-phrase -------------------------------------------------------------------------------------


def listed(rules: Sequence[Rule]) -> Iterator[str]:
    """A line for each rule."""
    rows = [
        (rule.id, rule.kind, weights_text(rule.weights), rule.about, _place(rule.file, rule.line)) for rule in rules
    ]
    widths = [max((cell_len(row[column]) for row in rows), default=0) for column in range(4)]
    for row in rows:
        padded = (text + " " * (width - cell_len(text)) for text, width in zip(row[:4], widths, strict=True))
        yield _one_line("  ".join((*padded, row[4])), runs=True)


def as_values(rule: Rule) -> dict[str, Any]:
    """A rule as JSON values."""
    return {
        **{"id": rule.id, "kind": rule.kind, "about": rule.about, "file": rule.file, "line": rule.line},
        **{"weights": dict(rule.weights), "find": rule.find, "regex": rule.regex, "unless": rule.unless},
        **{"ok": rule.ok, "fail": rule.fail},
    }


def shown(found: Shown) -> Iterator[str]:
    """One rule in full."""
    rule = found.rule
    if rule is None:
        yield f"{found.history[0].id} is not in force: it was dropped"
    else:
        yield f"{rule.id}  {rule.kind}  {weights_text(rule.weights)}  ({_place(rule.file, rule.line)})"
        yield f"  {safe(rule.about)}"
        if rule.kind == "guard":
            yield f"  takes back evidence {_reach(rule)}"
            for key, ids in (("only", rule.only), ("spares", rule.spares)):
                if ids:
                    yield f"  {key}: {', '.join(sorted(ids))}"
        for key, spellings in (("find", found.find), ("unless", found.unless), ("until", found.until)):
            for spelling in spellings:
                yield f"  {key}: {safe(spelling.written)}"
                yield f"      {_folded(spelling)}"
        for written, folded in found.regex:
            yield f"  regex: {safe(written)}"
            yield f"      {safe(folded)}"
        if any(len(spelling.stretches) > 1 for spelling in (*found.find, *found.unless, *found.until)):
            yield f"  gap: … stands for up to {rule.gap} characters"
        for key, examples in (("ok", rule.ok), ("fail", rule.fail)):
            for example in examples:
                yield f"  {key}: {safe(example)}"
    if len(found.history) > 1 or rule is None:
        yield "  told by"
        for mention in found.history:
            yield f"    {_place(mention.file, mention.line)}  {_says(mention)}"


def explained(found: Explained) -> Iterator[str]:
    """What a text is to the rules."""
    if found.spelling is not None:
        yield f"as a phrase:   {_folded(found.spelling)}"
    else:
        yield f"as a phrase:   cannot be read: {safe(found.trouble)}"
    for line in found.lines:
        yield f"as a sentence: {safe(line)}"
    if not found.met and not found.signs and not found.signs_of_subject:
        yield "no rule finds anything in it"
    for met in found.met:
        without = "" if met.stands else "  (voided, or taken back, by other words in it)"
        yield f"  {met.rule.id}  {met.rule.kind}  {weights_text(met.rule.weights)}{without}"
        for phrase in met.phrases:
            yield f"      find: {safe(phrase)}"
        if not met.phrases:
            yield "      by regex"
    for kind, signs in (("sign", found.signs), ("sign of subject", found.signs_of_subject)):
        for word, points in signs:
            yield f"  {points:+g}  {kind}  {safe(word)}"


def _reach(rule: Rule) -> str:
    where = {"after": "before it", "before": "behind it", "around": "anywhere in its sentence"}[rule.side]
    return where if rule.side == "around" else f"that stands {where}, up to {rule.reach} characters away"


def _folded(spelling: Spelling) -> str:
    parts = []
    for words, count in spelling.stretches:
        more = f" | … ({count} in all)" if count > len(words) else ""
        parts.append(" | ".join(words) + more)
    return safe("   …   ".join(parts))


def _says(mention: Mention) -> str:
    if mention.disables:
        return "drops it"
    if mention.says.get("override") is True:
        return "changes " + ", ".join(key for key in mention.says if key != "override")
    return "defines it"


def _place(file: str, line: int | None) -> str:
    return f"{file}:{line}" if line else file


# --- measure --------------------------------------------------------------------------------------------------------


def measured(found: Measured) -> Iterator[str]:
    """The figures, by group and threshold, and each mail that came out wrong."""
    yield f"rules {found.hash}, threshold {found.threshold:g}: {_figures(found.counts)}"
    yield f"  {found.milliseconds:.2f} ms of judging a mail"
    if found.groups:
        yield "\nby language, tier and kind"
        width = max(cell_len(f"{mark} {value}") for mark, value in found.groups)
        for (mark, value), counts in found.groups.items():
            name = safe(f"{mark} {value}")
            yield f"  {name}{' ' * (width - cell_len(name))}  {_figures(counts)}"
    yield "\nby threshold"
    for step, counts in found.sweep:
        yield f"  {'→' if step == found.threshold else ' '} {step:>5g}  {_figures(counts)}"
    for rule, (rejections, others) in found.trials.items():
        yield f"\non probation: {rule}: met in {rejections} rejections and {others} others"
    for judged in found.wrong:
        yield ""
        yield from _wrong(judged)


def compared(here: Measured, there: Measured) -> Iterator[str]:
    """The difference between two rule sets on the same mails."""
    yield f"\nagainst {there.hash}, threshold {there.threshold:g}: {_figures(there.counts)}"
    found = differences(here, there)
    turned = {kind: sum(1 for each in found if each.turned == kind) for kind in ("better", "worse", "same")}
    yield f"  {turned['better']} better, {turned['worse']} worse, {turned['same']} decided alike for another reason"
    for each in found:
        if each.turned != "same":
            was, now = (f"{verdict.reason} {verdict.score:g}" for verdict in (each.there, each.here))
            yield f"  {each.turned:<6}  {safe(each.mail.id)} ({each.mail.label}): {was} → {now}"


def _wrong(judged: Judged) -> Iterator[str]:
    verdict, mail = judged.verdict, judged.mail
    marks = "".join(f", {value}" for value in mail.marks.values())
    head = "FLAGGED" if judged.flagged else "MISSED"
    yield f"{head} {_one_line(mail.id + marks)}: {verdict.reason} (score {verdict.score:g})"
    yield f"    subject: {_one_line(mail.message.first('subject') or '')}"
    for hit in verdict.hits:
        yield f"    {hit.score:+5g}  {hit.rule}  in {hit.part}: {_one_line(hit.text)}"


def _figures(counts: Counts) -> str:
    parts = []
    if counts.rejections:
        parts.append(f"found {counts.found} of {counts.rejections} rejections ({_percent(counts.recall)})")
    if counts.others:
        parts.append(f"flagged {counts.flagged} of {counts.others} others")
    if counts.rejections and counts.others:
        parts.append(f"precision {_percent(counts.precision)}")
    return ", ".join(parts)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share * 100:.1f} %"


# --- status ---------------------------------------------------------------------------------------------------------


def status(found: Status) -> Iterator[str]:
    """What the running relay says."""
    yield f"rules {safe(found.hash)}, in force since {safe(found.loaded_at)}: {safe(found.state)}"
    for company, hash in found.companies.items():
        yield f"  {safe(company)}: {safe(hash)}"
    for rule, count in found.trials.items():
        yield f"  on probation: {safe(rule)} met in {count} mails"
    for reason, count in found.missed.items():
        yield f"  exempt: {count} rejections for {safe(reason)}"
    if found.problem_count:
        yield f"{found.problem_count} problems in newer rule files; the last good rules stay in force:"
    for problem in found.problems:
        yield f"  {_one_line(problem)}"


def status_json(found: Status) -> str:
    """The same as one JSON object."""
    return json.dumps(
        {
            **{"state": found.state, "hash": found.hash, "loaded_at": found.loaded_at},
            **{"problems": found.problems, "problem_count": found.problem_count},
            **{
                "companies": dict(found.companies),
                "trials": dict(found.trials),
                "missed": dict(found.missed),
                "version": found.version,
            },
        },
        ensure_ascii=False,
    )


def _one_line(text: str, *, runs: bool = False) -> str:
    """Harmless for a terminal and on one line; `runs`: with the blanks that it has."""
    return safe(text.replace("\n", " ") if runs else " ".join(text.split()))
