"""What one mail goes out as: its own bytes, and for each candidate a copy with a link and a hold of its own.

Promise 4 of the design: whatever fails here, in the ledger, in a template or in the splice, the candidate gets the
original bytes and nothing is charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from relay_mta import maillog
from relay_mta.books import Books
from relay_mta.core import copy, keys
from relay_mta.core.address import person, same_path
from relay_mta.core.company import Company
from relay_mta.core.disposition import Disposition
from relay_mta.core.edit import Edit, apply
from relay_mta.core.envelope import Envelope
from relay_mta.core.errors import LedgerError, SpliceError
from relay_mta.core.message import Message
from relay_mta.core.ports import Candidacy, Chunks, Held, OptedOutError
from relay_mta.core.record import Record
from relay_mta.core.verdict import Language, Verdict
from relay_mta.setting import Setting


@dataclass(slots=True)
class Copies:
    """The bytes to send: the original, and a spliced copy with its hold for each candidate (by recipient index)."""

    original: Chunks
    spliced: dict[int, Chunks] = field(default_factory=dict)
    held: dict[int, Held] = field(default_factory=dict)


class Copier:
    """Makes the copies of one mail. `id`: the transaction's; `digest`: the mail's, by which a resend is known."""

    def __init__(
        self, setting: Setting, company: Company, envelope: Envelope, books: Books, *, id: str, digest: bytes
    ) -> None:
        self._setting = setting
        self._company = company
        self._envelope = envelope
        self._books = books
        self._id = id
        self._digest = digest

    async def make(
        self,
        message: Message,
        edits: Sequence[Edit],
        disposition: Disposition | None,
        candidates: tuple[int, ...],
        earlier: Record | None,
    ) -> Copies:
        """Hold and splice for each candidate, on top of the edits that every copy has. One that fails gets the original
        like everyone else."""
        copies = Copies(apply(message.raw, edits))
        for i in candidates:
            held: Held | None = None
            try:
                verdict = disposition.verdict if disposition else None
                verdict = verdict or self._setting.rules.judge(message)  # a retry: for the language and the books only
                held = await self._hold(message, verdict, i, earlier)
                if held.state in ("released", "reversed"):
                    continue
                copies.spliced[i] = await self._spliced(message, edits, verdict.language, held.token, i)
                copies.held[i] = held
            except OptedOutError:
                maillog.uncharged(id=self._id, company=self._company.id, reason="opted-out", in_doubt=False)
            except Exception as error:  # promise 4
                stage = "hold" if held is None else "splice"
                maillog.fell_back(id=self._id, company=self._company.id, stage=stage, error=error)
                if held is not None:
                    await self._books.release(held, error.reason if isinstance(error, SpliceError) else "error:splice")
                if isinstance(error, LedgerError):
                    break  # no further waiting for a store that is away
        if earlier is not None and self._company.mode != "relay":
            await self._let_go(message, earlier)
        return copies

    async def _spliced(self, message: Message, edits: Sequence[Edit], language: Language, token: str, i: int) -> Chunks:
        """One candidate's copy, signed again where a signature had to go and the company has a key."""
        setting = self._setting
        made = copy.make(
            message,
            self._company,
            setting.templates,
            language=language,
            base_url=setting.base_url,
            token=token,
            forward_path=self._envelope.recipients[i].forward_path,
        )
        mail = apply(message.raw, (*edits, *made.edits))
        if setting.signing is None or not made.unsigned:
            return mail
        return await asyncio.to_thread(setting.signing.signed, mail)

    async def _hold(self, message: Message, verdict: Verdict, i: int, earlier: Record | None) -> Held:
        """The candidate's hold; not in doubt where the record says that its copy was never sent."""
        held = await self._books.hold(self._candidacy(message, verdict, i))
        known = earlier.of(self._envelope.recipients[i].forward_path) if earlier else None
        return replace(held, in_doubt=False) if known is not None and known.status == "pending" else held

    async def _let_go(self, message: Message, earlier: Record) -> None:
        """Copies that an earlier attempt held and never sent, and that will not be spliced any more: release them."""
        for i, recipient in enumerate(self._envelope.recipients):
            known = earlier.of(recipient.forward_path)
            if known is not None and known.spliced and known.status == "pending":
                try:
                    held = await self._hold(message, self._setting.rules.judge(message), i, earlier)
                except LedgerError as error:
                    maillog.ledger_trouble(id=self._id, company=self._company.id, step="hold", error=error)
                    return
                except OptedOutError:
                    continue
                await self._books.release(held, "mode")

    def _candidacy(self, message: Message, verdict: Verdict, i: int) -> Candidacy:
        setting, company, path = self._setting, self._company.id, self._envelope.recipients[i].forward_path
        return Candidacy(
            company=company,
            copy_key=keys.copy_key(setting.secret, company, self._envelope.reverse_path, same_path(path), self._digest),
            candidate_key=keys.candidate_key(setting.secret, company, person(path)),
            ruleset=setting.rules.hash,
            verdict=f"{verdict.reason} {verdict.score:g}/{verdict.threshold:g}",
            address=path,
            sender=self._envelope.reverse_path,
            message_id=message.first("message-id") or "",
            language=verdict.language,
        )
