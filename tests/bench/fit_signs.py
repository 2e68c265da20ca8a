"""Measures the points of the shipped signs on labelled mails: writes `rules/60_signs_ja.toml` and `65_signs_en.toml`.

    pip install -e '.[fit]' && python tests/bench/fit_signs.py [MORE.jsonl …] [--keep 10000] [--check]

The mails are tests/corpus without `unread`, and those of MORE (lines of JSON with id, label, subject and body).
--check writes nothing: it leaves out one file after the other, measures on the rest, and prints how many of the
left-out mails the rules would find and flag at each threshold. rules/README.md says what the outcome means.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fugashi
import numpy
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from relay_mta.core.page import Page, prepare  # noqa: E402  (the checkout goes before an installed copy)
from relay_mta.core.rules import RuleSet  # noqa: E402  (as above)
from relay_mta.core.signs import Signs  # noqa: E402  (as above)
from relay_mta.core.text import layout  # noqa: E402  (as above)

POINTS = 2.0
"""Points of a unit of log-odds."""
STRENGTH = 0.1
"""The inverse of the L2 penalty; held-out mails were best between 0.05 and 0.2."""
LONGEST, LONGEST_OF_SUBJECT = 4, 3
"""Words of a phrase."""
FEWEST_MAILS = 4
LEAST = 0.03
"""Points below which a sign is left out."""
_RUNS = re.compile("[ぁ-んァ-ヶー一-龠々]+|[a-z]+|[^ぁ-んァ-ヶー一-龠々a-z]+")
_JAPANESE = re.compile("[ぁ-んァ-ヶー一-龠々]")


@dataclass(frozen=True)
class Mail:
    """One labelled mail; `source` is its file, `evidence` the score that its evidence alone brings, None for none."""

    source: str
    rejection: bool
    page: Page
    evidence: float | None


def read(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".toml":
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        yield from ({"label": document["label"], **mail} for mail in document["mail"])
    else:
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line)


def collect(paths: Sequence[Path]) -> list[Mail]:
    files = [(path.name, path.read_bytes()) for path in sorted((ROOT / "rules").glob("*.toml"))]
    bare = RuleSet.parse([(name, content) for name, content in files if "_signs_" not in name])
    mails = []
    for path in paths:
        for one in read(path):
            if one.get("tier") != "unsure":
                new = layout(one["body"]).new
                verdict = bare.judge_text(one["subject"], [new])
                judged = verdict.reason == "below-threshold" or verdict.kind == "rejection"
                score = verdict.score if judged else None
                mails.append(Mail(path.stem, one["label"] == "rejection", prepare(one["subject"], new), score))
    return mails


def phrases(folded: str, longest: int, tagger: fugashi.Tagger) -> set[str]:
    """All words of a folded text and all phrases of up to so many that follow each other in a line."""
    found: set[str] = set()
    for line in folded.split("\n"):
        words: list[str | None] = []
        for run in _RUNS.findall(line):
            if _JAPANESE.match(run):
                words.extend(word.surface for word in tagger(run))
            elif run[0].isalpha():
                words.append(run)
            elif run.strip(" "):
                words.append(None)
        for size in range(1, longest + 1):
            for start in range(len(words) - size + 1):
                taken = words[start : start + size]
                scripts = {bool(_JAPANESE.match(word)) for word in taken if word}
                if None not in taken and len(scripts) == 1:
                    found.add(("" if scripts == {True} else " ").join(word for word in taken if word))
    return {one for one in found if len(one) >= 2}


def seen(pages: Sequence[Page], body: Sequence[str], subject: Sequence[str]) -> csr_matrix:
    """Which signs the product's own finder sees in which page."""
    columns = ({word: n for n, word in enumerate(body)}, {word: n + len(body) for n, word in enumerate(subject)})
    finders = tuple(Signs(dict.fromkeys(each, 1.0)) for each in columns)
    cells = [
        (row, columns[which][word])
        for row, page in enumerate(pages)
        for which, text in enumerate((page.words, page.subject))
        for word, _ in finders[which].find(text)
    ]
    rows, at = zip(*cells, strict=True)
    return csr_matrix((numpy.ones(len(cells)), (rows, at)), shape=(len(pages), len(body) + len(subject)))


