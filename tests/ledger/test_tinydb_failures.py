"""The embedded ledger when the disk, the process or another one fails it; and what many entries cost."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from relay_mta.core import credit
from relay_mta.core.errors import LedgerError
from relay_mta.core.record import Record
from relay_mta.ledger.tinydb import TinyLedger, read
from tests.ledger.contract import TWO, candidacy
from tests.ledger.faults import failing

ROOT = Path(__file__).resolve().parents[2]


# --- one process ----------------------------------------------------------------------------------------------------


def test_a_second_process_is_turned_away(tmp_path: Path) -> None:
    code = "import sys, pathlib; from relay_mta.ledger.tinydb import TinyLedger\n"
    code += "ledger = TinyLedger(pathlib.Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(LedgerError, match=f"already in use by process {other.pid}$"):
            TinyLedger(tmp_path)
        other.stdin.close()
    TinyLedger(tmp_path).storage.close()


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "number"), [("write", errno.ENOSPC), ("fdatasync", errno.EIO), ("fdatasync", errno.ENOSPC)]
)
async def test_what_is_not_durable_is_not_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    ledger = TinyLedger(tmp_path)
    first = await ledger.hold(candidacy("m1"))
    released = await ledger.hold(candidacy("m1", "jiro"))
    await ledger.release(released, "x")
    for mail_key in ("k", "open"):
        await ledger.claim(mail_key)
    await ledger.record("open", TWO)
    before = memory(ledger)
    with monkeypatch.context() as patch:
        failing(call, number, patch)
        for attempt in (
            ledger.hold(candidacy("m2")),
            ledger.hold(candidacy("m1", "hanako")),
            ledger.hold(candidacy("m1", "jiro")),
            ledger.hold(candidacy(company="beta")),
            ledger.settle(first),
            ledger.settle(released),
            ledger.release(first, "x"),
            ledger.advance(first.relay, "reversed"),
            ledger.record("k", TWO),
            ledger.record("open", Record(())),
            ledger.close_record("open"),
            ledger.suppress(first.token),
        ):
            with pytest.raises(LedgerError, match=os.strerror(number)) as caught:
                await attempt
            assert "\n" not in str(caught.value)
            assert memory(ledger) == before
        assert (await ledger.hold(candidacy("m1"))).relay == first.relay, "what is durable needs no write"
        assert len(await ledger.entries()) == 3
    await ledger.settle(first)
    assert await ledger.pending("open")
    second = await ledger.hold(candidacy("m2"))
    assert second.token == first.token
    entries = await ledger.entries()
    assert [entry.kind for entry in entries] == ["held", "held", "released", "relayed", "held"]
    assert credit.verify(entries) == ()
    after = memory(ledger)
    await ledger.storage.finish()
    ledger = TinyLedger(tmp_path)
    assert ledger.storage.torn == 0
    assert memory(ledger) == after, "what is in memory is what a reopening reads"
    await ledger.close()


def memory(ledger: TinyLedger) -> str:
    """All that the ledger knows, and looks up by; an empty list of a look-up is no knowledge."""
    index = {
        name: {key: value for key, value in table.items() if value not in ([], (0, ""))}
        for name, table in vars(ledger._index).items()
    }
    tables = {name: rows for name, rows in ledger.storage.read().items() if rows and name != "meta"}
    known = sorted(tables.items()), index, ledger._personal_keys, sorted(ledger._record_keys.items())
    return re.sub("object at 0x[0-9a-f]+", "", repr(known))


async def test_all_who_wait_on_a_failed_batch_and_above_it_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = TinyLedger(tmp_path)
    held = await ledger.hold(candidacy("m0"))
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(fd: int) -> None:
        loop.call_soon_threadsafe(started.set)
        time.sleep(0.2)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", slowly)
        flying = [asyncio.create_task(ledger.hold(candidacy("m1", f"c{number}"))) for number in range(3)]
        await started.wait()
        above = [asyncio.create_task(ledger.hold(candidacy("m2", f"c{number}"))) for number in range(3)]
        above.append(asyncio.create_task(ledger.hold(candidacy("m1", "c0"))))
        above.append(asyncio.create_task(ledger.settle(held)))
        results = await asyncio.gather(*flying, *above, return_exceptions=True)
    assert [type(result) for result in results] == [LedgerError] * 8
    assert len(await ledger.entries()) == 1
    assert [(await ledger.hold(candidacy("m1", "c0"))).state, (await ledger.hold(candidacy("m0"))).state] == [
        "held"
    ] * 2
    assert credit.verify(await ledger.entries()) == ()
    await ledger.close()


async def test_a_compaction_waits_for_what_is_not_durable_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its snapshot must not hold what a failing batch takes back; what is staged above goes to the new journal."""
    ledger = TinyLedger(tmp_path)
    first = await ledger.hold(candidacy("m0"))
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(fd: int) -> None:
        loop.call_soon_threadsafe(started.set)
        time.sleep(0.1)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", slowly)
        flying = asyncio.create_task(ledger.hold(candidacy("m1", "c1")))
        await started.wait()
        staged = asyncio.create_task(ledger.hold(candidacy("m1", "c2")))
        await asyncio.sleep(0)
        assert [entry.relay for entry in await ledger.entries()] == [first.relay], "what is not durable is not shown"
        await ledger.compact()
        results = await asyncio.gather(flying, staged, return_exceptions=True)
    assert [type(result) for result in results] == [LedgerError] * 2
    assert [entry.relay for entry in read(tmp_path).entries] == [first.relay]
    await ledger.hold(candidacy("m1", "c1"))
    assert read(tmp_path).entries == tuple(await ledger.entries())
    await ledger.close()


