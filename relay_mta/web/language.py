"""Which of our languages a reader wants (RFC 9110 §12.5.4, RFC 4647 §3.4)."""

from __future__ import annotations

import re

from relay_mta.core.verdict import Language

_RANGE = re.compile(
    r"\s*(\*|[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*[qQ]\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?"
)
_LONGEST = 1000  # characters of the field that are looked at: no browser sends more, and whoever does gets a default


def preferred(accept_language: str, *, otherwise: Language) -> Language:
    """The language with the greatest weight, the earlier one of equals; `otherwise` if the field names neither."""
    weights: dict[Language, tuple[float, int]] = {}
    anything = 0.0
    for place, item in enumerate(accept_language[:_LONGEST].split(",")):
        match = _RANGE.fullmatch(item)
        if match is None:
            continue
        weight = float(match[2]) if match[2] else 1.0
        primary = match[1].lower().partition("-")[0]
        if primary == "*":
            anything = max(anything, weight)
        elif primary == "ja":
            weights["ja"] = max(weights.get("ja", (0.0, 0)), (weight, -place))
        elif primary == "en":
            weights["en"] = max(weights.get("en", (0.0, 0)), (weight, -place))
    if anything and otherwise not in weights:
        weights[otherwise] = (anything, -_LONGEST)
    wanted = {language: weight for language, weight in weights.items() if weight[0] > 0}
    return max(wanted, key=lambda language: wanted[language]) if wanted else otherwise
