"""The installation's secret key: 32 random bytes in `data_dir/secret.key`, under which `core.keys` hashes addresses.

Made once, atomically and durably, readable by its owner only. It must never change or get lost: with another key every
candidate and every retried mail looks new. It belongs into the backup, apart from the ledger's.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from relay_mta.core.errors import LedgerError
from relay_mta.ledger.journal import sync_directory, write_file

SECRET_FILE = "secret.key"  # noqa: S105 - a file's name
SECRET_BYTES = 32


def load_or_create(data_dir: Path, *, fresh: bool = True) -> bytes:
    """The key of `data_dir`; made if there is none yet and the ledger is `fresh`, that is, without entries.

    Raises `LedgerError` if it cannot be read or written, is too short, may be read by everyone, or got lost.
    """
    path = data_dir / SECRET_FILE
    try:
        return _load(path)
    except FileNotFoundError:
        if not fresh:
            text = f"the secret key {path} is missing, but the ledger has entries made with it: restore it"
            raise LedgerError(text) from None
    except OSError as error:
        raise LedgerError(f"cannot read the secret key {path}: {error.strerror}") from error
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(path)
        return _load(path)
    except OSError as error:
        raise LedgerError(f"cannot create the secret key {path}: {error.strerror}") from error


def _load(path: Path) -> bytes:
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007:
            raise LedgerError(f"the secret key {path} is open to every user of this machine: chmod 600 it")
        key = file.read()
    if len(key) < SECRET_BYTES:
        raise LedgerError(f"the secret key {path} has {len(key)} bytes instead of {SECRET_BYTES}: restore it")
    return key


def _create(path: Path) -> None:
    made = path.with_name(f"{SECRET_FILE}.{secrets.token_hex(8)}")
    try:
        write_file(made, [secrets.token_bytes(SECRET_BYTES)])
        os.link(made, path)  # unlike a rename it never replaces a key that another process made just now
    except FileExistsError:
        pass
    finally:
        made.unlink(missing_ok=True)
    sync_directory(path.parent)