def fit(mails: Sequence[Mail], keep: int, tagger: fugashi.Tagger) -> tuple[dict[str, float], dict[str, float], float]:
    """Points of the signs of the whole wording and of the subject, and those of a mail with none of them."""
    labels = numpy.array([mail.rejection for mail in mails])
    pages = [mail.page for mail in mails]
    whole = CountVectorizer(analyzer=lambda p: phrases(p.words, LONGEST, tagger), min_df=FEWEST_MAILS, binary=True)
    short = CountVectorizer(
        analyzer=lambda p: phrases(p.subject, LONGEST_OF_SUBJECT, tagger), min_df=FEWEST_MAILS, binary=True
    )
    counted = hstack([whole.fit_transform(pages), short.fit_transform(pages)]).tocsr()
    first = LogisticRegression(C=STRENGTH, max_iter=500).fit(counted, labels)
    weight = numpy.abs(first.coef_[0]) * numpy.sqrt(numpy.asarray(counted.sum(0)).ravel())
    best = sorted(numpy.argsort(-weight)[:keep])
    words = list(whole.get_feature_names_out())
    body = [words[n] for n in best if n < len(words)]
    subject = [short.get_feature_names_out()[n - len(words)] for n in best if n >= len(words)]
    last = LogisticRegression(C=STRENGTH, max_iter=500).fit(seen(pages, body, subject), labels)
    points = numpy.round(last.coef_[0] * POINTS, 2)
    made = (dict(zip(body, points[: len(body)], strict=True)), dict(zip(subject, points[len(body) :], strict=True)))
    return *made, float(last.intercept_[0] * POINTS)


def check(mails: Sequence[Mail], keep: int, tagger: fugashi.Tagger) -> None:
    scores: list[tuple[float, bool]] = []
    for source in sorted({mail.source for mail in mails}):
        body, subject, _ = fit([mail for mail in mails if mail.source != source], keep, tagger)
        finders = Signs(body), Signs(subject)
        for mail in mails:
            if mail.source == source and mail.evidence is not None:
                texts = zip(finders, (mail.page.words, mail.page.subject), strict=True)
                points = sum(worth for finder, text in texts for _, worth in finder.find(text))
                scores.append((mail.evidence + points, mail.rejection))
    rejections = sum(mail.rejection for mail in mails)
    for threshold in range(6, 17):
        found = sum(score >= threshold and rejection for score, rejection in scores)
        flagged = sum(score >= threshold and not rejection for score, rejection in scores)
        print(f"{threshold:>4}  found {found} of {rejections}, flagged {flagged} of {len(mails) - rejections}")


def write(name: str, language: str, tables: Mapping[str, Mapping[str, float]], *, latin: bool) -> None:
    lines = [
        f"# {language}: words and their points, measured (rules/README.md): how much a mail with this word reads like",
        "# a rejection. Change one in 90_local.toml: the same word with other points, 0 to take it out.",
    ]
    for table, points in tables.items():
        lines.append(f"\n[{table}]")
        chosen = [(word, worth) for word, worth in points.items() if word.isascii() is latin and abs(worth) >= LEAST]
        lines.extend(f'"{word}" = {worth:g}' for word, worth in sorted(chosen, key=lambda pair: (-pair[1], pair[0])))
    (ROOT / "rules" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="measure the points of the shipped signs")
    parser.add_argument("more", nargs="*", type=Path)
    parser.add_argument("--keep", type=int, default=10_000)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    corpus = ROOT / "tests" / "corpus"
    mails = collect([*sorted(corpus.glob("*.toml")), *sorted(corpus.glob("*.jsonl")), *arguments.more])
    tagger = fugashi.Tagger()
    if arguments.check:
        check(mails, arguments.keep, tagger)
        return
    body, subject, none = fit(mails, arguments.keep, tagger)
    tables = {"signs": body, "signs-of-subject": subject}
    write("60_signs_ja.toml", "Japanese", tables, latin=False)
    write("65_signs_en.toml", "English", tables, latin=True)
    print(f"{len(mails)} mails, {len(body) + len(subject)} signs; a mail with none of them has {none:.2f} points")
    print("the weights of evidence in rules/2*.toml hold that constant: set them and the threshold by --check")


if __name__ == "__main__":
    main()
