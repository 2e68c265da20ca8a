"""What is durably known of a delivery that did not end in one transaction: the delivery record.

It decides the next attempt at the same mail, whatever the rules say by then. Where it is kept is the ledger's matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relay_mta.core.address import same_path
from relay_mta.core.reply import Reply

Status = Literal["pending", "sent", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class RecipientRecord:
    """One recipient of a recorded delivery.

    `spliced`: it is to get, or got, a copy with a link of its own. `refusal`: the upstream's reply, for "refused";
    `reported`: the upstream has taken a DSN on it.
    """

    forward_path: str
    status: Status
    spliced: bool
    refusal: Reply | None = None
    reported: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What is durably known of a delivery that did not end in one transaction.

    `deferrals` counts the attempts in which a spliced copy was deferred before anything was delivered.
    """

    recipients: tuple[RecipientRecord, ...]
    deferrals: int = 0

    def of(self, forward_path: str) -> RecipientRecord | None:
        """The record of a recipient, under any spelling of the same forward path."""
        key = same_path(forward_path)
        return next((r for r in self.recipients if same_path(r.forward_path) == key), None)
