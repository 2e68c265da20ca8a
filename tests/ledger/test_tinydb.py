"""The embedded ledger: the common contract, its files, its failures, and what it relies on of TinyDB."""

from __future__ import annotations

import asyncio
import errno
import inspect
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import tinydb
from tinydb.storages import MemoryStorage, Storage
from tinydb.table import Table

from relay_mta.core import credit
from relay_mta.core.errors import LedgerError
from relay_mta.core.ports import Ledger
from relay_mta.ledger import journal
from relay_mta.ledger.storage import JournalDatabase, JournalStorage
from relay_mta.ledger.tinydb import Personal, TinyLedger, read
from tests.ledger.contract import TWO, Clock, LedgerContract, candidacy
from tests.ledger.faults import failing

ROOT = Path(__file__).resolve().parents[2]


class TestTinyLedger(LedgerContract):
    data_dir: Path

    @pytest.fixture
    def place(self, tmp_path: Path) -> None:
        self.data_dir = tmp_path / "var"

    async def open(self) -> TinyLedger:
        return TinyLedger(self.data_dir, clock=self.clock)


class TestTinyLedgerKilled(TestTinyLedger):
    """The same without an orderly close: all comes back from the journal alone."""

    async def close(self, ledger: Any) -> None:
        await ledger.storage.finish()


def test_it_fulfils_the_protocol(tmp_path: Path) -> None:
    ledger: Ledger = TinyLedger(tmp_path)
    promised = [name for name in dir(Ledger) if not name.startswith("_")]
    assert [name for name in promised if not callable(getattr(ledger, name, None))] == []
    for name in promised:
        assert inspect.signature(getattr(TinyLedger, name)) == inspect.signature(getattr(Ledger, name))


# --- files ----------------------------------------------------------------------------------------------------------


async def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path / "var")
    await ledger.hold(candidacy())
    await ledger.compact()
    await ledger.hold(candidacy("m2"))
    folder = tmp_path / "var" / "ledger"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert files == {"lock": 0o600, "ledger.json": 0o600, "journal.2": 0o600}
    await ledger.close()


async def test_the_snapshot_is_plain_tinydb_json(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path)
    held = await ledger.hold(candidacy())
    await ledger.settle(held)
    await ledger.close()
    with tinydb.TinyDB(tmp_path / "ledger" / "ledger.json", access_mode="r") as database:
        assert database.tables() == {"meta", "entries", "personal"}
        assert [entry["kind"] for entry in database.table("entries").all()] == ["held", "relayed"]
        personal = database.table("personal").get(tinydb.where("relay") == held.relay)
        assert isinstance(personal, tinydb.table.Document)
        assert personal["address"] == "taro@candidate.example"


async def test_deleted_forward_paths_leave_the_disk(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path)
    await ledger.claim("k")
    await ledger.record("k", TWO)
    assert b"hanako@candidate.example" in b"".join(path.read_bytes() for path in (tmp_path / "ledger").iterdir())
    await ledger.close_record("k")
    await ledger.compact()
    assert b"hanako@candidate.example" not in b"".join(path.read_bytes() for path in (tmp_path / "ledger").iterdir())
    await ledger.close()


async def test_expired_records_are_swept(tmp_path: Path) -> None:
    clock = Clock()
    ledger = TinyLedger(tmp_path, clock=clock)
    for number in range(3):
        await ledger.claim(f"k{number}")
        await ledger.record(f"k{number}", TWO)
    ledger.unclaim("k1")
    ledger.unclaim("k2")
    clock.forward(days=5)
    await ledger.claim("new")
    await ledger.record("new", TWO)
    await ledger.storage.finish()
    kept = [row["mail_key"] for row in journal.read(tmp_path / "ledger").tables["records"].values()]
    assert kept == ["k0", "new"], "what is claimed stays, what expired unclaimed went along with the next write"


