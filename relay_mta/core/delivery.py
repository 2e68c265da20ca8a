"""In which order one mail's copies go out, what is written down before each, and what the client is told at the end.

A pure state machine: `deliver(job)` is a generator that yields one `Step` at a time and is sent the step's `Event`; its
return value is the `Answer`. It never sends, stores or waits by itself, so that a test can drive it through every order
of replies, losses and restarts. `relay.py` executes its steps and decides nothing.

What it promises, whatever the events are:

* A 2xx answer means that every recipient it covers was accepted by the upstream, in this or a recorded earlier attempt,
  or was reported to the sender by a DSN that the upstream accepted (unless no DSN is due, RFC 3461 §4.1).
* A recipient whose copy was accepted is not sent another one, unless a crash or a lost reply left that unknown.
* A relay is settled only after its spliced copy was accepted, and released when that copy is known not to have been.
* After an unknown outcome (the connection broke behind the final dot) nothing is sent again in this attempt.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Literal

from relay_mta.core.address import same_path
from relay_mta.core.record import RecipientRecord, Record
from relay_mta.core.reply import UPSTREAM_LOST, Reply, reply
from relay_mta.core.steps import (
    Answer,
    Event,
    Job,
    Release,
    Report,
    Settle,
    Step,
    Transmit,
    Transmitted,
    Write,
    Written,
)

MAX_DEFERRALS = 3
"""From this deferral of a spliced copy on, the mail goes out as it came: the upstream may dislike our copy, and a
candidate who gets no answer at all is worse off than one without a link."""

_INCOMPLETE = reply(451, "4.3.0 Not every recipient has been reached yet, please try again later")
_EARLIER = reply(250, "2.0.0 Accepted in an earlier attempt")


def deliver(job: Job) -> Generator[Step, Event, Answer]:
    """The steps of one attempt at one mail, in order (module docstring)."""
    return _Attempt(job).run()


Going = Literal["next", "original", "stop"]


class _Attempt:
    """The state of one attempt. `state` holds what is known of each target, by its index in the job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        earlier = job.earlier or Record(())
        self.deferrals = earlier.deferrals
        self.relayed = 0
        self.late = False
        self.stored = True  # the store still takes what we write
        self.written = job.earlier
        self.last: Reply | None = None  # the latest acceptance in this attempt
        self.deferral: Reply | None = None  # the latest 4yz in this attempt
        self.mirror_used = False
        # The same forward path given twice is one recipient; the first index stands for it.
        first: dict[str, int] = {}
        for index, recipient in enumerate(job.recipients):
            first.setdefault(same_path(recipient.forward_path), index)
        self.targets = tuple(first.values())
        self.state: dict[int, RecipientRecord] = {}
        for index in self.targets:
            path = job.recipients[index].forward_path
            known = earlier.of(path)
            self.state[index] = known or RecipientRecord(path, "pending", index in job.spliced)
        covered = set(first)
        # Recipients of the earlier attempt that this one does not name stay as they are.
        self.others = tuple(r for r in earlier.recipients if same_path(r.forward_path) not in covered)
        self.held = {index for index in self.targets if index in job.spliced}

    # -- the way of one attempt --

    def run(self) -> Generator[Step, Event, Answer]:
        left = [index for index in self.targets if self.state[index].status in ("pending", "unknown")]
        for index in sorted(self.held - set(left)):
            self.held.discard(index)  # delivered earlier: that attempt settled or released it
        if self.deferrals >= MAX_DEFERRALS:
            yield from self._release_held("deferred")
        candidates = [index for index in left if index in self.held]
        whole = len(left) == len(self.targets) and (not candidates or len(self.targets) == 1)
        if whole:
            return (yield from self._one_copy(left, spliced=bool(candidates)))
        return (yield from self._split(left, candidates))

    def _one_copy(self, left: list[int], *, spliced: bool) -> Generator[Step, Event, Answer]:
        """One copy serves everybody: the mirrored transaction is used as it stands."""
        recorded = self.written is not None
        if recorded:
            yield from self._mark(left)
        sent = yield from self._transmit(left, spliced=spliced, strict=not recorded)
        if spliced:
            index = left[0]
            if sent.outcome == "replied" and self._verdict(sent, index).refused:
                yield from self._release(index, "refused")
                sent = yield from self._transmit(left, spliced=False)
            elif sent.outcome == "replied" and self._verdict(sent, index).deferred:
                self.deferrals += 1
                yield from self._release(index, "deferred")
                if self.deferrals >= MAX_DEFERRALS:
                    sent = yield from self._transmit(left, spliced=False)
        self._conclude(left, sent)
        return (yield from self._answer())

    def _split(self, left: list[int], candidates: list[int]) -> Generator[Step, Event, Answer]:
        """Candidates first, each its own transaction; everyone else last, in one of original bytes."""
        if self.job.earlier is None and candidates:
            yield from self._write()
            if not self.stored:  # Without a record a split could lose or double a mail: no split.
                yield from self._release_held("ledger")
                return (yield from self._one_copy(left, spliced=False))
        rest = [index for index in left if index not in candidates]
        for position, index in enumerate(candidates):
            going: Going = "original"
            if self.stored and not self.late:
                going = yield from self._candidate(index)
            if going == "stop":
                yield from self._release_held("not-sent")
                return (yield from self._answer())
            if going == "original":
                rest = candidates[position:] + rest
                break
        yield from self._release_held("late" if self.late else "original")
        if rest:
            yield from self._mark(rest)
            sent = yield from self._transmit(rest, spliced=False)
            self._conclude(rest, sent)
        return (yield from self._answer())

    def _candidate(self, index: int) -> Generator[Step, Event, Going]:
        """One candidate's copy. "original": splicing ends, everyone left gets the original; "stop": nothing more."""
        yield from self._mark([index])
        if not self.stored:
            self.state[index] = replace(self.state[index], status="pending")
            return "original"
        sent = yield from self._transmit([index], spliced=True)
        if sent.outcome == "replied" and self._verdict(sent, index).refused:
            # The upstream may dislike only our copy: once more with the original bytes; that reply counts.
            yield from self._release(index, "refused")
            sent = yield from self._transmit([index], spliced=False)
        elif sent.outcome == "replied" and self._verdict(sent, index).deferred:
            yield from self._release(index, "deferred")
            if not self._any_sent():
                self.deferrals += 1
            if self._any_sent() or self.deferrals >= MAX_DEFERRALS:
                self.state[index] = replace(self.state[index], status="pending")
                return "original"
        self._conclude([index], sent)
        if self.state[index].status in ("sent", "refused"):
            return "next"
        return "original" if sent.outcome == "replied" and self._any_sent() else "stop"

    # -- pieces --

    def _transmit(
        self, recipients: list[int], *, spliced: bool, strict: bool = False
    ) -> Generator[Step, Event, Transmitted]:
        """One copy, in the mirrored transaction if that is still unused and fits; replayed once if it was lost."""
        mirrored = not self.mirror_used and tuple(recipients) == self.targets
        self.mirror_used = True
        event = yield Transmit(tuple(recipients), spliced=spliced, mirrored=mirrored, strict=strict)
        assert isinstance(event, Transmitted)
        self.late = self.late or event.late
        if event.outcome == "lost":
            event = yield Transmit(tuple(recipients), spliced=spliced, strict=strict)
            assert isinstance(event, Transmitted)
            self.late = self.late or event.late
        if spliced:
            index = recipients[0]
            if event.outcome == "replied" and self._verdict(event, index).accepted:
                self.held.discard(index)
                self.relayed += 1
                self.state[index] = replace(self.state[index], spliced=True)
                yield Settle(index)
            elif event.outcome == "unknown":
                self.held.discard(index)  # in doubt: neither settled nor released
            elif event.outcome in ("lost", "changed"):
                yield from self._release(index, "not-sent")
        return event

    @staticmethod
    def _verdict(sent: Transmitted, index: int) -> Reply:
        """The reply that decided one recipient of a transaction that was replied to."""
        decided = sent.refusals.get(index) or sent.reply
        assert decided is not None
        return decided

    def _conclude(self, recipients: list[int], sent: Transmitted) -> None:
        """Bring a transaction's outcome into the state of each of its recipients."""
        for index in recipients:
            now = self.state[index]
            if sent.outcome == "unknown" and index not in sent.refusals:
                self.state[index] = replace(now, status="unknown")
                continue
            if sent.outcome in ("lost", "changed"):
                self.state[index] = replace(now, status="pending")
                continue
            decided = self._verdict(sent, index)
            if decided.accepted:
                self.last = decided
                self.state[index] = replace(now, status="sent")
            elif decided.refused:
                self.state[index] = replace(now, status="refused", refusal=decided)
            else:
                self.deferral = decided
                self.state[index] = replace(now, status="pending")

    def _record(self) -> Record:
        return Record((*(self.state[index] for index in self.targets), *self.others), self.deferrals)

    def _write(self, *, again: bool = False) -> Generator[Step, Event, None]:
        """Write what is known, if that is news. `again`: even where the store has failed us before."""
        record = self._record()
        if (self.stored or again) and record != self.written:
            event = yield Write(record)
            assert isinstance(event, Written)
            self.stored = event.ok
            if event.ok:
                self.written = record

    def _mark(self, recipients: list[int]) -> Generator[Step, Event, None]:
        """Before a copy is sent its outcome is unknown, should we die: write that first, with all that is known."""
        for index in recipients:
            self.state[index] = replace(self.state[index], status="unknown")
        yield from self._write()

    def _release(self, index: int, reason: str) -> Generator[Step, Event, None]:
        if index in self.held:
            self.held.discard(index)
            yield Release(index, reason)

    def _release_held(self, reason: str) -> Generator[Step, Event, None]:
        for index in sorted(self.held):
            yield from self._release(index, reason)

    def _any_sent(self) -> bool:
        return any(r.status == "sent" for r in (*self.state.values(), *self.others))

    # -- the end --

    def _answer(self) -> Generator[Step, Event, Answer]:
        """All accepted, all of one class, some of each (with a DSN), or not yet."""
        if self.written is not None:  # A client that is gone before our 2xx must find here what was sent.
            yield from self._write(again=True)
        states = [self.state[index] for index in self.targets]
        sent = sum(r.status == "sent" for r in states)
        refused = [
            (index, self.state[index].refusal) for index in self.targets if self.state[index].status == "refused"
        ]
        refusals = tuple((index, refusal) for index, refusal in refused if refusal is not None)
        if any(r.status == "unknown" for r in states):
            return (yield from self._keep(UPSTREAM_LOST, sent))
        if sent + len(refusals) < len(states):
            if sent or refusals:
                return (yield from self._keep(_INCOMPLETE, sent))
            return (yield from self._keep(self.deferral or UPSTREAM_LOST, sent))
        if not refusals:
            return self._final(self.last or _EARLIER, sent)
        if not sent:
            return (yield from self._forget(refusals[-1][1]))
        due = tuple((i, refusal) for i, refusal in refusals if self._dsn_due(i) and not self.state[i].reported)
        if due:
            event = yield Report(due)
            assert isinstance(event, Transmitted)
            if event.outcome != "replied" or event.reply is None or event.reply.deferred:
                return (yield from self._keep(_INCOMPLETE, sent))
            if not event.reply.accepted:
                text = f"5.3.0 Delivered to {sent} of {len(states)} recipients; the others were refused"
                return (yield from self._keep(reply(554, text), sent))
            for i, _ in due:
                self.state[i] = replace(self.state[i], reported=True)
            yield from self._write(again=True)
        return self._final(self.last or _EARLIER, sent)

    def _dsn_due(self, index: int) -> bool:
        """RFC 3461 §4.1: no failure report where NOTIFY leaves FAILURE out; RFC 5321 §6.1: none to a null path.

        Where the same path was given more than once, one of them that wants to know is enough.
        """
        key = same_path(self.job.recipients[index].forward_path)
        asked = (r.param("NOTIFY") for r in self.job.recipients if same_path(r.forward_path) == key)
        wanted = any(notify is None or "FAILURE" in notify.upper().split(",") for notify in asked)
        return wanted and self.job.reverse_path != ""

    def _final(self, answer: Reply, sent: int) -> Answer:
        """A 2xx: once the client has it, only recipients that it does not cover stay on record."""
        left = Record(self.others, self.deferrals) if self.others else None
        return Answer(answer, left, sent, self.relayed)

    def _keep(self, answer: Reply, sent: int) -> Generator[Step, Event, Answer]:
        """Not final: what is on record decides the next attempt. A mail of one copy needs none, but for its count."""
        if self.written is None and self.deferrals:
            yield from self._write()
        return Answer(answer, self._record(), sent, self.relayed)

    def _forget(self, answer: Reply) -> Generator[Step, Event, Answer]:
        """Refused for everyone and delivered to no one: nothing is left to remember."""
        left = Record(self.others, self.deferrals) if self.others else None
        if self.stored and self.written is not None:
            yield Write(left)
        return Answer(answer, left)
