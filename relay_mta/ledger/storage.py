"""TinyDB over the journal: tables whose writes cost what they change, durable by group commit, undone when they fail.

A write has two halves. `stage` changes the tables in memory at once, on the event loop, and notes how to undo that;
`durable` waits until all that is staged so far is on the disk. While one batch is being fsynced in the storage's own
thread, the next gathers: one fdatasync serves everyone who waited. If a batch fails, it and all that was staged upon it
are undone, newest first, and everyone who waits gets `LedgerError`: memory never keeps what the disk has not.

TinyDB's own write path rebuilds a table for every change; it is closed here (`Table._update_table` raises), so that
`update`, `upsert`, `truncate` … fail loudly instead of being slow or not durable. What we use of TinyDB 4.9.0 that is
private stands in tests/ledger/test_tinydb.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, cast

from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Table

from relay_mta.core.errors import LedgerError
from relay_mta.ledger.journal import Document, Journal, Tables, encode_change, interned

Undo = Callable[[], object]


@dataclass(eq=False, slots=True)
class _Batch:
    """Changes that become durable, or are undone, together.

    `before` is what stood in each changed place before the batch; `done` resolves to the trouble, "" if there was none.
    """

    changes: list[bytes] = field(default_factory=list)
    before: dict[tuple[str, str], Document | None] = field(default_factory=dict)
    undo: list[Undo] = field(default_factory=list)
    done: asyncio.Future[str] | None = None

    def take_back(self, tables: Tables) -> None:
        """Set the tables back to what they were before this batch; the newest batch goes first."""
        for (table, key), before in self.before.items():
            if before is None:
                tables[table].pop(key, None)
            else:
                tables[table][key] = before

    def finish(self, trouble: str) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(trouble)


class JournalStorage(Storage):
    """The tables of one ledger, in memory and in its `Journal`. For one event loop; `stage` and `undo_with` never wait.

    `failing`: the last batch could not be made durable (a full disk), and was undone.

    Raises `LedgerError` as `Journal` does.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._journal = Journal(directory)
        self._tables = self._journal.tables
        self._staged = _Batch()
        self._flying: _Batch | None = None
        self._compactions: list[asyncio.Future[asyncio.Future[None]]] = []
        self._due = False
        self._closed = False
        self.failing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")

    @property
    def torn(self) -> int:
        """The bytes of an unacknowledged batch that were cut off the journal's end when it was opened."""
        return self._journal.torn

    @property
    def broken(self) -> bool:
        """The journal could not be brought back to its last good byte yet."""
        return self._journal.broken

    @property
    def size(self) -> int:
        """The bytes of the journal: what came after the snapshot."""
        return self._journal.size

    def read(self) -> dict[str, dict[str, Any]]:
        """The tables; only `stage` may change them."""
        # TinyDB wants a dict, but only looks things up; the proxy stops `drop_table` and `_update_table`.
        return cast("dict[str, dict[str, Any]]", MappingProxyType(self._tables))

    def write(self, data: dict[str, dict[str, Any]]) -> NoReturn:
        """Not here: the ledger is not rewritten."""
        raise NotImplementedError("the ledger's tables are changed by insert, put and drop only")

    def stage(self, table: str, key: str, document: Mapping[str, Any] | None) -> None:
        """Set a document, or delete it (None), in memory and in the next batch. Its values must be JSON's.

        Raises `LedgerError` once the ledger is closed.
        """
        self._refuse_closed()
        change = encode_change(table, key, document)
        rows = self._tables.setdefault(table, {})
        before = rows.get(key)
        if document is None:
            rows.pop(key, None)
        else:
            rows[key] = interned(json.loads(change)[2])  # a copy, and just what a reopening would read
        self._staged.changes.append(change)
        self._staged.before.setdefault((table, key), before)

    def undo_with(self, undo: Undo) -> None:
        """What must be undone, too, if what was staged last cannot be made durable (an index)."""
        self._staged.undo.append(undo)

    async def durable(self) -> None:
        """Wait until all that is staged is durable; raises `LedgerError` if it is not and was undone.

        A cancelled waiter leaves the batch as it is.
        """
        batch = self._staged if self._staged.changes else self._flying
        if batch is None:
            return
        loop = asyncio.get_running_loop()
        if batch.done is None:
            batch.done = loop.create_future()
        if self._flying is None and not self._due:
            self._due = True
            loop.call_soon(self._launch, loop)  # not at once: everyone who is ready now goes along
        trouble = await asyncio.shield(batch.done)
        if trouble:
            raise LedgerError(trouble)

    def durable_tables(self) -> Tables:
        """A copy of the tables without what is still on its way to the disk. The documents are not to be changed."""
        tables = {name: dict(rows) for name, rows in self._tables.items()}
        self._staged.take_back(tables)
        if self._flying is not None:
            self._flying.take_back(tables)
        return tables

    async def compact(self) -> None:
        """Write a new snapshot and begin a new journal; other writes wait meanwhile. Raises `LedgerError`."""
        self._refuse_closed()
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[asyncio.Future[None]] = loop.create_future()
        self._compactions.append(begun)
        if self._flying is None:
            self._begin_compactions(loop)
        await (await begun)

    async def finish(self) -> None:
        """Take no more, wait for what is staged, and close. Idempotent."""
        self._closed = True
        while self._staged.changes or self._flying is not None:
            with contextlib.suppress(LedgerError):  # its writers are told
                await self.durable()
        self.close()

    def close(self) -> None:
        """Close at once, after the batch that is being written. Idempotent."""
        self._closed = True
        self._thread.shutdown(wait=True)
        self._journal.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LedgerError(f"the ledger {self._journal.directory} is closed")

    def _launch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = False
        if self._flying is not None or not self._staged.changes:
            return
        batch, self._staged = self._staged, _Batch()
        self._flying = batch
        # A plain future, no task: what is being written is not cancelled with whoever waits for it.
        write = loop.run_in_executor(self._thread, self._append, batch.changes)
        write.add_done_callback(lambda done: self._landed(loop, batch, done.result()))

    def _begin_compactions(self, loop: asyncio.AbstractEventLoop) -> None:
        """Between two batches: the old journal is done with, and the next batch goes to the new one, as the storage's
        one thread does one thing after the other."""
        for begun in self._compactions:
            if not begun.done():
                begun.set_result(loop.run_in_executor(self._thread, self._journal.compact, self.durable_tables()))
        self._compactions.clear()

    def _append(self, changes: list[bytes]) -> str:
        try:
            self._journal.append(changes)
        except Exception as error:  # whatever it was, nobody may be told that it is durable
            return str(error) or type(error).__name__
        return ""

    def _landed(self, loop: asyncio.AbstractEventLoop, batch: _Batch, trouble: str) -> None:
        self._flying = None
        self.failing = bool(trouble)
        if trouble:
            above, self._staged = self._staged, _Batch()
            for undone in (above, batch):
                undone.take_back(self._tables)
                for undo in reversed(undone.undo):
                    undo()
            above.finish(trouble)
        batch.finish(trouble)
        self._begin_compactions(loop)
        self._launch(loop)


