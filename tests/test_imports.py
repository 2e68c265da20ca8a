"""The rooms' walls: who may import whom, and what the pure core may not touch.

cli → app → everything; relay → core, maillog; the edges (smtp, ledger, web) → core, never each other; core → core, the
standard library's pure parts, and the parsers that it only reads with.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "relay_mta"

# Room → the rooms that it may import. A room may always import itself. A new top-level module names its place here.
WALLS: dict[str, set[str]] = {
    "__init__": set(),
    "core": set(),
    "smtp": {"core"},
    "ledger": {"core"},
    "web": {"core"},
    "maillog": {"core"},
    "line": {"core", "maillog"},
    "books": {"core", "maillog"},
    "setting": {"core"},
    "copies": {"core", "maillog", "books", "setting"},
    "relay": {"core", "maillog", "line", "books", "setting", "copies"},
    "gate": {"core", "maillog"},
    "conversation": {"core", "maillog", "gate", "line", "relay", "setting"},
    "secretsource": {"core"},
    "login": {"core", "secretsource"},
    "users": {"core"},
    "systemd": set(),
    "tomllines": {"core"},
    "values": {"core", "secretsource"},
    "tables": set(),
    "schema": {"core", "values", "secretsource"},
    "senders": {"core", "values", "tables", "tomllines"},
    "relations": {"core", "values", "tables", "tomllines", "senders"},
    "findings": {"core", "values", "schema", "tomllines"},
    "config": {"core", "values", "schema", "relations", "findings", "secretsource", "tomllines"},
    "shipped": {"core"},
    "rulefolder": {"core", "shipped"},
    "rulebook": {"core", "maillog", "rulefolder"},
    "ruleeffect": {"core"},
    "rulecheck": {"core", "rulefolder", "ruleeffect", "tomllines"},
    "rulereport": {"core", "rulefolder", "rulecheck"},
    "rulemeasure": {"core", "rulefolder"},
    "rulestatus": {"core", "config"},
    "templatefolder": {"core", "shipped", "config"},
    "templatecheck": {"core"},
    "signing": {"core", "config"},
    "oauth": {"core"},
    "examine": {"core", "config", "rulefolder", "templatefolder", "signing"},
    "app": {
        "__init__",
        "core",
        "smtp",
        "ledger",
        "web",
        "maillog",
        "line",
        "relay",
        "gate",
        "conversation",
        "config",
        "login",
        "oauth",
        "users",
        "templatefolder",
        "signing",
        "setting",
        "rulebook",
    },
    "process": {"app", "config", "maillog", "systemd"},
    "demo": {"core", "maillog", "app", "config", "shipped", "examine"},
    "cli": {
        *("__init__", "core", "ledger", "process", "config", "shipped", "examine", "demo"),
        *(
            "rulefolder",
            "rulecheck",
            "rulereport",
            "rulemeasure",
            "rulestatus",
            "templatefolder",
            "templatecheck",
            "signing",
            "users",
        ),
    },
    "__main__": {"cli"},
}

PARSERS = {"bs4", "jinja2", "re2", "ahocorasick"}

# Modules of the standard library through which the world gets in or out: files, sockets, clocks, chance, threads, logs.
# fmt: off
WORLDLY = {
    "asyncio", "builtins", "concurrent", "ctypes", "fcntl", "fileinput", "ftplib", "getpass", "glob", "http",
    "imaplib", "importlib", "io", "locale", "logging", "mailbox", "mmap", "multiprocessing", "os", "pathlib",
    "pickle", "platform", "poplib", "pwd", "queue", "random", "runpy", "sched", "secrets", "select", "selectors",
    "shelve", "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys",
    "syslog", "tempfile", "threading", "time", "urllib.request", "uuid", "warnings", "webbrowser", "xmlrpc",
}
# fmt: on
WORLDLY_CALLS = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}
CLOCK_CALLS = {"now", "utcnow", "today"}  # of datetime and date


@dataclass(frozen=True)
class Import:
    file: Path
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}: {self.module}"


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, wherever it stands in it, as absolute module names."""
    package = ["relay_mta", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            # `from relay_mta import app` imports a room, `from relay_mta.app import App` a name
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "relay_mta" else [base]
            for name in names:
                yield Import(path, node.lineno, name)


def test_every_module_stands_in_a_room() -> None:
    rooms = {room_of(path) for path in sources(PACKAGE)}
    assert rooms <= set(WALLS), f"name the place of {rooms - set(WALLS)} in WALLS"


@pytest.mark.parametrize("room", sorted(WALLS))
def test_imports_point_one_way(room: str) -> None:
    allowed = WALLS[room] | {room}
    wrong = []
    for path in sources(PACKAGE):
        if room_of(path) != room:
            continue
        for found in imports_of(path):
            parts = found.module.split(".")
            if parts[0] != "relay_mta":
                continue
            target = parts[1] if len(parts) > 1 else "__init__"
            if target.startswith("__") and target != "__init__":
                target = "__init__"  # from relay_mta import __version__
            if target not in allowed:
                wrong.append(f"{found} ({room} may import {', '.join(sorted(allowed))})")
    assert not wrong, "\n".join(wrong)


def test_the_walls_have_no_cycle() -> None:
    order: list[str] = []
    left = {room: set(walls) for room, walls in WALLS.items()}
    while left:
        free = {room for room, walls in left.items() if not walls & left.keys()}
        assert free, f"these rooms import each other: {sorted(left)}"
        order += sorted(free)
        for room in free:
            del left[room]
    assert order.index("core") < order.index("relay") < order.index("app") < order.index("cli")


def test_core_imports_only_the_standard_library_and_its_parsers() -> None:
    wrong = []
    for path in sources(PACKAGE / "core"):
        for found in imports_of(path):
            top = found.module.partition(".")[0]
            if top == "relay_mta":
                continue
            if top not in sys.stdlib_module_names and top not in PARSERS:
                wrong.append(f"{found} is no parser that core reads with")
            if found.module in WORLDLY or top in WORLDLY:
                wrong.append(f"{found} lets the world into the pure core")
    assert not wrong, "\n".join(wrong)


def test_core_calls_no_clock_file_or_terminal() -> None:
    wrong = []
    for path in sources(PACKAGE / "core"):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            if isinstance(called, ast.Name) and called.id in WORLDLY_CALLS:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {called.id}()")
            if isinstance(called, ast.Attribute) and called.attr in CLOCK_CALLS:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: .{called.attr}()")
    assert not wrong, "\n".join(wrong)


def test_importing_core_loads_no_worldly_room() -> None:
    """The walls hold at run time too: core alone brings no edge with it."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sources(PACKAGE / "core")
    ]
    edges = {"aiosmtpd", "aiosmtplib", "httpx", "jwt", "starlette", "tinydb", "uvicorn"}
    code = "\n".join(["import sys", *(f"import {name}" for name in modules), "print(*sys.modules)"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert not edges & {name.partition(".")[0] for name in loaded}
    assert not [name for name in loaded if name.startswith("relay_mta.") and not name.startswith("relay_mta.core")]


def test_names_that_say_nothing_are_not_modules() -> None:
    empty_words = ("util", "helper", "common", "manager", "service", "handler", "misc")
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources(PACKAGE)
        if any(word in path.stem.lower() for word in empty_words)
    ]
    assert not wrong


TOP_LEVEL = {
    *("relay_mta", "rules", "tests", "docs", "config.example.toml", "pyproject.toml"),
    *("README.md", "CHANGELOG.md", "LICENSE", ".ci"),
}


def top_level() -> set[str]:
    """The names at the top that are, or are about to be, committed; in an unpacked tree without git: all of them."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        return {name.partition("/")[0] for name in listed.split("\0") if name}
    made = {"build", "dist", "__pycache__"}
    return {path.name for path in ROOT.iterdir() if path.name not in made and not path.name.endswith(".egg-info")}


def test_nothing_else_lies_at_the_top() -> None:
    extra = {name for name in top_level() if name not in TOP_LEVEL and not name.startswith(".")}
    assert not extra, f"these do not belong at the top: {sorted(extra)}"


def test_what_belongs_at_the_top_is_there() -> None:
    missing = {name for name in TOP_LEVEL if not (ROOT / name).exists()}
    assert not missing
