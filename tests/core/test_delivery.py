"""Each delivery rule, once, by name. (tests/property drives the same machine through everything else.)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import pytest

from relay_mta.core.delivery import MAX_DEFERRALS, deliver
from relay_mta.core.envelope import Recipient
from relay_mta.core.record import RecipientRecord, Record
from relay_mta.core.reply import UPSTREAM_LOST, Reply, reply
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

OK, LATER, NO = reply(250, "2.0.0 queued as 1"), reply(450, "4.2.0 later"), reply(550, "5.7.1 no such thing")
SENT, DEFERRED, REFUSED = Transmitted("replied", OK), Transmitted("replied", LATER), Transmitted("replied", NO)
LOST, UNKNOWN, CHANGED = Transmitted("lost"), Transmitted("unknown"), Transmitted("changed")

A, B, HR = "a@x.example", "b@y.example", "hr@acme.example"


def job(*paths: str, spliced: Iterable[int] = (), earlier: Record | None = None, sender: str = HR) -> Job:
    return Job(sender, tuple(Recipient(path) for path in paths), frozenset(spliced), earlier)


def drive(work: Job, *outcomes: Transmitted, store: bool = True) -> tuple[list[Step], Answer]:
    """Run an attempt: every Transmit and Report takes the next outcome. All outcomes must be used."""
    left = list(outcomes)
    steps: list[Step] = []
    machine = deliver(work)
    try:
        step = next(machine)
        while True:
            steps.append(step)
            event: Event = Done()
            if isinstance(step, Write):
                event = Written(store)
            elif isinstance(step, (Transmit, Report)):
                event = left.pop(0)
            step = machine.send(event)
    except StopIteration as stop:
        assert not left, "fewer transactions than expected"
        answer = stop.value
    assert isinstance(answer, Answer)
    return steps, answer


T = TypeVar("T")


def of(kind: type[T], steps: list[Step]) -> list[T]:
    return [step for step in steps if isinstance(step, kind)]


def test_an_untouched_mail_uses_the_mirrored_transaction_and_writes_nothing() -> None:
    steps, answer = drive(job(A, HR), SENT)
    assert steps == [Transmit((0, 1), spliced=False, mirrored=True, strict=True)]
    assert answer.reply is OK


@pytest.mark.parametrize("outcome", [DEFERRED, REFUSED])
def test_an_untouched_mails_reply_is_the_upstreams(outcome: Transmitted) -> None:
    steps, answer = drive(job(A, HR), outcome)
    assert answer.reply is outcome.reply
    assert not of(Write, steps)


def test_a_single_candidate_is_relayed_in_the_mirrored_transaction() -> None:
    steps, answer = drive(job(A, spliced=[0]), SENT)
    assert steps == [Transmit((0,), spliced=True, mirrored=True, strict=True), Settle(0)]
    assert (answer.reply, answer.relayed, answer.delivered) == (OK, 1, 1)


def test_the_same_forward_path_given_twice_is_one_copy() -> None:
    steps, answer = drive(job(A, "a@X.EXAMPLE", spliced=[0]), SENT)
    assert steps == [Transmit((0,), spliced=True, mirrored=True, strict=True), Settle(0)]
    assert answer.reply is OK


def test_a_refused_copy_goes_once_more_as_the_original_uncharged() -> None:
    steps, answer = drive(job(A, spliced=[0]), REFUSED, SENT)
    assert of(Release, steps) == [Release(0, "refused")]
    assert [t.spliced for t in of(Transmit, steps)] == [True, False]
    assert not of(Settle, steps)
    assert (answer.reply, answer.relayed) == (OK, 0)


def test_the_reply_to_the_original_counts() -> None:
    other = reply(554, "5.7.0 never")
    _, answer = drive(job(A, spliced=[0]), REFUSED, Transmitted("replied", other))
    assert answer.reply is other


def test_a_deferred_copy_is_the_reply_and_is_counted() -> None:
    steps, answer = drive(job(A, spliced=[0]), DEFERRED)
    assert answer.reply is LATER
    assert of(Release, steps) == [Release(0, "deferred")]
    assert of(Write, steps)[-1].record == Record((RecipientRecord(A, "pending", True),), 1)


def test_from_the_third_deferral_on_the_original_goes() -> None:
    record: Record | None = None
    for _ in range(MAX_DEFERRALS - 1):
        steps, answer = drive(job(A, spliced=[0], earlier=record), DEFERRED)
        assert answer.reply is LATER
        record = of(Write, steps)[-1].record
    steps, answer = drive(job(A, spliced=[0], earlier=record), DEFERRED, SENT)
    assert answer.reply is OK
    assert not of(Settle, steps)
    assert [t.spliced for t in of(Transmit, steps)] == [True, False]
    assert answer.acknowledged is None


def test_a_mail_deferred_too_often_is_not_spliced_again() -> None:
    earlier = Record((RecipientRecord(A, "pending", True),), MAX_DEFERRALS)
    steps, answer = drive(job(A, spliced=[0], earlier=earlier), SENT)
    assert [t.spliced for t in of(Transmit, steps)] == [False]
    assert of(Release, steps) == [Release(0, "deferred")]
    assert answer.reply is OK


def test_candidates_go_first_each_alone_and_everyone_else_last() -> None:
    steps, answer = drive(job(HR, A, B, spliced=[1, 2]), SENT, SENT, SENT)
    assert [(t.recipients, t.spliced, t.mirrored) for t in of(Transmit, steps)] == [
        ((1,), True, False),
        ((2,), True, False),
        ((0,), False, False),
    ]
    assert of(Settle, steps) == [Settle(1), Settle(2)]
    assert (answer.reply, answer.delivered, answer.relayed) == (OK, 3, 2)


def test_a_copys_unknown_outcome_is_on_record_before_it_is_sent() -> None:
    steps, _ = drive(job(HR, A, spliced=[1]), SENT, SENT)
    written: Record | None = None
    for step in steps:
        if isinstance(step, Write):
            written = step.record
        elif isinstance(step, Transmit):
            assert written is not None
            for index in step.recipients:
                known = written.of((HR, A)[index])
                assert known is not None
                assert known.status == "unknown"


def test_the_last_state_is_on_record_before_the_answer() -> None:
    steps, answer = drive(job(HR, A, spliced=[1]), SENT, SENT)
    assert {r.status for r in (of(Write, steps)[-1].record or Record(())).recipients} == {"sent"}
    assert answer.acknowledged is None


def test_no_split_without_a_record() -> None:
    steps, answer = drive(job(HR, A, spliced=[1]), SENT, store=False)
    assert of(Transmit, steps) == [Transmit((0, 1), spliced=False, mirrored=True, strict=True)]
    assert of(Release, steps) == [Release(1, "ledger")]
    assert answer.reply is OK


def test_deferred_after_a_first_delivery_everyone_left_gets_the_original() -> None:
    steps, answer = drive(job(HR, A, B, "c@z.example", spliced=[1, 2, 3]), SENT, DEFERRED, SENT)
    assert [(t.recipients, t.spliced) for t in of(Transmit, steps)] == [
        ((1,), True),
        ((2,), True),
        ((2, 3, 0), False),
    ]
    assert of(Settle, steps) == [Settle(1)]
    assert {r.recipient for r in of(Release, steps)} == {2, 3}
    assert answer.reply is OK


def test_deferred_before_anything_was_delivered_is_the_reply() -> None:
    steps, answer = drive(job(HR, A, B, spliced=[1, 2]), DEFERRED)
    assert answer.reply is LATER
    record = of(Write, steps)[-1].record
    assert record is not None
    assert record.deferrals == 1
    assert {r.status for r in record.recipients} == {"pending"}


def test_the_deadline_sends_the_rest_in_the_last_transaction() -> None:
    late = Transmitted("replied", OK, late=True)
    steps, answer = drive(job(HR, A, B, spliced=[1, 2]), late, SENT)
    assert [(t.recipients, t.spliced) for t in of(Transmit, steps)] == [((1,), True), ((2, 0), False)]
    assert of(Release, steps) == [Release(2, "late")]
    assert answer.reply is OK


def test_nothing_is_sent_again_after_an_unknown_outcome() -> None:
    steps, answer = drive(job(HR, A, B, spliced=[1, 2]), UNKNOWN)
    assert answer.reply is UPSTREAM_LOST
    assert not of(Settle, steps)
    assert of(Release, steps) == [Release(2, "not-sent")]  # 1 stays in doubt
    record = of(Write, steps)[-1].record
    assert record is not None
    assert [(r.forward_path, r.status) for r in record.recipients] == [(HR, "pending"), (A, "unknown"), (B, "pending")]


def test_a_single_unknown_outcome_stays_held() -> None:
    steps, answer = drive(job(A, spliced=[0]), UNKNOWN)
    assert answer.reply is UPSTREAM_LOST
    assert not of(Settle, steps)
    assert not of(Release, steps)


def test_a_transaction_lost_before_its_dot_is_replayed_once() -> None:
    steps, answer = drive(job(A, HR), LOST, SENT)
    assert [t.mirrored for t in of(Transmit, steps)] == [True, False]
    assert answer.reply is OK
    steps, answer = drive(job(A, HR), LOST, LOST)
    assert answer.reply is UPSTREAM_LOST


def test_a_replay_with_another_answer_is_451() -> None:
    _, answer = drive(job(A, HR), LOST, CHANGED)
    assert answer.reply is UPSTREAM_LOST


def test_a_retry_sends_only_what_is_pending_or_unknown() -> None:
    earlier = Record(
        (RecipientRecord(HR, "pending", False), RecipientRecord(A, "sent", True), RecipientRecord(B, "unknown", True))
    )
    steps, answer = drive(job(HR, A, B, spliced=[2], earlier=earlier), SENT, SENT)
    assert [(t.recipients, t.spliced) for t in of(Transmit, steps)] == [((2,), True), ((0,), False)]
    assert answer.reply is OK


def test_a_retry_after_everything_was_sent_sends_nothing() -> None:
    earlier = Record((RecipientRecord(HR, "sent", False), RecipientRecord(A, "sent", True)))
    steps, answer = drive(job(HR, A, earlier=earlier))
    assert not of(Transmit, steps)
    assert answer.reply.accepted
    assert answer.acknowledged is None


def test_a_retry_with_fewer_recipients_leaves_the_others_on_record() -> None:
    other = RecipientRecord(B, "sent", True)
    earlier = Record((RecipientRecord(A, "pending", False), other))
    _, answer = drive(job(A, earlier=earlier), SENT)
    assert answer.reply is OK
    assert answer.acknowledged == Record((other,))


def refusing(*indices: int) -> Transmitted:
    return Transmitted("replied", OK, {index: NO for index in indices})


def test_some_delivered_and_the_rest_refused_is_reported_before_the_reply() -> None:
    steps, answer = drive(job(HR, A, spliced=[1]), REFUSED, REFUSED, SENT, SENT)
    assert of(Report, steps) == [Report(((1, NO),))]
    assert answer.reply is OK


def test_a_refused_dsn_is_554_and_the_record_stays() -> None:
    steps, answer = drive(job(HR, A, spliced=[1]), REFUSED, REFUSED, SENT, REFUSED)
    assert answer.reply.code == 554
    assert b"1 of 2" in answer.reply.lines[0]
    assert of(Write, steps)[-1].record == answer.acknowledged
    assert answer.acknowledged is not None


@pytest.mark.parametrize("outcome", [DEFERRED, LOST, UNKNOWN])
def test_a_dsn_that_did_not_get_away_is_451(outcome: Transmitted) -> None:
    _, answer = drive(job(HR, A, spliced=[1]), REFUSED, REFUSED, SENT, outcome)
    assert answer.reply.code == 451
    assert answer.acknowledged is not None


@pytest.mark.parametrize(
    ("notify", "due"), [("NOTIFY=NEVER", False), ("NOTIFY=success", False), ("NOTIFY=DELAY,FAILURE", True)]
)
def test_notify_decides_whether_a_dsn_is_due(notify: str, due: bool) -> None:
    work = Job(HR, (Recipient(HR), Recipient(A, (notify,))), frozenset([1]))
    outcomes = [REFUSED, REFUSED, SENT] + ([SENT] if due else [])
    steps, answer = drive(work, *outcomes)
    assert bool(of(Report, steps)) is due
    assert answer.reply is OK


def test_a_null_reverse_path_gets_no_dsn() -> None:
    steps, answer = drive(job(HR, A, spliced=[1], sender=""), REFUSED, REFUSED, SENT)
    assert not of(Report, steps)
    assert answer.reply is OK


def test_all_refused_is_that_reply_and_leaves_no_record() -> None:
    steps, answer = drive(job(HR, A, spliced=[1]), REFUSED, REFUSED, REFUSED)
    assert answer.reply is NO
    assert of(Write, steps)[-1].record is None


def test_some_delivered_and_some_deferred_is_451() -> None:
    partly = Transmitted("replied", OK, {2: LATER})
    steps, answer = drive(job(HR, A, B, spliced=[1]), SENT, partly)
    assert answer.reply.code == 451
    record = of(Write, steps)[-1].record
    assert record is not None
    assert [r.status for r in record.recipients] == ["sent", "sent", "pending"]


def test_refused_in_the_last_transaction_joins_the_dsn() -> None:
    steps, answer = drive(job(HR, A, B, spliced=[1]), SENT, refusing(2), SENT)
    assert of(Report, steps) == [Report(((2, NO),))]
    assert answer.reply is OK


def test_a_reply_is_never_made_up() -> None:
    """Every 2xx but the one for a mail that was delivered earlier is the upstream's own."""
    seen: list[Reply] = []
    for work, outcomes in [
        (job(A), [SENT]),
        (job(A, spliced=[0]), [SENT]),
        (job(HR, A, spliced=[1]), [SENT, SENT]),
    ]:
        seen.append(drive(work, *outcomes)[1].reply)
    assert all(answer is OK for answer in seen)
