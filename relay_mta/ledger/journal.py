"""The ledger's files: a snapshot that is plain TinyDB JSON, and a journal of what was written since, fsynced.

    data_dir/ledger/
      lock            flock of the one process that writes; names it
      ledger.json     {"meta": …, "entries": {"1": {…}, …}, …}, as TinyDB itself would read it
      journal.7       what came after the snapshot of generation 7

**Journal.** A line is one batch: CRC-32 of the rest, a space, `[number, [[table, id, document or null], …]]`, LF; the
numbers run without a gap. A batch is written, then fdatasynced, and only then acknowledged; the next is written after
that. So the last line may be torn by a crash and was then never acknowledged: it is cut off, and `torn` says how many
bytes. A bad line with a good one behind it was acknowledged once: that is damage, nothing is touched, and `LedgerError`
names the file and the byte. A bad *last* line that was complete once looks like a torn one.

**Failure.** After a failed write or fdatasync the kernel may have dropped the dirty pages and forgotten the error
(fsync(2), "NOTES"), so the call is never repeated on the same bytes: the file is closed, opened again, cut at the last
acknowledged byte and fsynced; until that succeeds the journal is `broken` and every append fails.

**Compaction** writes a snapshot of generation n+1 beside the old one, makes its empty journal, renames, and deletes the
old journal: at every moment one generation is whole. Only then do deleted documents leave the disk.

**Readers** (`read`) take no lock and change nothing: they read a snapshot and its journal up to a torn tail, and once
more if a compaction came between.

All of this blocks; `storage` runs it in a thread of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay_mta.core.errors import LedgerError

SCHEMA = 1
SNAPSHOT = "ledger.json"
META = "meta"

Document = dict[str, Any]
Tables = dict[str, dict[str, Document]]

_READ_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Contents:
    """What the files say: the tables, and how far the journal of `generation` is good (`size` bytes, `batches`
    lines; `torn` bytes behind them are not)."""

    tables: Tables
    generation: int
    batches: int
    size: int
    torn: int


def encode_change(table: str, key: str, document: Mapping[str, Any] | None) -> bytes:
    """One change as it stands in a journal line; None deletes."""
    return json.dumps([table, key, document], separators=(",", ":")).encode("ascii")


def interned(document: Document) -> Document:
    """The document with its field names shared by all; without it they are half of the memory."""
    return {sys.intern(name): value for name, value in document.items()}


def read(directory: Path) -> Contents:
    """What a ledger's files hold, without a lock and without changing them, also while another process writes.

    Raises `LedgerError` if there is no ledger, or one that is damaged, of another schema, or not readable.
    """
    trouble: LedgerError | None = None
    for _ in range(_READ_ATTEMPTS):
        before = _identity(directory)
        try:
            contents = _load(directory)
        except LedgerError as error:  # perhaps the writer cut off a failed batch under our eyes: look again
            if trouble is not None and str(error) == str(trouble):
                raise
            trouble = error
        else:
            if _identity(directory) == before:
                return contents
    raise trouble or LedgerError(f"{directory / SNAPSHOT} changes faster than it can be read: try again")


class Journal:
    """A ledger's files, open for writing by this process alone. Creates them where there are none.

    Raises `LedgerError` if another process has them, or they are damaged, of another schema, or not accessible.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._fd: int | None = None
        self._lost = ""
        try:
            directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.mkdir(mode=0o700, exist_ok=True)
            self._lock = _lock(directory)
        except FileExistsError as error:
            raise LedgerError(f"cannot open the ledger {directory}: {error.filename} is not a directory") from error
        except OSError as error:
            raise LedgerError(f"cannot open the ledger {directory}: {error.strerror}") from error
        try:
            if not (directory / SNAPSHOT).exists():
                self._refuse_orphans()
                self._write_snapshot({}, generation=1)
                sync_directory(directory)
            contents = _load(directory)
            self.tables = contents.tables
            self.torn = contents.torn
            self._generation, self._batches, self._size = contents.generation, contents.batches, contents.size
            self._reopen()
            self._drop_stale()
        except OSError as error:
            os.close(self._lock)
            raise LedgerError(f"cannot open the ledger {directory}: {error.strerror}") from error
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def path(self) -> Path:
        """The journal file now written to."""
        return self.directory / f"journal.{self._generation}"

    @property
    def size(self) -> int:
        """The acknowledged bytes of the journal."""
        return self._size

    @property
    def broken(self) -> bool:
        """A write failed and what it left behind could not be cut off yet."""
        return self._fd is None

    def append(self, changes: Iterable[bytes]) -> None:
        """Write changes (`encode_change`) as one batch; durable on return. `LedgerError`: none of them is there."""
        line = _line(self._batches + 1, changes)
        fd = self._writable()
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(fd, view) :]
            os.fdatasync(fd)
        except OSError as error:
            self._rewind()
            raise LedgerError(f"cannot write the ledger's journal {self.path}: {error.strerror}") from error
        self._size += len(line)
        self._batches += 1

    def compact(self, tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Write `tables` (what is acknowledged, all of it) as the new snapshot and begin a new journal.

        `LedgerError`: the old ones stay in use, unless the error says that the ledger must be opened anew.
        """
        self._writable()
        old = self.path
        generation = self._generation + 1
        try:
            fd = os.open(self.directory / f"journal.{generation}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            os.close(fd)
            self._write_snapshot(tables, generation=generation)
        except OSError as error:
            raise LedgerError(f"cannot compact the ledger {self.directory}: {error.strerror}") from error
        try:
            sync_directory(self.directory)
            self._close_file()
            self._generation, self._batches, self._size = generation, 0, 0
            self._reopen()
            old.unlink()
        except OSError as error:
            # Which of the two generations a crash would find is not known: write to neither.
            self._close_file()
            self._lost = f"the ledger {self.directory} must be opened anew: compacting it failed: {error.strerror}"
            raise LedgerError(self._lost) from error

    def close(self) -> None:
        """Close the files and let other processes in. Idempotent."""
        self._close_file()
        self._lost = f"the ledger {self.directory} is closed"
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _writable(self) -> int:
        if self._lost:
            raise LedgerError(self._lost)
        try:
            if self._fd is None:
                self._reopen()
            assert self._fd is not None
            status = os.fstat(self._fd)
        except OSError as error:
            raise LedgerError(f"cannot reopen the ledger's journal {self.path}: {error.strerror}") from error
        if status.st_nlink == 0 or status.st_size != self._size:
            raise LedgerError(f"the ledger's journal {self.path} was changed or removed by another hand")
        return self._fd

    def _reopen(self) -> None:
        """Open the journal with nothing in it behind the last acknowledged byte."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size < self._size:
                raise LedgerError(f"the ledger's journal {self.path} was cut short by another hand at byte {size}")
            if size > self._size:
                os.ftruncate(fd, self._size)
            os.fsync(fd)
            sync_directory(self.directory)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def _rewind(self) -> None:
        self._close_file()
        try:
            self._reopen()
        except (OSError, LedgerError):
            self._close_file()  # stays broken; the next append tries again

    def _close_file(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _write_snapshot(self, tables: Mapping[str, Mapping[str, Mapping[str, Any]]], *, generation: int) -> None:
        made = self.directory / f"{SNAPSHOT}.new"
        try:
            write_file(made, _snapshot_text(tables, generation))
            made.replace(self.directory / SNAPSHOT)
        finally:
            made.unlink(missing_ok=True)

    def _refuse_orphans(self) -> None:
        """A journal without its snapshot is a ledger that lost its past: never begin a new one over it."""
        for path in self.directory.glob("journal.*"):
            if path.stat().st_size:
                raise LedgerError(f"{path} is there without its {SNAPSHOT}: restore it from the backup")

    def _drop_stale(self) -> None:
        for path in self.directory.glob("journal.*"):
            if path != self.path:
                path.unlink(missing_ok=True)


# --- reading --------------------------------------------------------------------------------------------------------


def _identity(directory: Path) -> tuple[int, ...]:
    """Differs whenever a compaction came between."""
    try:
        status = (directory / SNAPSHOT).stat()
    except OSError:
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _snapshot(directory: Path) -> Tables:
    path = directory / SNAPSHOT
    try:
        tables: Tables = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise LedgerError(f"there is no ledger in {directory}") from None
    except OSError as error:
        raise LedgerError(f"cannot read the ledger {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        place = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise LedgerError(f"{path} is damaged{place}: restore it from the backup") from error
    if not _are_tables(tables):
        raise LedgerError(f"{path} is damaged: it is not a set of TinyDB tables")
    schema = tables.get(META, {}).get("1", {}).get("schema")
    if schema != SCHEMA:
        raise LedgerError(f"{path} has the schema version {schema!r}; this relay-mta reads version {SCHEMA}")
    _generation(tables)
    return tables


def _are_tables(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(table, dict) and all(key.isdecimal() and isinstance(each, dict) for key, each in table.items())
        for table in value.values()
    )


def _generation(tables: Tables) -> int:
    generation = tables[META]["1"].get("generation")
    if not isinstance(generation, int):
        raise LedgerError(f"{SNAPSHOT} is damaged: it has no generation")
    return generation


def _load(directory: Path) -> Contents:
    tables = _snapshot(directory)
    generation = _generation(tables)
    path = directory / f"journal.{generation}"
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = b""  # a crash came between the snapshot and its journal
    except OSError as error:
        raise LedgerError(f"cannot read the ledger's journal {path}: {error.strerror}") from error
    batches = size = 0
    for start, end, batch in _lines(raw):
        if batch is None or batch[0] != batches + 1:
            if batch is not None or any(later is not None for _, _, later in _lines(raw[end:])):
                raise LedgerError(f"{path} is damaged at byte {start}: restore the ledger from the backup")
            break
        for table, key, document in batch[1]:
            if document is None:
                tables.setdefault(table, {}).pop(key, None)
            else:
                tables.setdefault(table, {})[key] = interned(document)
        batches, size = batch[0], end
    return Contents(tables, generation, batches, size, len(raw) - size)


def _lines(raw: bytes) -> Iterator[tuple[int, int, Any]]:
    """(start, end, batch) of every line; a batch of None for a line that is not whole."""
    start = 0
    while start < len(raw):
        end = raw.find(b"\n", start) + 1
        if not end:
            yield start, len(raw), None
            return
        checksum, _, text = raw[start : end - 1].partition(b" ")
        good = checksum == b"%08x" % zlib.crc32(text)
        yield start, end, json.loads(text) if good else None
        start = end


def _line(number: int, changes: Iterable[bytes]) -> bytes:
    text = b"[%d,[%s]]" % (number, b",".join(changes))
    return b"%08x %s\n" % (zlib.crc32(text), text)


# --- writing --------------------------------------------------------------------------------------------------------


def _snapshot_text(tables: Mapping[str, Mapping[str, Mapping[str, Any]]], generation: int) -> Iterator[bytes]:
    """One document a line, encoded one by one, so that other threads get their turn."""
    meta = json.dumps({"schema": SCHEMA, "generation": generation})
    yield f'{{"{META}": {{"1": {meta}}}'.encode("ascii")
    for name, table in tables.items():
        if name == META:
            continue
        yield f",\n{json.dumps(name)}: {{".encode("ascii")
        for index, (key, document) in enumerate(table.items()):
            yield f"{',' if index else ''}\n{json.dumps(key)}: {json.dumps(document)}".encode("ascii")
        yield b"}"
    yield b"}\n"


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new or emptied file of mode 0600, fsynced. Raises `OSError`."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb", buffering=1 << 20) as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make a directory's names durable (fsync(2)). Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(directory: Path) -> int:
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "?"
        os.close(fd)
        raise LedgerError(f"the ledger {directory} is already in use by process {holder}") from None
    with contextlib.suppress(OSError):  # a full disk: the lock holds, only its holder's name is missing
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd
