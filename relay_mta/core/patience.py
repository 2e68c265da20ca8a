"""How long reading and judging one mail may take: a question that the core asks between its steps, and never a clock.

The caller brings the answer (`relay` one that looks at CPU time). Whoever is asked often is asked between steps that
are short, so that no mail keeps the others waiting: the caps on sizes and counts bound a step, and `Patience` the sum.
"""

from __future__ import annotations

from collections.abc import Callable

from relay_mta.core.errors import SpliceError

OVERDUE = "limit:time"

Patience = Callable[[], bool]
"""Whether the time is up."""


def endless() -> bool:
    """The time is never up: for tools, which a person can stop."""
    return False


def ask(patience: Patience) -> None:
    """Raises `SpliceError("limit:time")` when the time is up."""
    if patience():
        raise SpliceError(OVERDUE)
