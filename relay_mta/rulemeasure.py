"""How often rules are right: a folder of labelled mails judged by one rule set, or by two side by side.

Labels are a JSON object, `{id: "rejection" | "other"}` or `{id: {"label": …, "kind": …, "lang": …, "tier": …}}`; the
mail is `ID.eml` in the folder. A mail of tier "unsure" does not count: two careful readers did not agree on it.
Only what the rules say is measured: exemptions (core.disposition) look at envelope and header and come on top.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from relay_mta.core.errors import RelayError
from relay_mta.core.message import Message, index
from relay_mta.core.rules import RuleSet
from relay_mta.core.verdict import Verdict

LABELS_FILE: Final = "labels.json"
LARGEST_MAIL: Final = 64 << 20
UNSCORED: Final = "unsure"
GROUPED_BY: Final = ("lang", "tier", "kind")
SWEEP_STEPS: Final = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)

Label = Literal["rejection", "other"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One mail that a person has labelled. `marks` are "kind", "lang" and "tier", as far as they are given."""

    id: str
    label: Label
    marks: Mapping[str, str]
    message: Message


@dataclass(frozen=True, slots=True)
class Judged:
    """A labelled mail with the rules' verdict."""

    mail: Labelled
    verdict: Verdict

    @property
    def flagged(self) -> bool:
        return self.verdict.kind == "rejection"

    @property
    def right(self) -> bool:
        return self.flagged is (self.mail.label == "rejection")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rejections there are and were found, how many others there are and were flagged."""

    found: int = 0
    rejections: int = 0
    flagged: int = 0
    others: int = 0

    @property
    def precision(self) -> float | None:
        """Of what was flagged, how much was a rejection; None if nothing was flagged."""
        return self.found / (self.found + self.flagged) if self.found + self.flagged else None

    @property
    def recall(self) -> float | None:
        """Of the rejections, how many were found; None if there are none."""
        return self.found / self.rejections if self.rejections else None


@dataclass(frozen=True, slots=True)
class Measured:
    """One rule set's outcome. `groups` by mark and value; `sweep` by threshold; `trials`: of each rule on probation the
    rejections and others that it matched in; `milliseconds` of judging, a mail."""

    hash: str
    threshold: float
    counts: Counts
    groups: Mapping[tuple[str, str], Counts]
    sweep: Sequence[tuple[float, Counts]]
    wrong: tuple[Judged, ...]
    judged: tuple[Judged, ...]
    trials: Mapping[str, tuple[int, int]]
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A mail on which two rule sets do not agree, or not for the same reason."""

    mail: Labelled
    here: Verdict
    there: Verdict

    @property
    def turned(self) -> Literal["better", "worse", "same"]:
        """What `here` made of it, compared with `there`."""
        if self.here.kind == self.there.kind:
            return "same"
        return "better" if (self.here.kind == "rejection") is (self.mail.label == "rejection") else "worse"


def read(folder: Path, labels: Path | None = None) -> list[Labelled]:
    """The labelled mails of a folder, in the order of their ids. Raises `RelayError` with everything that is wrong."""
    place = labels or folder / LABELS_FILE
    wrong: list[str] = []
    mails: list[Labelled] = []
    for id, value in sorted(_labels(place).items()):
        entry = {"label": value} if isinstance(value, str) else value
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or label not in ("rejection", "other"):
            wrong.append(f'{place}: {id}: expected "rejection" or "other", or a table whose label is one of them')
            continue
        path = folder / f"{id}.eml"
        try:
            if path.stat().st_size > LARGEST_MAIL:
                wrong.append(f"{path}: is larger than {LARGEST_MAIL >> 20} MiB")
                continue
            raw = path.read_bytes()
        except OSError as error:
            wrong.append(f"{path}: cannot be read: {error.strerror or error}")
            continue
        if b"\r" not in raw:
            raw = raw.replace(b"\n", b"\r\n")
        marks = {mark: str(entry[mark]) for mark in GROUPED_BY if entry.get(mark)}
        mails.append(Labelled(id, "rejection" if label == "rejection" else "other", marks, index(raw)))
    if not mails and not wrong:
        wrong.append(f"{place}: there are no labels")
    if wrong:
        raise RelayError("\n".join(wrong))
    return mails


