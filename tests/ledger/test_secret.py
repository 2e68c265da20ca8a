"""The installation's secret key."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay_mta.core.errors import LedgerError
from relay_mta.ledger.secret import SECRET_BYTES, load_or_create


def test_it_is_made_once(tmp_path: Path) -> None:
    data_dir = tmp_path / "var"
    key = load_or_create(data_dir)
    assert len(key) == SECRET_BYTES
    assert load_or_create(data_dir) == key
    assert [path.name for path in data_dir.iterdir()] == ["secret.key"]
    assert stat.S_IMODE((data_dir / "secret.key").stat().st_mode) == 0o600
    assert load_or_create(tmp_path / "other") != key


def test_all_who_make_it_at_the_same_time_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load_or_create, [tmp_path] * 32))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


@pytest.mark.parametrize("content", [b"", b"x" * 31])
def test_a_short_key_is_not_used_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(LedgerError, match=f"has {len(content)} bytes instead of 32"):
        load_or_create(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o666])
def test_a_key_that_everyone_may_read_is_not_used(tmp_path: Path, mode: int) -> None:
    load_or_create(tmp_path)
    (tmp_path / "secret.key").chmod(mode)
    with pytest.raises(LedgerError, match="open to every user of this machine: chmod 600"):
        load_or_create(tmp_path)


def test_a_group_may_read_it(tmp_path: Path) -> None:
    """As container platforms mount secrets."""
    key = load_or_create(tmp_path)
    (tmp_path / "secret.key").chmod(0o440)
    assert load_or_create(tmp_path) == key


def test_what_cannot_be_read_or_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "secret.key").mkdir()
    with pytest.raises(LedgerError, match=r"cannot read the secret key .*: Is a directory"):
        load_or_create(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"the secret key .*: Not a directory"):
        load_or_create(tmp_path / "file")
