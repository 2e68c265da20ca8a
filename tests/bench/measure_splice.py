"""CPU time and memory of reading and splicing: what one rejection costs, by kind of mail.

    python tests/bench/measure_splice.py [ROUNDS]

Medians in milliseconds of this thread's CPU time: `index` (where everything is), `read` (decoding and laying out the
text), `splice` (planning, proving and applying the edits); then the most memory beside the mail itself, as a multiple
of its size.
"""

from __future__ import annotations

import statistics
import sys
import time
import tracemalloc
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from relay_mta import shipped  # noqa: E402  (the checkout goes before an installed copy)
from relay_mta.core import link  # noqa: E402  (as above)
from relay_mta.core.block import Block, BlockTemplates  # noqa: E402  (as above)
from relay_mta.core.edit import apply  # noqa: E402  (as above)
from relay_mta.core.message import index  # noqa: E402  (as above)
from relay_mta.core.splice import plan  # noqa: E402  (as above)
from tests.bench.measure_judging import HEAD, PLAIN, REJECTION, filled, paragraphs  # noqa: E402  (as above)

BASE = "https://relay.example.jp"


def mails() -> dict[str, bytes]:
    html = "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    jis = "Content-Type: text/plain; charset=iso-2022-jp\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    mixed = 'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n' + PLAIN + filled(REJECTION, 2_000)
    file = "\r\n--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    data = ("QUJD" * 19 + "\r\n") * 130_000
    return {
        "4 KB UTF-8": (HEAD.format("result") + PLAIN + filled(REJECTION, 4_000)).encode(),
        "4 KB ISO-2022-JP": (HEAD.format("result") + jis).encode() + filled(REJECTION, 5_500).encode("iso2022_jp"),
        "130 KB HTML": (HEAD.format("result") + html + paragraphs(REJECTION, 130_000)).encode(),
        "10 MB attachment": (HEAD.format("file") + mixed + file + data + "--b--\r\n").encode(),
    }


def measure(raw: bytes, block: Block, rounds: int) -> tuple[float, float, float]:
    spent: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        marks = [time.thread_time()]
        message = index(raw, mended=True)  # as the relay calls it
        marks.append(time.thread_time())
        assert message.texts
        marks.append(time.thread_time())
        apply(raw, plan(message, block))
        marks.append(time.thread_time())
        spent.append((marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]))
    index_time, read_time, splice_time = (statistics.median(column) * 1e3 for column in zip(*spent, strict=True))
    return index_time, read_time, splice_time


def peak(raw: bytes, block: Block) -> float:
    """The most memory that the whole way takes beside the mail, as a multiple of its size."""
    tracemalloc.start()
    try:
        apply(raw, plan(index(raw), block))
        return tracemalloc.get_traced_memory()[1] / len(raw)
    finally:
        tracemalloc.stop()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    token = link.token(bytes(range(16)))
    templates = BlockTemplates.parse(shipped.templates())
    urls = {"link": link.url(BASE, token), "opt_out": link.opt_out_url(BASE, token)}
    block = templates.render("ja", company="株式会社アクメ", agency="サンプル人材紹介", **urls)
    print(f"{'':20}{'index':>8}{'read':>8}{'splice':>8}   ms of CPU, median of {rounds}; memory beside the mail")
    for name, raw in mails().items():
        figures = measure(raw, block, rounds)
        print(f"{name:20}{figures[0]:8.2f}{figures[1]:8.2f}{figures[2]:8.2f}   {peak(raw, block):.2f} x")


if __name__ == "__main__":
    main()
