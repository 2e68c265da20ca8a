"""The embedded ledger: TinyDB on a journal, one process that writes, as many as like that read (`read`).

Tables (plain TinyDB, see `journal` for the files): `entries`, append-only and hash-chained per company (`core.credit`);
`personal`, the erasable record beside each relay: salt, address, sender, Message-ID, language; `records`, the open
delivery records. No body, subject or attachment is ever stored.

Promised: every method that writes is durable on return, or raises `LedgerError` and has changed nothing, in memory or
on disk. Recording costs the same however many entries there are; concurrent callers share one fdatasync.

Not promised: that a deleted record's bytes leave the disk at once. Delivery records hold forward paths; `close_record`
deletes them in the journal, and the next compaction (`compact`, and every orderly `close`) from the disk. Claims live
in memory: this ledger is for one process.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any

from relay_mta.core import credit, link
from relay_mta.core.credit import Entry, Kind
from relay_mta.core.errors import LedgerError
from relay_mta.core.ports import AlreadyClaimedError, Candidacy, Held, LinkTarget, OptedOutError
from relay_mta.core.record import RecipientRecord, Record
from relay_mta.core.reply import Reply
from relay_mta.ledger import journal
from relay_mta.ledger.index import Index, Relay
from relay_mta.ledger.storage import JournalDatabase, JournalStorage

FOLDER = "ledger"
ENTRIES, PERSONAL, RECORDS = "entries", "personal", "records"

RECORD_LIFE = timedelta(days=5)
"""How long a delivery record stays open: no client keeps a mail longer in its queue (RFC 5321 §4.5.4.1: 4–5 days)."""


@dataclass(frozen=True, slots=True)
class Personal:
    """What is known of a relay's candidate and can be erased. `salt` is that of the entry's commitment."""

    relay: str
    salt: str
    address: str
    sender: str
    message_id: str
    language: str

    def commitment(self) -> str:
        """What the relay's `held` entry holds of it."""
        content = asdict(self)
        return credit.commitment(content.pop("salt"), content)


@dataclass(frozen=True, slots=True)
class Reading:
    """A ledger as it was read: its entries, and the personal records that are not erased, by relay."""

    entries: tuple[Entry, ...]
    personal: Mapping[str, Personal]


def read(data_dir: Path, company: str | None = None) -> Reading:
    """Read the ledger of `data_dir`, of one company or all, also while a process writes it; changes nothing.

    Raises `LedgerError` if there is none or it is damaged.
    """
    tables = journal.read(data_dir / FOLDER).tables
    try:
        entries = tuple(Entry.of(each) for each in tables.get(ENTRIES, {}).values())
        records = [Personal(**each) for each in tables.get(PERSONAL, {}).values()]
    except TypeError as error:
        raise LedgerError(f"the ledger {data_dir / FOLDER} holds what this relay-mta cannot read: {error}") from error
    if company is not None:
        entries = tuple(entry for entry in entries if entry.company == company)
        relays = {entry.relay for entry in entries}
        records = [record for record in records if record.relay in relays]
    return Reading(entries, MappingProxyType({record.relay: record for record in records}))


