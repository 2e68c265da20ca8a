"""One mail's way through the relay, from its last byte to the client's reply: the only place where effects are ordered.

    earlier attempt?  →  index  →  decide  →  hold  →  splice  →  deliver (core.delivery says in which order)  →  reply

Promises: the upstream's replies are the client's replies; a failure of ours in judging, splicing or the ledger sends
the original bytes, charges nothing and is logged; trouble of ours is 451, never 5xx. What to do is decided in `core`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from relay_mta import maillog
from relay_mta.books import Books
from relay_mta.copies import Copier, Copies
from relay_mta.core import delivery, dsn, keys, steps, trace
from relay_mta.core.address import person, same_path
from relay_mta.core.company import Company
from relay_mta.core.disposition import Disposition, decide
from relay_mta.core.envelope import Client, Envelope
from relay_mta.core.errors import OutcomeUnknownError, UpstreamError
from relay_mta.core.message import Message, index
from relay_mta.core.ports import AlreadyClaimedError, Chunks
from relay_mta.core.record import Record
from relay_mta.core.reply import BUSY, LOOP, NOT_PROVEN, TROUBLE, Reply
from relay_mta.core.steps import Answer, Done, Event, Job, Step, Transmitted, Written
from relay_mta.core.tenancy import proven
from relay_mta.line import Line
from relay_mta.setting import Setting

JUDGING_SECONDS = 0.4
"""CPU time that reading and judging one mail may take. The longest thread that `core.htmltree` reads takes half of it;
what hostile mails take is bounded by the caps on sizes and counts long before."""


class _Watch:
    """A `core.patience.Patience` that runs while a mail is read and judged, and at no other time.

    It measures what this thread computes, not time that passes, so that a busy machine changes no verdict; and other
    mails compute on the same thread whenever this one waits, so it is set right before a stretch without waiting.
    """

    def __init__(self) -> None:
        self._end: float | None = None

    def __call__(self) -> bool:
        return self._end is not None and time.thread_time() > self._end

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._end = time.thread_time() + JUDGING_SECONDS
        try:
            yield
        finally:
            self._end = None


@dataclass(slots=True)
class _Outcome:
    """What the outcome line will say, as far as it is known."""

    size: int
    disposition: Disposition | None = None
    reason: str = ""
    relayed: int = 0


class Transaction:
    """One accepted MAIL with its RCPTs, from DATA to the final reply. `shared_network`: strangers send from where the
    client is, so the mail has to prove whose it is."""

    def __init__(
        self,
        setting: Setting,
        company: Company,
        line: Line,
        client: Client,
        envelope: Envelope,
        *,
        id: str,
        shared_network: bool,
    ) -> None:
        self._setting = setting
        self._company = company
        self._line = line
        self._client = client
        self._envelope = envelope
        self._shared_network = shared_network
        self._started = time.monotonic()
        self._id = id
        self._books = Books(setting.ledger, id=self._id, company=company.id)
        self._answer: Answer | None = None
        self._watch = _Watch()

    async def run(self, raw: bytes, *, normalised: bool) -> Reply:
        """Deliver one mail; the reply is final. `written` or `abandon` must follow."""
        attempt = _Outcome(len(raw))
        try:
            answer = await self._run(raw, attempt, normalised=normalised)
        except BaseException:  # whatever ended it, it has its line: some copies may have been delivered
            self._log(attempt, Answer(TROUBLE, None, relayed=attempt.relayed), reason="aborted")
            raise
        self._log(attempt, answer, reason=attempt.reason)
        return answer.reply

    async def _run(self, raw: bytes, attempt: _Outcome, *, normalised: bool) -> Answer:
        message = index(raw, self._watch, mended=True)  # as `ports.Conversation.data` promises
        if (refusal := self._unwelcome(message)) is not None:
            attempt.reason, answer = refusal
            return Answer(answer, None)
        digest = message.body_digest()
        key = keys.mail_key(self._setting.secret, self._company.id, self._envelope.reverse_path, digest)
        try:
            earlier = await self._books.earlier(key)
            wanted: tuple[int, ...] = ()
            if earlier is None or self._unnamed(earlier):
                attempt.disposition = self._decide(message, normalised=normalised)
                wanted = attempt.disposition.candidates if self._company.mode == "relay" else ()
            if earlier is None and wanted and not self._books.claimed:
                earlier = await self._books.claim(key)
                wanted = wanted if self._books.claimed else ()
        except AlreadyClaimedError:
            attempt.reason = "busy"
            return Answer(BUSY, None)
        if earlier is not None:
            attempt.reason = "retry"
            wanted = (*self._recorded_candidates(earlier), *(i for i in wanted if i in self._unnamed(earlier)))
        copier = Copier(self._setting, self._company, self._envelope, self._books, id=self._id, digest=digest)
        edits = trace.edits(message, self._added_fields(), proof=self._proof_field)
        copies = await copier.make(message, edits, attempt.disposition, wanted, earlier)
        job = Job(self._envelope.reverse_path, self._envelope.recipients, frozenset(copies.spliced), earlier)
        self._answer = await self._deliver(job, message, copies, attempt)
        return self._answer

    def _unwelcome(self, message: Message) -> tuple[str, Reply] | None:
        """Why a mail is not taken at all, and what the client is told."""
        setting = self._setting
        looped = setting.loop_mark and trace.marked(message, self._mark)
        if looped or trace.hops(message) >= setting.max_received:
            return "loop", LOOP
        if self._shared_network:
            proof, path = setting.proof, self._envelope.reverse_path
            if proof is None or not proven(message, path, self._company.domains, proof):
                return "not-proven", NOT_PROVEN
        return None

    @property
    def _proof_field(self) -> str | None:
        return self._setting.proof.name if self._setting.proof is not None else None

    @property
    def _mark(self) -> str:
        return keys.loop_mark(self._setting.secret, self._company.id)

    async def written(self) -> None:
        """The final reply was written to a client still connected: a final 2xx closes the record."""
        answer = self._answer
        try:
            if self._books.recorded and answer is not None and answer.reply.accepted:
                await self._books.write(answer.acknowledged)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """The attempt ended; the record, if any, stays as last written."""
        self._books.unclaim()

    # -- before the delivery --

    def _unnamed(self, earlier: Record) -> tuple[int, ...]:
        """Recipients that the earlier attempts at this mail did not have: on them the rules of today decide."""
        recipients = enumerate(self._envelope.recipients)
        return tuple(i for i, recipient in recipients if earlier.of(recipient.forward_path) is None)

    def _decide(self, message: Message, *, normalised: bool) -> Disposition:
        try:
            with self._watch.running():
                return decide(
                    message,
                    self._envelope,
                    company=self._company,
                    rules=self._setting.rules,
                    base_url=self._setting.base_url,
                    normalised=normalised,
                )
        except Exception as error:  # promise 4: whatever goes wrong in judging, the mail goes on as it came
            maillog.fell_back(id=self._id, company=self._company.id, stage="judging", error=error)
            return Disposition("exempt", "error:judging", ())

    def _recorded_candidates(self, record: Record) -> tuple[int, ...]:
        """Those whose copy an earlier attempt meant to splice and did not finish; one index for each forward path."""
        if record.deferrals >= delivery.MAX_DEFERRALS or self._company.mode != "relay":
            return ()
        found: dict[str, int] = {}
        for i, recipient in enumerate(self._envelope.recipients):
            known = record.of(recipient.forward_path)
            if known is not None and known.spliced and known.status in ("pending", "unknown"):
                found.setdefault(same_path(recipient.forward_path), i)
        return tuple(found.values())

    def _added_fields(self) -> bytes:
        received = trace.received(
            hostname=self._setting.hostname,
            client=self._client,
            envelope=self._envelope,
            id=self._id,
            now=self._setting.now(),
            hide_client=self._setting.hide_client,
        )
        return received + (trace.loop_field(self._mark) if self._setting.loop_mark else b"")

    # -- the delivery: steps of core.delivery, carried out --

    async def _deliver(self, job: Job, message: Message, copies: Copies, attempt: _Outcome) -> Answer:
        began = time.monotonic()
        machine = delivery.deliver(job)
        try:
            step = next(machine)
            while True:
                event = await self._carry_out(step, message, copies)
                attempt.relayed += isinstance(step, steps.Settle)
                if isinstance(event, Transmitted) and time.monotonic() - began > self._company.split_deadline:
                    event = replace(event, late=True)
                step = machine.send(event)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer

    async def _carry_out(self, step: Step, message: Message, copies: Copies) -> Event:
        match step:
            case steps.Write(record):
                return Written(ok=await self._books.write(record))
            case steps.Settle(i):
                await self._books.settle(copies.held[i])
                return Done()
            case steps.Release(i, reason):
                maillog.uncharged(
                    id=self._id, company=self._company.id, reason=reason, in_doubt=copies.held[i].in_doubt
                )
                await self._books.release(copies.held[i], reason)
                return Done()
            case steps.Report(refusals):
                return await self._report(message, refusals)
            case steps.Transmit():
                body = copies.spliced[step.recipients[0]] if step.spliced else copies.original
                return await self._transmit(step, body)

    async def _transmit(self, step: steps.Transmit, body: Chunks) -> Transmitted:
        refusals: dict[int, Reply] = {}
        try:
            if not step.mirrored or not self._line.alive:
                if step.mirrored:
                    return Transmitted("lost")  # it idled out while the client was uploading
                answer = await self._line.mail(self._client, self._envelope.reverse_path, self._envelope.params)
                if answer.code == 421:  # RFC 5321 §3.8: it closes, whatever it thinks of the mail; nothing was sent
                    return Transmitted("lost")
                if not answer.accepted:
                    return Transmitted("changed") if step.strict else Transmitted("replied", answer)
                for i in step.recipients:
                    recipient = self._envelope.recipients[i]
                    said = await self._line.rcpt(recipient.forward_path, recipient.params)
                    if said.code == 421:
                        return Transmitted("lost")
                    if not said.accepted:
                        refusals[i] = said
                if refusals and step.strict:
                    return Transmitted("changed")
                if len(refusals) == len(step.recipients):
                    return Transmitted("replied", None, refusals)
            return Transmitted("replied", await self._line.data(body), refusals)
        except UpstreamError as error:
            maillog.upstream_trouble(id=self._id, company=self._company.id, stage="transaction", error=error)
            return Transmitted("lost")
        except OutcomeUnknownError:
            maillog.in_doubt(id=self._id, company=self._company.id, recipients=len(step.recipients) - len(refusals))
            return Transmitted("unknown", None, refusals)

    async def _report(self, message: Message, refusals: tuple[tuple[int, Reply], ...]) -> Transmitted:
        """Hand the sender a DSN through the same upstream (RFC 3464), with the null reverse-path (RFC 5321 §6.1)."""
        envelope = self._envelope
        body = dsn.report(
            hostname=self._setting.hostname,
            upstream=self._setting.upstream_name,
            envelope=envelope,
            failures=[dsn.Failure(envelope.recipients[i], answer) for i, answer in refusals],
            header=trace.quoted(message, proof=self._proof_field),
            now=self._setting.now(),
            unique=self._setting.unique(),
        )
        utf8 = () if envelope.reverse_path.isascii() else ("SMTPUTF8",)
        try:
            answer = await self._line.mail(self._client, "", utf8)
            if answer.accepted:
                answer = await self._line.rcpt(envelope.reverse_path, ())
            if answer.accepted:
                answer = await self._line.data((body,))
            maillog.reported(
                id=self._id,
                company=self._company.id,
                failures=len(refusals),
                code=answer.code,
                enhanced=answer.enhanced,
            )
            return Transmitted("replied", answer)
        except UpstreamError as error:
            maillog.upstream_trouble(id=self._id, company=self._company.id, stage="dsn", error=error)
            return Transmitted("lost")
        except OutcomeUnknownError as error:
            maillog.upstream_trouble(id=self._id, company=self._company.id, stage="dsn", error=error)
            return Transmitted("unknown")

    def _log(self, attempt: _Outcome, answer: Answer, *, reason: str = "") -> None:
        """The one line of this mail's outcome."""
        disposition = attempt.disposition
        verdict = disposition.verdict if disposition else None
        why = reason or (disposition.reason if disposition else "")
        if disposition and disposition.kind == "exempt" and verdict is not None:
            self._setting.missed(disposition.reason)
            maillog.missed(id=self._id, company=self._company.id, reason=disposition.reason)
            why = f"{why} (rejection, score {verdict.score:g})"
        kind: str = disposition.kind if disposition else "none"
        if kind == "relay" and self._company.mode == "observe":
            kind = "observe"
        paths = [recipient.forward_path for recipient in self._envelope.recipients]
        trials = verdict.trials if verdict else ()
        self._setting.tried(trials)
        maillog.outcome(
            id=self._id,
            company=self._company.id,
            sender=keys.pseudonym(self._setting.secret, person(self._envelope.reverse_path)),
            recipients=[keys.pseudonym(self._setting.secret, person(path)) for path in paths],
            size=attempt.size,
            disposition=kind,
            reason=why,
            score=verdict.score if verdict else 0.0,
            rules=self._setting.rules.hash,
            delivered=answer.delivered,
            relayed=answer.relayed,
            code=answer.reply.code,
            enhanced=answer.reply.enhanced,
            milliseconds=round((time.monotonic() - self._started) * 1000),
            trials=trials,
        )