async def test_the_personal_record_is_what_was_committed_to(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path)
    held = await ledger.hold(candidacy())
    reading = read(tmp_path)
    personal = reading.personal[held.relay]
    assert personal == Personal(
        held.relay, personal.salt, "taro@candidate.example", "hr@acme.example", "<m1@acme.example>", "ja"
    )
    assert personal.commitment() == reading.entries[0].commitment
    assert len(personal.salt) == 32
    await ledger.close()


async def test_an_erased_relay_leads_nowhere_and_its_chain_is_whole(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path)
    held = await ledger.hold(candidacy())
    await ledger.close()
    path = tmp_path / "ledger" / "ledger.json"
    tables = json.loads(path.read_bytes())
    tables["personal"].clear()
    path.write_text(json.dumps(tables))
    ledger = TinyLedger(tmp_path)
    assert await ledger.by_token(held.token) is None
    assert credit.verify(await ledger.entries()) == ()
    await ledger.release(held, "x")
    assert await ledger.hold(candidacy()) == held, "a mail that comes again is recorded anew"
    target = await ledger.by_token(held.token)
    assert target is not None and target.relay == held.relay
    entries = await ledger.entries()
    assert entries[2].commitment == read(tmp_path).personal[held.relay].commitment() != entries[0].commitment
    await ledger.close()


# --- readers --------------------------------------------------------------------------------------------------------


async def test_readers_need_no_lock_and_change_nothing(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path)
    await ledger.hold(candidacy())
    await ledger.hold(candidacy(company="beta"))
    folder = tmp_path / "ledger"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    folder.chmod(0o500)
    try:
        assert [entry.company for entry in read(tmp_path).entries] == ["acme", "beta"]
        found = read(tmp_path, "beta")
    finally:
        folder.chmod(0o700)
    assert [entry.company for entry in found.entries] == ["beta"]
    assert [personal.relay for personal in found.personal.values()] == [found.entries[0].relay]
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
    await ledger.close()


