"""`relay-mta` and `python -m relay_mta`."""

from __future__ import annotations

from relay_mta.cli.root import root


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    root(prog_name="relay-mta")


if __name__ == "__main__":
    main()