async def test_what_is_written_during_a_compaction_is_there(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path)
    await asyncio.gather(*(ledger.hold(candidacy("m", f"c{number}")) for number in range(300)))
    compacting = asyncio.create_task(ledger.compact())
    number = 300
    while not compacting.done():
        await ledger.hold(candidacy("m", f"c{number}"))
        number += 1
    await compacting
    await ledger.storage.finish()
    assert len(read(tmp_path).entries) == number
    assert credit.verify(read(tmp_path).entries) == ()


async def test_a_compaction_stands_between_two_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is being written when it is asked for, the next waits already: the snapshot has the first alone."""
    ledger = TinyLedger(tmp_path)
    started, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slowly(fd: int) -> None:
        loop.call_soon_threadsafe(started.set)
        assert go_on.wait(10)

    monkeypatch.setattr(os, "fdatasync", slowly)
    flying = asyncio.create_task(ledger.hold(candidacy("m", "c1")))
    await started.wait()
    staged = asyncio.create_task(ledger.hold(candidacy("m", "c2")))
    compacting = asyncio.create_task(ledger.compact())
    await asyncio.sleep(0)
    go_on.set()
    first, second, _ = await asyncio.gather(flying, staged, compacting)
    snapshot = json.loads((tmp_path / "ledger" / "ledger.json").read_bytes())
    assert [entry["relay"] for entry in snapshot["entries"].values()] == [first.relay]
    assert [entry.relay for entry in read(tmp_path).entries] == [first.relay, second.relay]
    await ledger.close()


async def test_compactions_among_busy_writers_lose_nothing(tmp_path: Path) -> None:
    """Each begins between two batches, however busy it is, and none is put off for ever."""
    ledger = TinyLedger(tmp_path)

    async def write(worker: int) -> None:
        for number in range(30):
            held = await ledger.hold(candidacy(f"m{number}", f"c{worker}"))
            acknowledged.add(held.relay)
            await ledger.settle(held)

    acknowledged: set[str] = set()
    writers = asyncio.gather(*(write(worker) for worker in range(4)))
    compactions = 0
    while not writers.done():
        await ledger.compact()
        compactions += 1
        entries = read(tmp_path).entries
        assert acknowledged <= {entry.relay for entry in entries}
        assert credit.verify(entries) == ()
        await asyncio.sleep(0.001)
    await writers
    assert compactions > 2
    in_memory = await ledger.entries()
    await ledger.storage.finish()
    assert len(in_memory) == 4 * 30 * 2
    assert read(tmp_path).entries == tuple(in_memory)


async def test_one_fdatasync_serves_everyone_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = TinyLedger(tmp_path)
    calls = []
    really = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (calls.append(fd), really(fd)))
    await asyncio.gather(*(ledger.hold(candidacy("m", f"c{number}")) for number in range(200)))
    assert len(calls) == 1
    await ledger.close()


async def test_the_loop_is_free_while_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = TinyLedger(tmp_path)
    loop, started, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def slowly(fd: int) -> None:
        loop.call_soon_threadsafe(started.set)
        assert go_on.wait(10), "the loop stood still"

    monkeypatch.setattr(os, "fdatasync", slowly)
    task = asyncio.create_task(ledger.hold(candidacy()))
    await started.wait()
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert not task.done()
    go_on.set()
    await task
    await ledger.close()


async def test_a_compaction_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = TinyLedger(tmp_path)
    held = await ledger.hold(candidacy())
    with monkeypatch.context() as patch:
        failing("fsync", errno.ENOSPC, patch)
        with pytest.raises(LedgerError, match="cannot compact"):
            await ledger.compact()
        await ledger.settle(held)
        await ledger.close()
    assert sorted(path.name for path in (tmp_path / "ledger").iterdir() if path.name.startswith("ledger.json")) == [
        "ledger.json"
    ]
    assert [entry.kind for entry in read(tmp_path).entries] == ["held", "relayed"]
    ledger = TinyLedger(tmp_path)
    assert [entry.kind for entry in await ledger.entries()] == ["held", "relayed"]
    await ledger.close()


@pytest.mark.parametrize("table", ["entries", "personal", "records"])
async def test_documents_that_make_no_sense_are_named(tmp_path: Path, table: str) -> None:
    ledger = TinyLedger(tmp_path)
    await ledger.hold(candidacy())
    await ledger.close()
    path = tmp_path / "ledger" / "ledger.json"
    tables = json.loads(path.read_bytes())
    tables.setdefault(table, {})["9"] = {"company": "acme"}
    path.write_text(json.dumps(tables))
    raw = path.read_bytes()
    with pytest.raises(LedgerError, match=f"is damaged at {table} 9: '.*' is missing"):
        TinyLedger(tmp_path)
    assert path.read_bytes() == raw


async def test_a_dropped_entry_is_found_at_opening(tmp_path: Path) -> None:
    ledger = TinyLedger(tmp_path)
    for number in range(3):
        await ledger.hold(candidacy("m", f"c{number}"))
    await ledger.close()
    path = tmp_path / "ledger" / "ledger.json"
    tables = json.loads(path.read_bytes())
    del tables["entries"]["2"]
    path.write_text(json.dumps(tables))
    with pytest.raises(LedgerError, match="is damaged at entries 3: it does not follow the entry before it"):
        TinyLedger(tmp_path)


# --- kill -9 --------------------------------------------------------------------------------------------------------

HOLDER = """
import asyncio, pathlib, sys
from relay_mta.ledger.tinydb import TinyLedger
from tests.ledger.faults import failing
from tests.ledger.contract import candidacy