def measure(rules: RuleSet, mails: Sequence[Labelled]) -> Measured:
    """Judge all mails. Those of tier "unsure" are not counted."""
    scored = [mail for mail in mails if mail.marks.get("tier") != UNSCORED]
    for mail in scored:
        _ = mail.message.texts  # decoding is not judging
    began = time.perf_counter()
    judged = tuple(Judged(mail, rules.judge(mail.message)) for mail in scored)
    spent = time.perf_counter() - began
    groups: dict[tuple[str, str], list[Judged]] = {}
    for each in judged:
        for mark, value in each.mail.marks.items():
            groups.setdefault((mark, value), []).append(each)
    ordered = sorted(groups, key=lambda key: (GROUPED_BY.index(key[0]), key[1]))
    return Measured(
        hash=rules.hash,
        threshold=rules.threshold,
        counts=_counts((each, each.flagged) for each in judged),
        groups={key: _counts((each, each.flagged) for each in groups[key]) for key in ordered},
        sweep=tuple(
            (step, _counts((each, flagged_at(each.verdict, step)) for each in judged))
            for step in (rules.threshold + by for by in SWEEP_STEPS)
            if step > 0
        ),
        wrong=tuple(sorted((each for each in judged if not each.right), key=lambda each: not each.flagged)),
        judged=judged,
        trials=_trials(judged),
        milliseconds=spent / max(1, len(judged)) * 1e3,
    )


def differences(here: Measured, there: Measured) -> tuple[Difference, ...]:
    """Where two outcomes on the same mails differ; what turned comes first."""
    pairs = zip(here.judged, there.judged, strict=True)
    found = [Difference(a.mail, a.verdict, b.verdict) for a, b in pairs if a.verdict.reason != b.verdict.reason]
    return tuple(sorted(found, key=lambda each: ("worse", "better", "same").index(each.turned)))


def flagged_at(verdict: Verdict, threshold: float) -> bool:
    """Whether a mail were a rejection with another threshold and the same rules."""
    enough = verdict.reason == "below-threshold" or verdict.reason.startswith("decline:")
    return enough and verdict.score >= threshold


def _labels(place: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(place.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RelayError(f"{place}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):  # UnicodeDecodeError is one
        raise RelayError(f'{place}: is not JSON that can be read; expected {{"ID": "rejection" or "other"}}') from None
    if not isinstance(found, dict):
        raise RelayError(f'{place}: is not an object; expected {{"ID": "rejection" or "other"}}')
    return found


def _counts(judged: Iterator[tuple[Judged, bool]]) -> Counts:
    count = {("rejection", True): 0, ("rejection", False): 0, ("other", True): 0, ("other", False): 0}
    for each, flagged in judged:
        count[each.mail.label, flagged] += 1
    found, flagged_others = count["rejection", True], count["other", True]
    return Counts(found, found + count["rejection", False], flagged_others, flagged_others + count["other", False])


def _trials(judged: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    met: dict[str, list[int]] = {}
    for each in judged:
        for rule in each.verdict.trials:
            met.setdefault(rule, [0, 0])[each.mail.label == "other"] += 1
    return {rule: (counts[0], counts[1]) for rule, counts in sorted(met.items())}


def as_json(measured: Measured, against: Measured | None = None) -> str:
    """The whole outcome as one JSON object; without any text of a mail but the sentences of its hits."""
    value = _plain(measured)
    if against is not None:
        value["against"] = _plain(against)
        value["differences"] = [
            {"id": d.mail.id, "label": d.mail.label, "turned": d.turned, "here": d.here.reason, "there": d.there.reason}
            for d in differences(measured, against)
        ]
    return json.dumps(value, ensure_ascii=False)


def _plain(measured: Measured) -> dict[str, Any]:
    return {
        "rules": measured.hash,
        "threshold": measured.threshold,
        **_plain_counts(measured.counts),
        "groups": {f"{mark}:{value}": _plain_counts(counts) for (mark, value), counts in measured.groups.items()},
        "sweep": [{"threshold": step, **_plain_counts(counts)} for step, counts in measured.sweep],
        "wrong": [
            {
                "id": each.mail.id,
                "label": each.mail.label,
                **each.mail.marks,
                "reason": each.verdict.reason,
                "score": each.verdict.score,
                "hits": [{"rule": h.rule, "score": h.score, "part": h.part, "text": h.text} for h in each.verdict.hits],
            }
            for each in measured.wrong
        ],
        "trials": {rule: {"rejections": r, "others": o} for rule, (r, o) in measured.trials.items()},
        "milliseconds": round(measured.milliseconds, 3),
    }


def _plain_counts(counts: Counts) -> dict[str, Any]:
    return {
        "found": counts.found,
        "rejections": counts.rejections,
        "flagged": counts.flagged,
        "others": counts.others,
        "precision": counts.precision,
        "recall": counts.recall,
    }
