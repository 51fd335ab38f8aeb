"""Take features out of a copy of premblyd, and see whether the rest is whole:

    python -m tests.removal [FEATURE …]     (none: all of them, one after the other)
    python -m tests.removal [FEATURE …] --all-at-once   (and tell how large the rest is)

With a feature go those that need it. What it prints is what breaks, if anything does.
"""

import argparse
import contextlib
import functools
import importlib
import json
import operator
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import premblyd
from premblyd.features import FEATURES
from tests.support.requests import request
from tests.support.waiting import wait_until
from tests.support.webhooks import BODY, KEY, PATH, signed

PACKAGE = Path(premblyd.__file__).parent
IMPORT_ALL = """
import importlib, pathlib, sys
for file in sorted(pathlib.Path("premblyd").rglob("*.py")):
    name = ".".join(file.with_suffix("").parts).removesuffix(".__init__")
    # Pages of a feature: only the console imports them.
    is_unused = file.name == "pages.py" and not pathlib.Path("premblyd/features/console").exists()
    if not name.endswith("__main__") and not is_unused:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"{name}: {error}")
"""
# What a user of the core alone types, after one webhook.
TYPED = """
import sys
from premblyd.cli import main
for command in sys.argv[2:]:
    try:
        main(["--config", sys.argv[1], *command.split()], prog_name="premblyd")
    except SystemExit as end:
        if end.code not in (0, 1):
            sys.exit(f"premblyd {command} ends with {end.code}")
"""
COMMANDS = ("check", "status", "events", "deliveries", "show 1", "replay 1")
# How premblyd is used with a feature: keys of the configuration, those of an action whose hook
# fails, and what is typed.
USED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "asking": (
        {"prembly": {"api_key": "k", "url": "https://127.0.0.1:9"}},
        {"confirm": True},
        "",
    ),
    "backup": ({}, {}, "record backup {}"),
    "console": ({"console": {"listen": "127.0.0.1:0"}}, {}, ""),
    "keeping": (
        {"retention": {"rejections": "90d"}},
        {},
        "person hold --user-ref u --reason r",
    ),
    "pause": ({}, {}, "pause tell"),
    "postgresql": ({"hosts": {"name": "one"}}, {}, ""),
    "turns": ({}, {"order": "reference", "once": "reference"}, ""),
    "watch": ({"alerts": [{"name": "page", "on": ["dead"], "shell": "true"}]}, {}, ""),
    "worker": ({}, {"shell": None, "worker": ["false"]}, ""),
}
WAITING = "SELECT id FROM delivery WHERE state = 'pending' AND due_at_ms IS NULL"


class BrokenError(Exception):
    """What does not work, in words."""


def going_with(names: Collection[str]) -> set[str]:
    """Return these features and those that need one of them."""
    gone = set(names)
    while more := {name for name, needs in FEATURES.items() if gone & {*needs}} - gone:
        gone |= more
    return gone


def without(names: Collection[str], folder: Path) -> Path:
    """Make a copy of premblyd without these features in the folder."""
    copy = folder / "premblyd"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    lines = (copy / "features/__init__.py").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(tuple(f'    "{n}":' for n in names))]
    assert len(kept) == len(lines) - len(names)
    (copy / "features/__init__.py").write_text("".join(kept))
    for name in names:
        shutil.rmtree(copy / "features" / name)
    return copy


def core_alone(folder: Path) -> str:
    """Return what the core's tests print in a copy without any feature; nothing where they pass."""
    without(set(FEATURES), folder)
    root = PACKAGE.parent
    shutil.copy(root / "setup.cfg", folder)
    shutil.copytree(root / "systemd", folder / "systemd")
    shutil.copytree(root / "tests", folder / "tests", ignore=_beside_the_core)
    apart = "not postgresql and not campaign and not large and not machine"
    done = _python(folder, "-m", "pytest", "-q", "-n", "2", "-m", apart, "tests/core")
    return done.stdout if done.returncode else ""


def _beside_the_core(folder: str, names: list[str]) -> set[str]:
    kept = {"core", "support", "payloads", "conftest.py", "__init__.py"}
    is_top = Path(folder) == PACKAGE.parent / "tests"
    return {name for name in names if name == "__pycache__" or (is_top and name not in kept)}


def broken(names: Collection[str], folder: Path) -> Iterator[str]:
    """Yield what does not work without these features, in words: with a database that was made
    without them, and, once the whole of premblyd has used it with them, with that."""
    without(names, folder)
    if failed := _python(folder, "-c", IMPORT_ALL).stdout:
        yield from failed.splitlines()
        return
    commands = _python(folder, "-m", "premblyd", "--help").stdout
    yield from (
        f"`premblyd {name}` is left" for name in _commands(names) if f"  {name} " in commands
    )
    settings = {
        "listen": "127.0.0.1:0",
        "database": f"sqlite:///{folder}/premblyd.db",
        "endpoints": [{"name": "prembly", "path": PATH, "keys": {"live": KEY}}],
    }
    action = {"name": "tell", "response_codes": ["*"]}
    tells = {"shell": f"cat >> {folder}/told"}
    config, used = folder / "premblyd.yaml", folder / "used.yaml"
    config.write_text(json.dumps(settings | {"actions": [action | tells]}))
    keys = [USED[name] for name in sorted(names & USED.keys())]
    with_them = functools.reduce(operator.or_, (top for top, _, _ in keys), settings)
    fails = functools.reduce(operator.or_, (own for _, own, _ in keys), {"shell": "exit 1"})
    used.write_text(json.dumps(with_them | {"actions": [action | fails]}))
    try:
        yield from _broken_at_work(folder, config, "first")
        left = {name for (name,) in _rows(folder, "SELECT name FROM sqlite_master")}
        yield from (f"the table {table} is left" for table in sorted(left & _tables(names)))
        with serving(PACKAGE.parent, used) as (address, _):
            for command in filter(None, (each for _, _, each in keys)):
                typed = ("-m", "premblyd", "--config", str(used), *command.format(folder).split())
                if (done := _python(PACKAGE.parent, *typed)).returncode:
                    yield f"the whole can't {command}: {done.stderr}"
            for number in range(2):
                _send(address, "used", number)
        yield from _broken_at_work(folder, config, "last")
    except BrokenError as error:
        yield str(error)
    yield from (f"delivery {number} waits for ever" for (number,) in _rows(folder, WAITING))


