"""The vocabulary of a delivery: the job, the steps that `core.delivery` asks for, and the events that come of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relay_mta.core.envelope import Recipient
from relay_mta.core.record import Record
from relay_mta.core.reply import Reply


@dataclass(frozen=True, slots=True)
class Job:
    """One mail, read and judged, with its mirrored transaction open upstream.

    `recipients` are those that the upstream accepted, in the client's order, duplicates included; `spliced` indexes the
    ones whose relay is held and whose copy is ready; `earlier` is the open delivery record of the same mail.
    """

    reverse_path: str
    recipients: tuple[Recipient, ...]
    spliced: frozenset[int] = frozenset()
    earlier: Record | None = None


# --- steps: what to do next ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """Write the delivery record durably; None: forget it. Event: `Written`."""

    record: Record | None


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send one copy to these recipients (indices of `Job.recipients`) and wait for the outcome. Event: `Transmitted`.

    `mirrored`: in the open mirrored transaction, as it stands; otherwise in one of its own, on a new session if the
    present one is lost. `strict`: the client was told that all of them are accepted and no record could hold another
    truth, so a RCPT that is not accepted now ends the transaction before its DATA ("changed").
    """

    recipients: tuple[int, ...]
    spliced: bool
    mirrored: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """The recipient's spliced copy was accepted: settle its hold. Event: `Done`."""

    recipient: int


@dataclass(frozen=True, slots=True)
class Release:
    """The recipient's spliced copy was not delivered: release its hold. Event: `Done`."""

    recipient: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Hand a DSN on these refusals to the upstream. Event: `Transmitted`."""

    refusals: tuple[tuple[int, Reply], ...]


Step = Write | Transmit | Settle | Release | Report


# --- events: what came of it --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """`ok` False: the record is not durable; the store must not be relied on in this attempt."""

    ok: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """A ledger effect was carried out or failed; the delivery goes on either way (mail first, money second)."""


Outcome = Literal["replied", "lost", "unknown", "changed"]


@dataclass(frozen=True, slots=True)
class Transmitted:
    """What came of a transaction.

    `replied`: `reply` ended it (of MAIL, DATA or the final dot) for all but `refusals`, the recipients whose RCPT was
    not accepted; `reply` is None if no RCPT was. `lost`: it broke before the final dot was sent. `unknown`: after that.
    `changed`: see `Transmit.strict`. `late`: the deadline for sending copies one by one has passed.
    """

    outcome: Outcome
    reply: Reply | None = None
    refusals: Mapping[int, Reply] = field(default_factory=dict)
    late: bool = False


Event = Written | Done | Transmitted


@dataclass(frozen=True, slots=True)
class Answer:
    """The final reply, and the record that is to stand once it was written to a client still connected.

    If the client is gone by then, the record stays as last written and decides the next attempt.
    """

    reply: Reply
    acknowledged: Record | None
    delivered: int = 0
    relayed: int = 0
