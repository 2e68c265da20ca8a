"""The journal's files: what a crash, a bad disk, a full disk and another hand may do to them."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from relay_mta.core.errors import LedgerError
from relay_mta.ledger import journal
from relay_mta.ledger.journal import Journal, encode_change
from tests.ledger.faults import failing


def batch(*changes: tuple[str, int, dict[str, Any] | None]) -> list[bytes]:
    return [encode_change(table, str(key), document) for table, key, document in changes]


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    tables = journal.read(folder).tables
    return {name: table for name, table in tables.items() if name != "meta"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def three(folder: Path) -> Path:
    """Three batches, closed; returns the journal file."""
    log = Journal(folder)
    log.append(batch(("t", 1, {"a": 1}), ("t", 2, {"a": "あ\ud800\n"})))
    log.append(batch(("t", 1, None), ("u", 1, {"b": [1, {"c": None}]})))
    log.append(batch(("t", 3, {"a": 3})))
    log.close()
    return log.path


ALL = {"t": {"2": {"a": "あ\ud800\n"}, "3": {"a": 3}}, "u": {"1": {"b": [1, {"c": None}]}}}
PREFIXES: list[dict[str, Any]] = [
    {},
    {"t": {"1": {"a": 1}, "2": {"a": "あ\ud800\n"}}},
    {"t": {"2": {"a": "あ\ud800\n"}}, "u": {"1": {"b": [1, {"c": None}]}}},
    ALL,
]


def test_what_is_appended_is_read_again(folder: Path, three: Path) -> None:
    assert rows(folder) == ALL
    log = Journal(folder)
    assert {name: table for name, table in log.tables.items() if name != "meta"} == ALL
    assert (log.torn, log.broken, log.size) == (0, False, three.stat().st_size)
    log.append(batch(("t", 4, {"a": 4})))
    log.close()
    assert rows(folder)["t"]["4"] == {"a": 4}


# --- torn and damaged -----------------------------------------------------------------------------------------------


def test_a_torn_tail_is_cut_at_any_byte(folder: Path, three: Path) -> None:
    raw = three.read_bytes()
    ends = [0, *(place + 1 for place, byte in enumerate(raw) if byte == ord("\n"))]
    for size in range(len(raw)):
        three.write_bytes(raw[:size])
        whole = max(end for end in ends if end <= size)
        found = journal.read(folder)
        assert (found.size, found.torn) == (whole, size - whole)
        assert three.stat().st_size == size, "a reader changes nothing"
        log = Journal(folder)
        assert log.torn == size - whole
        assert {name: table for name, table in log.tables.items() if name != "meta"} == PREFIXES[ends.index(whole)]
        assert three.stat().st_size == whole
        log.append(batch(("t", 9, {"a": 9})))
        log.close()
        assert rows(folder)["t"]["9"] == {"a": 9}


@pytest.mark.parametrize("tail", [b"\0" * 512, b"\0" * 100 + b"\n", b"garbage\n", b"00000000 [4,[]]\n", b"\n\n\n"])
def test_a_tail_that_was_never_acknowledged_is_cut(folder: Path, three: Path, tail: bytes) -> None:
    size = three.stat().st_size
    with three.open("ab") as file:
        file.write(tail)
    log = Journal(folder)
    assert log.torn == len(tail)
    log.close()
    assert three.stat().st_size == size
    assert rows(folder) == ALL


def test_damage_before_the_last_line_is_named_and_left(folder: Path, three: Path) -> None:
    raw = three.read_bytes()
    starts = [0, *(place + 1 for place, byte in enumerate(raw) if byte == ord("\n"))][:-1]
    # The line end before the last line is left out: without it the last two look like one that was torn.
    for place in range(0, starts[-1] - 1, 3):
        damaged = bytearray(raw)
        damaged[place] ^= 0x20
        three.write_bytes(damaged)
        line = max(start for start in starts if start <= place)
        for opening in (Journal, journal.read):
            with pytest.raises(LedgerError) as caught:
                opening(folder)
            assert f"{three} is damaged at byte {line}" in str(caught.value)
        assert three.read_bytes() == damaged
    three.write_bytes(raw)
    Journal(folder).close()


@pytest.mark.parametrize("line", [0, 1])
def test_a_line_taken_out_is_damage(folder: Path, three: Path, line: int) -> None:
    lines = three.read_bytes().splitlines(keepends=True)
    three.write_bytes(b"".join(lines[:line] + lines[line + 1 :]))
    with pytest.raises(LedgerError, match=f"is damaged at byte {sum(map(len, lines[:line]))}:"):
        Journal(folder)


def test_a_line_given_twice_is_damage(folder: Path, three: Path) -> None:
    lines = three.read_bytes().splitlines(keepends=True)
    three.write_bytes(b"".join([*lines, lines[-1]]))
    with pytest.raises(LedgerError, match="is damaged at byte"):
        Journal(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is damaged at byte 0"),
        ("{", "is damaged at byte 1"),
        ("[]", "not a set of TinyDB tables"),
        ('{"t": {"x": {}}}', "not a set of TinyDB tables"),
        ('{"t": {"1": 1}}', "not a set of TinyDB tables"),
        ("\udcff", "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("{}", "has the schema version None; this relay-mta reads version 1"),
        ('{"meta": {"1": {"schema": 2, "generation": 1}}}', "has the schema version 2; this relay-mta reads version 1"),
        ('{"meta": {"1": {"schema": 1}}}', "has no generation"),
    ],
)
def test_a_snapshot_that_cannot_be_used_is_left(folder: Path, three: Path, text: str, says: str) -> None:
    snapshot = folder / "ledger.json"
    snapshot.write_bytes(text.encode("utf-8", "surrogateescape"))
    raw = three.read_bytes()
    for opening in (Journal, journal.read):
        with pytest.raises(LedgerError) as caught:
            opening(folder)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    assert (snapshot.read_bytes(), three.read_bytes()) == (text.encode("utf-8", "surrogateescape"), raw)


def test_a_journal_without_its_snapshot_is_no_new_ledger(folder: Path, three: Path) -> None:
    raw = three.read_bytes()
    (folder / "ledger.json").unlink()
    with pytest.raises(LedgerError, match=r"is there without its ledger\.json"):
        Journal(folder)
    assert three.read_bytes() == raw


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_a_failed_append_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    log = Journal(folder)
    log.append(batch(("t", 1, {"a": 1})))
    size = log.path.stat().st_size
    with monkeypatch.context() as patch:
        failing(call, errno.EIO, patch)
        with pytest.raises(LedgerError, match=r"cannot write the ledger's journal .*: Input/output error"):
            log.append(batch(("t", 2, {"a": 2})))
    assert not log.broken
    assert log.path.stat().st_size == log.size == size
    log.append(batch(("t", 3, {"a": 3})))
    log.close()
    assert rows(folder) == {"t": {"1": {"a": 1}, "3": {"a": 3}}}


def test_a_failed_fdatasync_is_not_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports a lost page once; the second fsync of the same bytes would say that all is well."""
    log = Journal(folder)
    descriptors: list[int] = []
    really = os.fdatasync

    def once(fd: int) -> None:
        descriptors.append(fd)
        if len(descriptors) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(fd)

    monkeypatch.setattr(os, "fdatasync", once)
    with pytest.raises(LedgerError):
        log.append(batch(("t", 1, {"a": 1})))
    assert len(descriptors) == 1
    assert log.path.read_bytes() == b""
    log.append(batch(("t", 1, {"a": 2})))
    log.close()
    assert rows(folder) == {"t": {"1": {"a": 2}}}