@contextlib.contextmanager
def serving(code: Path, config: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Have a daemon serve; give its address, and its process. Raise BrokenError when it does not
    start, or end."""
    log = config.with_suffix(".log")
    with log.open("wb") as written:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "premblyd", "--config", str(config), "serve"],
            cwd=code,
            stderr=written,
            stdout=written,
        )
    try:
        wait_until(lambda: "daemon.started" in log.read_text() or daemon.poll() is not None)
        if daemon.poll() is not None:
            raise BrokenError(f"the daemon does not start: {log.read_text()[-1000:]}")
        address = re.search(r"127\.0\.0\.1:\d+", log.read_text())
        assert address
        yield address[0], daemon
    finally:
        daemon.terminate()
        if status := daemon.wait():
            raise BrokenError(f"the daemon ends with {status}: {log.read_text()[-1000:]}")


def _broken_at_work(folder: Path, config: Path, reference: str) -> Iterator[str]:
    """Have a daemon take a webhook and run its hook; then type what its user types."""
    told = folder / "told"
    with serving(folder, config) as (address, _):
        _send(address, reference)
        wait_until(lambda: told.exists() and reference in told.read_text())
        done = _python(folder, "-c", TYPED, str(config), *COMMANDS)
        if "Traceback" in done.stderr or done.returncode:
            yield f"a command fails: {done.stderr[-1000:]}"


def _send(address: str, reference: str, number: int = 0) -> None:
    """Send a webhook of this verification: `once` skips one of another that has succeeded."""
    body = BODY.replace(b"r-1", reference.encode()).replace(b"{", b'{"number": %d, ' % number, 1)
    answer = request(address, "POST", PATH, body, signed(body))
    if answer.status != 200:
        raise BrokenError(f"a webhook gets {answer.status}")


def _rows(folder: Path, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(folder / "premblyd.db")) as database:
        return database.execute(sql).fetchall()


def _commands(names: Collection[str]) -> Iterator[str]:
    for name in names:
        module = importlib.import_module(f"premblyd.features.{name}")
        commands = getattr(module, "COMMANDS", ())
        yield from (each.name for each in commands if " " not in each.name)


def _tables(names: Collection[str]) -> set[str]:
    found = set()
    for name in names:
        if (PACKAGE / "features" / name / "tables.py").exists():
            module = importlib.import_module(f"premblyd.features.{name}.tables")
            found |= {table._meta.table_name for table in getattr(module, "TABLES", ())}
    return found


def _python(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=os.environ
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("features", nargs="*", choices=[*FEATURES, []], metavar="FEATURE")
    parser.add_argument("--all-at-once", action="store_true")
    options = parser.parse_args()
    chosen = options.features or FEATURES
    sets = [going_with({name}) for name in chosen]
    if options.all_at_once:
        sets = [going_with(chosen)]
    worst = 0
    for names in sets:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            faults = list(broken(names, Path(folder)))
            print(f"without {' '.join(sorted(names))}: {len(faults) or 'nothing'} broken")
            for fault in faults:
                print(f"    {fault}")
            worst |= bool(faults)
            if options.all_at_once and not faults:
                row = "{:12} {:>6} {:>5} {:>8} {:>7}"
                print(row.format("", "lines", "files", "start ms", "RSS MiB"))
                for what, code in {"whole": PACKAGE.parent, "what is left": Path(folder)}.items():
                    print(row.format(what, *measured(code, Path(folder) / "premblyd.yaml")))
    return worst


def measured(code: Path, config: Path) -> tuple[int, int, int, int]:
    """Return how many lines of code there are, without comments and docstrings, in how many files;
    how many ms of processor a daemon needs until it is ready, and its memory."""
    files = [*(code / "premblyd").rglob("*.py")]
    lines = sum(map(_lines, files))
    with serving(code, config) as (_, daemon):
        about = Path(f"/proc/{daemon.pid}")
        ticks = sum(map(int, (about / "stat").read_text().rpartition(")")[2].split()[11:13]))
        memory = (about / "status").read_text().partition("VmRSS:")[2].split()[0]
    return lines, len(files), ticks * 1000 // os.sysconf("SC_CLK_TCK"), int(memory) >> 10


def _lines(file: Path) -> int:
    text = re.sub(r'^ *""".*?"""$', "", file.read_text(), flags=re.DOTALL | re.MULTILINE)
    return sum(1 for line in text.splitlines() if line.strip(" \n") and line.lstrip()[:1] != "#")


if __name__ == "__main__":
    sys.exit(main())
