"""One transaction's dealings with the ledger: none of them stops a mail, none holds it for long.

Whatever a store raises, and a store that does not answer in time, is a `LedgerError` here; once it was late, it is not
asked again by the same mail. What could not be written is logged, and the mail goes on (mail first, money second).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from relay_mta import maillog
from relay_mta.core.errors import LedgerError
from relay_mta.core.ports import AlreadyClaimedError, Candidacy, Held, Ledger, OptedOutError
from relay_mta.core.record import Record

LEDGER_SECONDS = 5.0
"""A store that takes longer is in trouble; the client at the other end waits for its reply meanwhile."""

T = TypeVar("T")


class Books:
    """The ledger as one mail's attempt sees it. `recorded`: the store has an open delivery record of the mail."""

    def __init__(self, ledger: Ledger, *, id: str, company: str) -> None:
        self._ledger = ledger
        self._id = id
        self._company = company
        self._key: str | None = None  # set while this attempt holds the mail's claim
        self._away = False
        self.recorded = False

    @property
    def claimed(self) -> bool:
        """This attempt holds the mail: no other one runs."""
        return self._key is not None

    async def earlier(self, key: str) -> Record | None:
        """The mail's open delivery record, claimed. Raises `AlreadyClaimedError` while another attempt runs."""
        try:
            waiting = await self._ask(self._ledger.pending(key))
        except LedgerError as error:
            self._trouble("pending", error)
            return None
        return await self.claim(key) if waiting else None

    async def claim(self, key: str) -> Record | None:
        """Keep a second attempt at the same mail away; its delivery record, if one is open.

        Raises `AlreadyClaimedError`. If the store is away nothing is `claimed`, and the mail must go in one copy.
        """
        try:
            record = await self._ask(self._ledger.claim(key))
        except LedgerError as error:
            self._trouble("claim", error)
            return None
        self._key = key
        self.recorded = record is not None
        return record

    def unclaim(self) -> None:
        """The attempt ended; the record, if any, stays as last written."""
        key, self._key = self._key, None
        if key is not None:
            self._ledger.unclaim(key)

    async def write(self, record: Record | None) -> bool:
        """Write the delivery record, or close it (None). False: it is not durable."""
        if self._key is None:
            return False
        try:
            if record is not None:
                await self._ask(self._ledger.record(self._key, record))
            elif self.recorded:
                await self._ask(self._ledger.close_record(self._key))
        except LedgerError as error:
            self._trouble("record" if record is not None else "close", error)
            return False
        self.recorded = record is not None
        return True

    async def hold(self, candidacy: Candidacy) -> Held:
        """As the ledger's. Raises `LedgerError` and `OptedOutError`."""
        return await self._ask(self._ledger.hold(candidacy))

    async def settle(self, held: Held) -> None:
        """The spliced copy was accepted."""
        try:
            await self._ask(self._ledger.settle(held))
        except LedgerError as error:
            self._trouble("settle", error)

    async def release(self, held: Held, reason: str) -> None:
        """The spliced copy was not delivered in this attempt. A hold that was in doubt before it stays in doubt."""
        if held.in_doubt:
            return
        try:
            await self._ask(self._ledger.release(held, reason))
        except LedgerError as error:
            self._trouble("release", error)

    async def _ask(self, call: Coroutine[Any, Any, T]) -> T:
        if self._away:
            call.close()
            raise LedgerError("the ledger did not answer in time before")
        try:
            async with asyncio.timeout(LEDGER_SECONDS):
                return await call
        except (LedgerError, AlreadyClaimedError, OptedOutError):
            raise
        except TimeoutError:
            self._away = True
            raise LedgerError("the ledger does not answer in time") from None
        except Exception as error:  # a defect of the store must not cost the mail
            raise LedgerError(maillog.described(error)) from error

    def _trouble(self, step: str, error: LedgerError) -> None:
        maillog.ledger_trouble(id=self._id, company=self._company, step=step, error=error)