def test_reading_where_there_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger in"):
        read(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_compaction_between_a_readers_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal that belongs to the snapshot it read is gone by then."""
    ledger = TinyLedger(tmp_path)
    await ledger.hold(candidacy())
    really, compactions = journal._snapshot, 0

    def overtaken(directory: Path) -> journal.Tables:
        nonlocal compactions
        tables = really(directory)
        if compactions < 2:
            compactions += 1
            ledger.storage._journal.compact(ledger.storage.read())
        return tables

    monkeypatch.setattr(journal, "_snapshot", overtaken)
    assert len(read(tmp_path).entries) == 1
    assert compactions == 2
    await ledger.close()


async def test_reading_while_it_is_written_and_compacted(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path)
    done = asyncio.Event()
    seen: list[int] = []

    def reading() -> None:
        while not done.is_set():
            entries = read(tmp_path).entries
            assert credit.verify(entries) == ()
            seen.append(len(entries))

    reader = asyncio.create_task(asyncio.to_thread(reading))
    acknowledged = 0
    for number in range(60):
        await ledger.hold(candidacy("m", f"c{number}"))
        acknowledged += 1
        if number % 3 == 0:
            await ledger.compact()
    done.set()
    await reader
    assert seen == sorted(seen)
    assert len(read(tmp_path).entries) == acknowledged
    await ledger.close()


# --- what we rely on of TinyDB --------------------------------------------------------------------------------------


def test_tinydb_is_the_version_that_was_read() -> None:
    assert tinydb.__version__ == "4.9.0"


def test_the_signatures_that_we_override() -> None:
    assert list(inspect.signature(Table.__init__).parameters) == [
        "self",
        "storage",
        "name",
        "cache_size",
        "persist_empty",
    ]
    assert list(inspect.signature(Table.insert).parameters) == ["self", "document"]
    assert list(inspect.signature(Table._update_table).parameters) == ["self", "updater"]
    assert list(inspect.signature(Table._get_next_id).parameters) == ["self"]
    assert list(inspect.signature(Table._read_table).parameters) == ["self"]
    assert {"read", "write", "close"} <= set(dir(Storage))


def test_a_database_asks_its_class_for_tables_and_any_callable_for_its_storage() -> None:
    class Own(Table):
        pass

    class Database(tinydb.TinyDB):
        table_class = Own

    storage = MemoryStorage()
    database = Database(storage=lambda: storage)
    assert database.storage is storage
    assert type(database.table("t")) is Own
    assert database.table("t") is database.table("t")


def test_tables_are_read_from_the_storage_each_time_with_string_ids() -> None:
    storage = MemoryStorage()
    table = Table(storage, "t")
    assert table._read_table() == {}
    storage.memory = {"t": {"7": {"a": 1}}}
    assert table._read_table() is storage.memory["t"], "no copy: reading costs nothing"
    found = table.get(doc_id=7)
    assert isinstance(found, tinydb.table.Document)
    assert (found, found.doc_id) == ({"a": 1}, 7)


def test_ids_count_on_from_the_highest_without_looking_again() -> None:
    storage = MemoryStorage()
    storage.memory = {"t": {"7": {}, "3": {}}}
    table = Table(storage, "t")
    assert table._get_next_id() == 8
    storage.memory["t"]["20"] = {}
    assert table._get_next_id() == 9


WRITES = {
    "update": lambda table: table.update({"a": 2}),
    "upsert": lambda table: table.upsert({"a": 2}, tinydb.where("a") == 1),
    "remove": lambda table: table.remove(doc_ids=[1]),
    "truncate": lambda table: table.truncate(),
    "insert_multiple": lambda table: table.insert_multiple([{"a": 2}]),
    "update_multiple": lambda table: table.update_multiple([({"a": 2}, tinydb.where("a") == 1)]),
}


def test_every_write_of_tinydb_is_known_here() -> None:
    """A new one would need a look: does it go through `_update_table`?"""
    public = {name for name, member in vars(Table).items() if callable(member) and not name.startswith("_")}
    reading = {"all", "search", "get", "contains", "count", "clear_cache"}
    assert public - {"document_class", "document_id_class", "query_cache_class"} == reading | {"insert"} | WRITES.keys()


@pytest.mark.parametrize("name", WRITES)
async def test_tinydbs_own_writes_are_closed(tmp_path: Path, name: str) -> None:
    storage = JournalStorage(tmp_path)
    table = JournalDatabase(storage).journal_table("t")
    table.insert({"a": 1})
    await storage.durable()
    with pytest.raises(NotImplementedError):
        WRITES[name](table)
    assert table.all() == [{"a": 1}]
    await storage.finish()


async def test_tables_cannot_be_dropped(tmp_path: Path) -> None:
    storage = JournalStorage(tmp_path)
    database = JournalDatabase(storage)
    database.journal_table("t").insert({"a": 1})
    await storage.durable()
    with pytest.raises(TypeError):
        database.drop_table("t")
    with pytest.raises(NotImplementedError):
        database.drop_tables()
    assert database.table("t").all() == [{"a": 1}]
    await storage.finish()


async def test_queries_see_what_was_staged_and_what_was_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = JournalStorage(tmp_path)
    table = JournalDatabase(storage).journal_table("t")
    key = table.insert({"a": 1})
    query = tinydb.where("a") == 1
    assert table.search(query) == [{"a": 1}]
    await storage.durable()
    with monkeypatch.context() as patch:
        failing("fdatasync", errno.EIO, patch)
        table.put(key, {"a": 2})
        assert table.search(query) == []
        with pytest.raises(LedgerError):
            await storage.durable()
    assert table.search(query) == [{"a": 1}]
    assert table.insert({"a": 3}) == key + 1
    table.drop(key)
    await storage.durable()
    assert [(document.doc_id, document) for document in table] == [(key + 1, {"a": 3})]
    await storage.finish()