async def main():
    ledger = TinyLedger(pathlib.Path(sys.argv[1]))
    async def one(worker):
        number = 0
        while True:
            held = await ledger.hold(candidacy(f"{sys.argv[2]}-{worker}-{number}", f"c{sys.argv[2]}-{worker}-{number}"))
            print(held.relay, held.token, flush=True)
            if number % 2:
                await ledger.settle(held)
                print(held.relay, "settled", flush=True)
            number += 1
            if worker == 0 and number % 40 == 0:
                await ledger.compact()
    await asyncio.gather(*(one(worker) for worker in range(4)))
asyncio.run(main())
"""


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    settled: set[str] = set()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for round_ in range(10):
        command = [sys.executable, "-c", HOLDER, str(tmp_path), str(round_)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as holder:
            assert holder.stdout is not None
            said = [holder.stdout.readline() for _ in range(20 + 37 * round_)]
            holder.kill()
            said += holder.stdout.read().splitlines(keepends=True)
        for line in said:
            if line.endswith(b"\n"):
                relay, token = line.decode().split()
                if token == "settled":
                    settled.add(relay)
                else:
                    acknowledged[relay] = token
        ledger = TinyLedger(tmp_path)
        entries = asyncio.run(ledger.entries())
        ledger.storage.close()
        assert credit.verify(entries) == ()
        stored = {entry.relay: entry.token for entry in entries if entry.kind == "held"}
        assert acknowledged.items() <= stored.items()
        assert settled <= {entry.relay for entry in entries if entry.kind == "relayed"}
    assert len(acknowledged) > 1000


# --- size -----------------------------------------------------------------------------------------------------------


async def test_a_hold_costs_the_same_among_many(tmp_path: Path) -> None:
    """Generous bounds; TinyDB's own insert would be about 50 ms here."""
    ledger = TinyLedger(tmp_path)
    for batch in range(10):
        await asyncio.gather(*(ledger.hold(candidacy("m", f"c{batch}-{number}")) for number in range(1000)))
    begun = time.process_time()
    for number in range(100):
        await ledger.hold(candidacy("n", f"d{number}"))
    assert (time.process_time() - begun) / 100 < 0.005
    await ledger.close()