class TinyLedger:
    """The ledger of one `data_dir`; fulfils `core.ports.Ledger`. For one event loop.

    `clock` gives aware moments, `random` that many random bytes. Raises `LedgerError` if the files cannot be opened,
    are damaged, or another process has them.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._clock = clock
        self._random = random
        self.storage = JournalStorage(data_dir / FOLDER)
        database = JournalDatabase(self.storage)
        self._entries = database.journal_table(ENTRIES)
        self._personal = database.journal_table(PERSONAL)
        self._records = database.journal_table(RECORDS)
        self._index = Index()
        self._personal_keys: dict[str, int] = {}
        self._record_keys: dict[str, int] = {}
        self._claimed: set[str] = set()
        try:
            self._load(data_dir / FOLDER)
        except BaseException:
            self.storage.close()
            raise

    @property
    def empty(self) -> bool:
        """No entry was ever written."""
        return not self._index.relays

    # --- relays -----------------------------------------------------------------------------------------------------

    async def hold(self, candidacy: Candidacy) -> Held:
        """As the protocol says. A candidate who has a link already keeps it, whatever mail this is."""
        if self._index.suppressed(candidacy.company, candidacy.candidate_key):
            raise OptedOutError
        relay = self._index.copy(candidacy.company, candidacy.copy_key)
        in_doubt = relay is not None and relay.state == "held"
        if relay is None:
            relay = self._hold(candidacy, "", self._token(candidacy))
        elif credit.after(relay.state, "held") is not None:
            relay = self._hold(candidacy, relay.id, relay.token)
        held = Held(relay.id, relay.company, relay.token, relay.state, in_doubt)
        await self.storage.durable()
        return held

    async def settle(self, held: Held) -> None:
        """As the protocol says."""
        await self.advance(held.relay, "relayed")

    async def release(self, held: Held, reason: str) -> None:
        """As the protocol says. `reason` is a stable word, without personal data."""
        await self.advance(held.relay, "released", reason=reason)

    async def advance(self, relay: str, kind: Kind, *, reason: str = "", by: str = "") -> None:
        """Write a relay's next entry if `credit.TRANSITIONS` has one; otherwise nothing is to be said. Idempotent.

        `by` is the operator's account, for what was done by hand. Raises `LedgerError` for an unknown relay.
        """
        known = self._index.relays.get(relay)
        if known is None:
            raise LedgerError(f"there is no relay {relay} in the ledger")
        if kind != "held" and credit.after(known.state, kind) is not None:
            self._write(
                Entry(
                    **self._next(known.company),
                    kind=kind,
                    relay=known.id,
                    copy_key=known.copy_key,
                    candidate_key=known.candidate_key,
                    reason=reason,
                    by=by,
                )
            )
        await self.storage.durable()

    async def by_token(self, token: str) -> LinkTarget | None:
        """As the protocol says; the newest relay of the token that was not released or reversed, if there is one."""
        relay = self._index.token(token)
        personal = self._personal.document(self._personal_keys.get(relay.id, 0)) if relay else None
        if relay is None or personal is None:
            return None
        return LinkTarget(relay.company, relay.id, personal["language"], credit.moment(relay.held_at))

    async def suppress(self, token: str) -> bool:
        """As the protocol says. By a person, through the link in their mail; an operator needs no token."""
        relay = self._index.token(token)
        if relay is None or self._personal.document(self._personal_keys.get(relay.id, 0)) is None:
            return False
        if not self._index.suppressed(relay.company, relay.candidate_key):
            entry = Entry(**self._next(relay.company), kind="suppressed", candidate_key=relay.candidate_key)
            self._write(entry)
        await self.storage.durable()
        return True

    async def entries(self, company: str | None = None) -> list[Entry]:
        """Every durable entry, or those of one company, each company's in its order."""
        found = [Entry.of(each) for each in self.storage.durable_tables().get(ENTRIES, {}).values()]
        return [entry for entry in found if company is None or entry.company == company]

    # --- delivery records -------------------------------------------------------------------------------------------

    async def pending(self, mail_key: str) -> bool:
        """As the protocol says."""
        return mail_key in self._claimed or self._open_record(mail_key) is not None

    async def claim(self, mail_key: str) -> Record | None:
        """As the protocol says. A record older than `RECORD_LIFE` is none."""
        if mail_key in self._claimed:
            raise AlreadyClaimedError
        document = self._open_record(mail_key)
        self._claimed.add(mail_key)
        return _record(document) if document is not None else None

    async def record(self, mail_key: str, record: Record) -> None:
        """As the protocol says; expired records of mails that nobody claims are forgotten along with it."""
        if mail_key not in self._claimed:
            raise LedgerError("a delivery record can only be written by the attempt that claimed the mail")
        earlier = self._open_record(mail_key)
        if earlier is None:
            self._forget(mail_key)
        self._sweep()
        created = earlier["created"] if earlier is not None else credit.timestamp(self._clock())
        document = {"mail_key": mail_key, "created": created, **_plain(record)}
        if mail_key in self._record_keys:
            self._records.put(self._record_keys[mail_key], document)
        else:
            self._record_keys[mail_key] = self._records.insert(document)
            self.storage.undo_with(lambda: self._record_keys.pop(mail_key, None))
        await self.storage.durable()

    async def close_record(self, mail_key: str) -> None:
        """As the protocol says. Idempotent; the claim stays until `unclaim`."""
        self._forget(mail_key)
        await self.storage.durable()

    def unclaim(self, mail_key: str) -> None:
        """As the protocol says. Idempotent."""
        self._claimed.discard(mail_key)

    # --- housekeeping -----------------------------------------------------------------------------------------------

    async def compact(self) -> None:
        """Forget expired delivery records, and write all into a new snapshot: what was deleted leaves the disk.

        Other writes wait meanwhile (about a second for 100,000 entries). Raises `LedgerError`; nothing is lost then.
        """
        self._sweep()
        await self.storage.compact()

    async def close(self) -> None:
        """Wait for what is being written, compact if that works, and let go of the files. Idempotent, never raises."""
        try:
            if self.storage.size:
                await self.compact()
        except LedgerError:
            pass  # the journal has it all; the next orderly close compacts
        await self.storage.finish()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _load(self, directory: Path) -> None:
        place = ""
        try:
            for key, entry in self._entries.rows():
                place = f"{ENTRIES} {key}"
                self._index.add(entry)
            for key, personal in self._personal.rows():
                place = f"{PERSONAL} {key}"
                self._personal_keys[personal["relay"]] = key
            for key, record in self._records.rows():
                place = f"{RECORDS} {key}"
                self._record_keys[record["mail_key"]] = key
        except (KeyError, TypeError, ValueError) as error:
            trouble = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise LedgerError(f"the ledger {directory} is damaged at {place}: {trouble}") from error

    def _token(self, candidacy: Candidacy) -> str:
        token = self._index.candidate_token(candidacy.company, candidacy.candidate_key)
        return token if token is not None else link.token(self._random(link.TOKEN_BYTES))

    def _hold(self, candidacy: Candidacy, relay: str, token: str) -> Relay:
        """Stage a `held` entry of a new relay ("") or one that was released."""
        following = self._next(candidacy.company)
        relay = relay or following["id"]
        entry = Entry(
            **following,
            kind="held",
            relay=relay,
            copy_key=candidacy.copy_key,
            candidate_key=candidacy.candidate_key,
            token=token,
            ruleset=candidacy.ruleset,
            verdict=candidacy.verdict,
            commitment=self._commit_personal(candidacy, relay),
        )
        self._write(entry)
        return self._index.relays[relay]

    def _commit_personal(self, candidacy: Candidacy, relay: str) -> str:
        """Stage the personal record of a relay if it has none (any more); returns the commitment to it."""
        stored = self._personal.document(self._personal_keys.get(relay, 0))
        if stored is not None:
            return Personal(**stored).commitment()
        personal = Personal(
            relay=relay,
            salt=self._random(16).hex(),
            address=candidacy.address,
            sender=candidacy.sender,
            message_id=candidacy.message_id,
            language=candidacy.language,
        )
        self._personal_keys[relay] = self._personal.insert(asdict(personal))
        self.storage.undo_with(lambda: self._personal_keys.pop(relay, None))
        return personal.commitment()

    def _next(self, company: str) -> dict[str, Any]:
        seq, prev = self._index.head(company)
        at = credit.timestamp(self._clock())
        return {"company": company, "seq": seq + 1, "id": self._random(16).hex(), "at": at, "prev": prev}

    def _write(self, entry: Entry) -> None:
        document = credit.sealed(entry).document()
        self._entries.insert(document)
        self.storage.undo_with(self._index.add(document))

    def _open_record(self, mail_key: str) -> Mapping[str, Any] | None:
        document = self._records.document(self._record_keys.get(mail_key, 0))
        return None if document is None or self._expired(document) else document

    def _expired(self, document: Mapping[str, Any]) -> bool:
        return self._clock() - credit.moment(document["created"]) >= RECORD_LIFE

    def _forget(self, mail_key: str) -> None:
        key = self._record_keys.get(mail_key)
        if key is not None:
            self._records.drop(key)
            del self._record_keys[mail_key]
            self.storage.undo_with(lambda: self._record_keys.__setitem__(mail_key, key))

    def _sweep(self) -> None:
        """Forget expired records, oldest first: `_record_keys` is in the order of creation."""
        for mail_key in list(takewhile(self._has_expired, self._record_keys)):
            if mail_key not in self._claimed:
                self._forget(mail_key)

    def _has_expired(self, mail_key: str) -> bool:
        document = self._records.document(self._record_keys[mail_key])
        return document is None or self._expired(document)


def _plain(record: Record) -> dict[str, Any]:
    return {
        "deferrals": record.deferrals,
        "recipients": [
            {
                "forward_path": each.forward_path,
                "status": each.status,
                "spliced": each.spliced,
                # latin-1: every byte of a reply's line is one character of JSON
                "refusal": [each.refusal.code, *(line.decode("latin-1") for line in each.refusal.lines)]
                if each.refusal
                else None,
                "reported": each.reported,
            }
            for each in record.recipients
        ],
    }


def _record(document: Mapping[str, Any]) -> Record:
    recipients = tuple(
        RecipientRecord(
            forward_path=each["forward_path"],
            status=each["status"],
            spliced=each["spliced"],
            refusal=Reply(each["refusal"][0], tuple(line.encode("latin-1") for line in each["refusal"][1:]))
            if each["refusal"]
            else None,
            reported=each["reported"],
        )
        for each in document["recipients"]
    )
    return Record(recipients, document["deferrals"])
