"""The delivery machine against a world that answers as it likes, loses connections, forgets to write, and crashes.

The world keeps its own books of what the upstream really accepted; the promises of `core.delivery` are checked against
those books, never against the machine's own state.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from relay_mta.core.address import same_path
from relay_mta.core.delivery import deliver
from relay_mta.core.envelope import Recipient
from relay_mta.core.record import Record
from relay_mta.core.reply import Reply, reply
from relay_mta.core.steps import (
    Answer,
    Done,
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

ACCEPTED, DEFERRED, REFUSED = reply(250, "2.0.0 queued"), reply(450, "4.2.0 later"), reply(550, "5.1.1 no")

replies = st.sampled_from([ACCEPTED, ACCEPTED, ACCEPTED, DEFERRED, REFUSED])
outcomes = st.sampled_from(
    ["replied"] * 8 + ["lost", "lost", "unknown-kept", "unknown-gone", "crash-before", "crash-after"]
)


class CrashError(Exception):
    """The relay dies here; only what is written survives."""


@dataclass
class World:
    """An upstream, a store and a ledger with books of their own."""

    data: st.DataObject
    store_fails: bool = False
    record: Record | None = None
    copies: Counter[tuple[str, bool]] = field(default_factory=Counter)  # (path, spliced) the upstream accepted
    doubtful: Counter[str] = field(default_factory=Counter)  # attempts after which nobody could know
    reported: set[str] = field(default_factory=set)
    settled: Counter[str] = field(default_factory=Counter)
    released: Counter[str] = field(default_factory=Counter)
    unknown_in_attempt: bool = False

    def draw(self, strategy):  # type: ignore[no-untyped-def]  # hypothesis' own signature
        return self.data.draw(strategy)

    def carry_out(self, job: Job, step: Step) -> Event:
        match step:
            case Write(record):
                if self.store_fails and self.draw(st.booleans()):
                    return Written(ok=False)
                self.record = record
                return Written()
            case Settle(index):
                self.settled[key(job, index)] += 1
                return Done()
            case Release(index):
                self.released[key(job, index)] += 1
                return Done()
            case Report(refusals):
                return self.report(job, [index for index, _ in refusals])
            case Transmit():
                assert not self.unknown_in_attempt, "sent again after an unknown outcome"
                return self.transmit(job, step)

    def report(self, job: Job, failed: list[int]) -> Transmitted:
        how = self.draw(outcomes)
        if how == "replied":
            answer = self.draw(replies)
            if answer.accepted:
                self.reported |= {key(job, index) for index in failed}
            return Transmitted("replied", answer)
        return Transmitted("unknown" if how.startswith("unknown") else "lost")

    def transmit(self, job: Job, step: Transmit) -> Transmitted:
        assert step.recipients
        assert not step.spliced or len({key(job, i) for i in step.recipients}) == 1, "a spliced copy has one candidate"
        late = self.draw(st.booleans()) if self.draw(st.integers(0, 9)) == 0 else False
        how = self.draw(outcomes)
        if how == "crash-before":
            raise CrashError
        if how == "lost":
            return Transmitted("lost", late=late)
        refusals: dict[int, Reply] = {}
        if not step.mirrored:
            refusals = {i: answer for i in step.recipients if not (answer := self.draw(replies)).accepted}
            if refusals and step.strict:
                return Transmitted("changed", late=late)
        accepted = [i for i in step.recipients if i not in refusals]
        if not accepted:
            return Transmitted("replied", None, refusals, late)
        answer = self.draw(replies)
        kept = answer.accepted and how != "unknown-gone"
        if kept:
            for path in {key(job, i) for i in accepted}:
                self.copies[(path, step.spliced)] += 1
        if how == "crash-after":
            self.doubtful.update({key(job, i) for i in accepted})
            raise CrashError
        if how.startswith("unknown"):
            self.unknown_in_attempt = True
            self.doubtful.update({key(job, i) for i in accepted})
            return Transmitted("unknown", None, refusals, late)
        return Transmitted("replied", answer, refusals, late)

    def got(self, path: str) -> int:
        return self.copies[(path, True)] + self.copies[(path, False)]


def key(job: Job, index: int) -> str:
    return same_path(job.recipients[index].forward_path)


def attempt(world: World, job: Job) -> Answer:
    world.unknown_in_attempt = False
    machine = deliver(job)
    try:
        step = next(machine)
        while True:
            step = machine.send(world.carry_out(job, step))
    except StopIteration as stop:
        answer = stop.value
    assert isinstance(answer, Answer)
    return answer


PATHS = ["a@x.example", "b@x.example", "B@X.example", "c@y.example", "b@X.EXAMPLE", "hr@acme.example"]


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    notify = st.sampled_from([(), ("NOTIFY=NEVER",), ("NOTIFY=SUCCESS,FAILURE",), ("NOTIFY=SUCCESS",)])
    recipients = tuple(
        Recipient(path, draw(notify)) for path in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=6))
    )
    first: dict[str, int] = {}
    for index, recipient in enumerate(recipients):
        first.setdefault(same_path(recipient.forward_path), index)
    spliced = frozenset(index for index in first.values() if draw(st.booleans()))
    return Job(draw(st.sampled_from(["hr@acme.example", ""])), recipients, spliced)


def again(world: World, job: Job, draw: st.DataObject) -> Job:
    """What a client's retry brings: the record, and sometimes fewer or regrouped recipients."""
    recipients = job.recipients
    if draw.draw(st.integers(0, 3)) == 0:
        recipients = tuple(r for r in recipients if draw.draw(st.booleans())) or recipients
    candidates = {key(job, index) for index in job.spliced}
    first: dict[str, int] = {}
    for index, recipient in enumerate(recipients):
        first.setdefault(same_path(recipient.forward_path), index)
    spliced = frozenset(index for path, index in first.items() if path in candidates)
    return Job(job.reverse_path, recipients, spliced, world.record)


