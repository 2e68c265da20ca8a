"""CPU time of reading and judging: what one mail costs, by kind of mail.

    python tests/bench/measure_judging.py [ROUNDS]

Three figures for each, medians in milliseconds of this thread's CPU time: `index` (where everything is), `read`
(decoding and laying out the text), `judge` (the rules alone, on what was read).
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from relay_mta import rulefolder  # noqa: E402  (the checkout goes before an installed copy)
from relay_mta.core.message import index  # noqa: E402  (as above)
from relay_mta.core.rules import RuleSet  # noqa: E402  (as above)

HEAD = "From: hr@acme.example\r\nTo: taro@mail.example\r\nSubject: {}\r\nMIME-Version: 1.0\r\n"
PLAIN = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
REJECTION = (
    "山田太郎 様\r\n\r\n先日は当社の採用選考にご応募いただき、ありがとうございました。\r\n"
    "慎重に選考を進めました結果、誠に残念ながら、今回は採用を見送らせていただくことになりました。\r\n"
    "末筆ながら、山田様の今後のご活躍をお祈り申し上げます。\r\n\r\n"
)
BUSINESS = (
    "佐藤様\r\n\r\nお世話になっております。アクメの田中です。\r\n来週の打ち合わせの件、木曜の十五時からでいかがでしょうか。\r\n"
    "資料は前日までにお送りします。会場は三階の会議室です。ご確認のほどよろしくお願いいたします。\r\n\r\n"
)
FILLER = "当日は駅の東口から徒歩五分ほどです。受付で名前をお伝えください。\r\n"


def filled(text: str, size: int) -> str:
    return text + FILLER * max(0, (size - len(text.encode())) // len(FILLER.encode()))


def paragraphs(text: str, size: int) -> str:
    line = '<p class="MsoNormal"><span lang="JA" style="font-family:&quot;游ゴシック&quot;">{}</span></p>'
    body = "".join(line.format(one) for one in text.split("\r\n"))
    while len(body.encode()) < size:
        body += line.format(FILLER.strip())
    return f"<html><head><style>p{{margin:0}}</style></head><body>{body}</body></html>"


def mails() -> dict[str, bytes]:
    html = "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    mixed = 'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n' + PLAIN + filled(BUSINESS, 2_000)
    file = "\r\n--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    data = ("QUJD" * 19 + "\r\n") * 130_000
    return {
        "4 KB business mail": (HEAD.format("Re: meeting") + PLAIN + filled(BUSINESS, 4_000)).encode(),
        "4 KB rejection": (HEAD.format("result") + PLAIN + filled(REJECTION, 4_000)).encode(),
        "1 KB rejection": (HEAD.format("result") + PLAIN + REJECTION).encode(),
        "130 KB HTML": (HEAD.format("Re: meeting") + html + paragraphs(BUSINESS, 130_000)).encode(),
        "130 KB HTML rejection": (HEAD.format("result") + html + paragraphs(REJECTION, 130_000)).encode(),
        "10 MB attachment": (HEAD.format("file") + mixed + file + data + "--b--\r\n").encode(),
    }


def measure(rules: RuleSet, raw: bytes, rounds: int) -> tuple[float, float, float]:
    spent: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        marks = [time.thread_time()]
        message = index(raw)
        marks.append(time.thread_time())
        assert message.texts
        marks.append(time.thread_time())
        rules.judge(message)
        marks.append(time.thread_time())
        spent.append((marks[1] - marks[0], marks[2] - marks[1], marks[3] - marks[2]))
    index_time, read_time, judge_time = (statistics.median(column) * 1e3 for column in zip(*spent, strict=True))
    return index_time, read_time, judge_time


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    rules = rulefolder.parse(rulefolder.gather((ROOT / "rules",), alone=True))
    print(f"rules {rules.hash}\n{'':24}{'index':>8}{'read':>8}{'judge':>8}   ms of CPU, median of {rounds}")
    for name, raw in mails().items():
        figures = measure(rules, raw, rounds)
        verdict = rules.judge(index(raw)).reason
        print(f"{name:24}{figures[0]:8.2f}{figures[1]:8.2f}{figures[2]:8.2f}   {verdict}")


if __name__ == "__main__":
    main()
