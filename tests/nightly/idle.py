"""Holds 10,000 idle connections to a real relay, in clear and after STARTTLS: each must be cheap, and all be served.

python tests/nightly/idle.py [CONNECTIONS, 10000 by default]

What a new mail takes meanwhile is printed and not checked: that says as much about the machine. Needs Postfix's
smtp-sink, and as many file descriptors as connections.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.measure_edge import Bench, idle_on
from tests.bench.parties import allow_files

MOST = {False: 20.0, True: 40.0}
"""kB for each connection, in clear and with TLS: of the latter OpenSSL alone takes 17."""


def main() -> int:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    allow_files()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="relay-mta-nightly-") as place:
        bench = Bench(argparse.Namespace(mails=400), Path(place))
        for tls, most in MOST.items():
            each, served = idle_on(bench, number, tls=tls)
            if each > most or served != number:
                print(f"FAILED: {each:.1f} kB each, at most {most:.0f} wanted; {served} of {number} served")
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
