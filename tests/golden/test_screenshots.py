"""HTML mails drawn by a real browser before and after: outside of the block's rectangle every pixel is the same.

A block takes some rows of the picture: what was above them stays, and what was below them is moved down.
KEEP_SCREENSHOTS=folder keeps the pictures for a person to look at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from operator import ne
from pathlib import Path

import pytest
from PIL import Image

from relay_mta.core.message import index
from tests.golden import folders
from tests.golden.browser import Browser
from tests.golden.folders import FOLDERS, Golden

WIDTH, HEIGHT = 800, 2400
EDGES = 2
"""Rows that may be drawn anew: an edge that lay between two pixels may lie on one now."""
GOLDEN = [golden for golden in map(folders.read, FOLDERS) if golden.outcome == "relay"]
HTML = [
    golden
    for golden in GOLDEN
    if any(text.kind == "html" for text in index(golden.raw).texts) and "dedicated" not in golden.folder.name
]


def source(raw: bytes) -> str:
    return next(text.text for text in index(raw).texts if text.kind == "html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all pictures: to start it takes far longer than to draw a mail."""
    started = Browser(tmp_path_factory.mktemp("browser"))
    yield started
    started.close()


def drawn(browser: Browser, html: str, place: Path) -> Image.Image:
    """The page as pixels. A byte order mark goes before what the page says of its character set."""
    page, picture = place.with_suffix(".html"), place.with_suffix(".png")
    page.write_text(html, "utf-8-sig")
    picture.write_bytes(browser.screenshot(page, WIDTH, HEIGHT))
    return Image.open(picture).convert("RGB")


def rows(picture: Image.Image) -> list[bytes]:
    pixels = picture.tobytes()
    return [pixels[i : i + WIDTH * 3] for i in range(0, len(pixels), WIDTH * 3)]


def test_ten_mails_are_drawn() -> None:
    assert len(HTML) >= 10


@pytest.mark.real("chromium")
@pytest.mark.parametrize("golden", HTML, ids=lambda golden: golden.folder.name)
def test_only_the_blocks_rectangle_changes(browser: Browser, golden: Golden, tmp_path: Path) -> None:
    before = rows(drawn(browser, source(golden.raw), tmp_path / "before"))
    after = rows(drawn(browser, source(golden.expected), tmp_path / "after"))
    if keep := os.environ.get("KEEP_SCREENSHOTS"):
        for name in ("before", "after"):
            shutil.copy(tmp_path / f"{name}.png", Path(keep) / f"{golden.folder.name}-{name}.png")
    assert len(before) == len(after) == HEIGHT
    top = next(y for y in range(HEIGHT) if before[y] != after[y])
    others = min(sum(map(ne, after[top + height :], before[top:])) for height in range(60, 600))
    assert others <= EDGES, f"below row {top} more than a block has changed: {others} rows"