@pytest.mark.parametrize("call", ["ftruncate", "fsync", "open"])
def test_it_is_broken_until_it_is_back_at_its_last_good_byte(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    log = Journal(folder)
    log.append(batch(("t", 1, {"a": 1})))
    with monkeypatch.context() as patch:
        failing("fdatasync", errno.EIO, patch)
        failing(call, errno.EIO, patch)
        with pytest.raises(LedgerError):
            log.append(batch(("t", 2, {"a": 2})))
        assert log.broken
        with pytest.raises(LedgerError, match="cannot reopen the ledger's journal"):
            log.append(batch(("t", 3, {"a": 3})))
        assert log.broken
    log.append(batch(("t", 4, {"a": 4})))
    assert not log.broken
    log.close()
    assert rows(folder) == {"t": {"1": {"a": 1}, "4": {"a": 4}}}


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel's own short writes and EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_short_write_is_cut_off(folder: Path) -> None:
    log = Journal(folder)
    log.append(batch(("t", 1, {"a": 1})))
    size = log.size
    with file_size_limit(size + 10), pytest.raises(LedgerError, match="File too large"):
        log.append(batch(("t", 2, {"a": "x" * 100})))
    assert log.path.stat().st_size == size
    log.append(batch(("t", 3, {"a": 3})))
    log.close()
    assert rows(folder) == {"t": {"1": {"a": 1}, "3": {"a": 3}}}


def test_another_hand_on_the_journal_is_noticed(folder: Path) -> None:
    log = Journal(folder)
    log.append(batch(("t", 1, {"a": 1})))
    with log.path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(LedgerError, match="was changed or removed by another hand"):
        log.append(batch(("t", 2, {"a": 2})))
    log.path.unlink()
    with pytest.raises(LedgerError, match="was changed or removed by another hand"):
        log.append(batch(("t", 2, {"a": 2})))
    log.close()


# --- compaction -----------------------------------------------------------------------------------------------------


def test_compaction_begins_a_new_generation(folder: Path, three: Path) -> None:
    log = Journal(folder)
    log.compact(log.tables)
    assert (log.path.name, log.size) == ("journal.2", 0)
    assert not three.exists()
    assert rows(folder) == ALL
    log.append(batch(("t", 2, None)))
    log.compact(ALL)
    log.close()
    assert rows(folder) == ALL
    assert sorted(path.name for path in folder.iterdir()) == ["journal.3", "ledger.json", "lock"]


STEPS = ["open", "replace", "fsync", "unlink"]


class Crash(BaseException):
    pass


@pytest.mark.parametrize("step", range(40))
def test_a_crash_anywhere_in_a_compaction_loses_nothing(
    folder: Path, three: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Dies at the n-th of the system calls that matter, files as they are then."""
    log = Journal(folder)
    calls = 0
    with monkeypatch.context() as patch:

        def watched(name: str) -> Any:
            really = getattr(os, name)

            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls > step:
                    raise Crash
                return really(*arguments, **options)

            return call

        for name in STEPS:
            patch.setattr(os, name, watched(name))
        try:
            log.compact(log.tables)
            crashed = False
        except Crash:
            crashed = True
    assert crashed == (step < calls)
    log.close()
    assert rows(folder) == ALL
    log = Journal(folder)
    log.append(batch(("t", 4, {"a": 4})))
    log.close()
    found = rows(folder)
    assert found["t"].pop("4") == {"a": 4}
    assert found == ALL
    assert len(list(folder.iterdir())) <= 4


def test_an_error_after_the_rename_stops_all_writing(
    folder: Path, three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which generation a crash would find is not known then: what either got could be lost."""
    log = Journal(folder)
    with monkeypatch.context() as patch:

        def fail(_: Path) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patch.setattr(journal, "sync_directory", fail)
        with pytest.raises(LedgerError, match="must be opened anew"):
            log.compact(log.tables)
    with pytest.raises(LedgerError, match="must be opened anew"):
        log.append(batch(("t", 4, {"a": 4})))
    log.close()
    assert rows(folder) == ALL
    log = Journal(folder)
    log.append(batch(("t", 4, {"a": 4})))
    log.close()


def test_a_stale_journal_of_a_compaction_that_was_cut_short_is_removed(folder: Path, three: Path) -> None:
    (folder / "journal.2").touch()
    log = Journal(folder)
    log.close()
    assert sorted(path.name for path in folder.iterdir()) == ["journal.1", "ledger.json", "lock"]


# --- opening --------------------------------------------------------------------------------------------------------


def test_two_writers_are_one_too_many(folder: Path) -> None:
    log = Journal(folder)
    with pytest.raises(LedgerError, match=f"already in use by process {os.getpid()}$"):
        Journal(folder)
    log.close()
    log.close()
    Journal(folder).close()
    with pytest.raises(LedgerError, match="is closed"):
        log.append(batch(("t", 1, {})))


def test_a_failed_opening_lets_go_of_the_lock(folder: Path, three: Path) -> None:
    snapshot = folder / "ledger.json"
    raw = snapshot.read_bytes()
    snapshot.write_text("{")
    with pytest.raises(LedgerError):
        Journal(folder)
    snapshot.write_bytes(raw)
    Journal(folder).close()


def test_a_data_dir_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"cannot open the ledger .*/file is not a directory") as caught:
        Journal(tmp_path / "file" / "ledger")
    assert "\n" not in str(caught.value)


def test_a_full_disk_still_opens_what_is_there(folder: Path, three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in ("write", "pwrite"):
        failing(call, errno.ENOSPC, monkeypatch)
    log = Journal(folder)
    with pytest.raises(LedgerError, match="No space left on device"):
        log.append(batch(("t", 4, {"a": 4})))
    log.close()
    assert rows(folder) == ALL


def test_the_snapshot_has_one_document_a_line(folder: Path, three: Path) -> None:
    log = Journal(folder)
    log.compact(log.tables)
    log.close()
    raw = (folder / "ledger.json").read_bytes()
    assert json.loads(raw)["meta"] == {"1": {"schema": 1, "generation": 2}}
    assert raw.count(b"\n") == 1 + len(ALL) + sum(len(table) for table in ALL.values())