def dsn_due(job: Job, index: int) -> bool:
    notify = job.recipients[index].param("NOTIFY")
    return bool(job.reverse_path) and (notify is None or "FAILURE" in notify)


@settings(max_examples=600, deadline=None)
@given(st.data(), jobs(), st.booleans())
def test_promises_hold_through_every_reply_loss_and_restart(data: st.DataObject, job: Job, store_fails: bool) -> None:
    world = World(data, store_fails=store_fails)
    targets = {same_path(recipient.forward_path) for recipient in job.recipients}
    split = len(targets) > 1 and bool(job.spliced)
    for _ in range(8):
        settled_before = Counter(world.settled)
        try:
            answer = attempt(world, job)
        except CrashError:
            job = again(world, job, data)
            continue
        # Settling in this attempt is for spliced copies that the upstream really accepted.
        for path, count in (world.settled - settled_before).items():
            assert count == 1
            assert world.copies[(path, True)] >= 1, "charged for what was not delivered"
        if answer.reply.accepted:
            for index, recipient in enumerate(job.recipients):
                path = same_path(recipient.forward_path)
                told = (
                    path in world.reported
                    or not dsn_due(job, index)
                    or any(key(job, other) == path and not dsn_due(job, other) for other in range(len(job.recipients)))
                )
                assert world.got(path) or told, "2xx for a recipient that was neither reached nor reported"
            if data.draw(st.booleans()):  # the client was still there
                world.record = answer.acknowledged
                break
        elif answer.reply.refused and not any(world.got(key(job, i)) for i in range(len(job.recipients))):
            break
        job = again(world, job, data)
    if split and not store_fails:
        for path in targets:
            # A second copy only where a crash or a lost reply hid the first one's fate.
            assert world.got(path) <= 1 + world.doubtful[path], "delivered twice"


@settings(max_examples=300, deadline=None)
@given(st.data(), jobs())
def test_every_hold_ends_settled_released_or_in_doubt(data: st.DataObject, job: Job) -> None:
    world = World(data)
    try:
        attempt(world, job)
    except CrashError:
        return
    for index in job.spliced:
        path = key(job, index)
        ends = world.settled[path] + world.released[path]
        if ends == 0:
            assert world.doubtful[path], "a hold was forgotten"
        else:
            assert ends == 1
        assert not (world.settled[path] and not world.copies[(path, True)])
        if world.copies[(path, True)] and not world.doubtful[path]:
            assert world.settled[path] == 1, "delivered with a link, known, and not recorded"
