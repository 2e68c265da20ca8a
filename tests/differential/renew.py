"""`python -m tests.differential.renew`: hold all dialogs and write `differences.toml` anew.

Reasons that stand there are kept. A new difference gets the reason "", which fails the tests until somebody judged it.
"""

from __future__ import annotations

from tests.differential import differences, ways


def main() -> None:
    known = differences.load() if differences.FILE.exists() else differences.Listed()
    found = differences.found(ways.run())
    differences.write(found, known)
    new = [difference for difference in found if not known.named.get(difference)]
    gone = known.named.keys() - set(found)
    print(f"{len(found)} differences: {len(new)} without a reason, {len(gone)} gone")
    for difference in new:
        print(f"\n{difference.place}\n  direct:  {difference.direct}\n  relayed: {difference.relayed}")


if __name__ == "__main__":
    main()