class JournalTable(Table):
    """A TinyDB table whose writes are staged, each in constant time. All reading is TinyDB's."""

    def __init__(self, storage: JournalStorage, name: str, **options: Any) -> None:
        super().__init__(storage, name, **options)
        self._journal_storage = storage

    def insert(self, document: Mapping[str, Any]) -> int:
        """Stage a new document under the next free id, which is returned."""
        key: int = self._get_next_id()  # type: ignore[no-untyped-call]  # TinyDB leaves it untyped
        self.put(key, document)
        return key

    def put(self, key: int, document: Mapping[str, Any]) -> None:
        """Stage a document under an id, new or not."""
        self._journal_storage.stage(self.name, str(key), document)
        self.clear_cache()
        self._journal_storage.undo_with(self.clear_cache)

    def drop(self, key: int) -> None:
        """Stage the deletion of a document."""
        self._journal_storage.stage(self.name, str(key), None)
        self.clear_cache()
        self._journal_storage.undo_with(self.clear_cache)

    def document(self, key: int) -> Mapping[str, Any] | None:
        """One document by its id, not to be changed; in constant time, without a copy."""
        return self._read_table().get(str(key))

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Every document with its id, oldest first, not to be changed."""
        return ((int(key), document) for key, document in self._read_table().items())

    def _update_table(self, updater: Callable[[dict[int, Mapping[str, Any]]], None]) -> NoReturn:
        raise NotImplementedError("the ledger's tables are changed by insert, put and drop only")


class JournalDatabase(TinyDB):
    """A TinyDB on a `JournalStorage`."""

    table_class = JournalTable  # type: ignore[assignment]  # TinyDB: `Table`, inferred; any subclass is meant

    def __init__(self, storage: JournalStorage) -> None:
        super().__init__(storage=lambda: storage)
        self.journal_storage = storage

    def journal_table(self, name: str) -> JournalTable:
        """As `TinyDB.table`, with its type."""
        return cast(JournalTable, self.table(name))
