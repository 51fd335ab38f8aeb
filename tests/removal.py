"""Take features out of a copy of premblyd, and see whether the rest is whole:

    python -m tests.removal [FEATURE …]     (none: all of them, one after the other)
    python -m tests.removal --all-at-once

With a feature go those that need it. What it prints is what breaks, if anything does.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

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
COMMANDS = ("check", "status", "events", "deliveries", "show 1", "replay 1")


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


def broken(names: Collection[str], folder: Path) -> Iterator[str]:
    """Yield what does not work without these features, in words."""
    without(names, folder)
    if failed := _python(folder, "-c", IMPORT_ALL).stdout:
        yield from failed.splitlines()
        return
    commands = _python(folder, "-m", "premblyd", "--help").stdout
    yield from (
        f"`premblyd {name}` is left" for name in _commands(names) if f"  {name} " in commands
    )
    yield from _broken_at_work(names, folder)


def _broken_at_work(names: Collection[str], folder: Path) -> Iterator[str]:
    """Have a daemon take a webhook and run its hook; then type what its user types."""
    told, config = folder / "told", folder / "premblyd.yaml"
    action = {
        "name": "tell",
        "response_codes": ["*"],
        "shell": f"cat > {told}.new; mv {told}.new {told}",
    }
    settings = {
        "listen": "127.0.0.1:0",
        "database": f"sqlite:///{folder}/premblyd.db",
        "endpoints": [{"name": "prembly", "path": PATH, "keys": {"live": KEY}}],
        "actions": [action],
    }
    config.write_text(json.dumps(settings))
    log = folder / "log"
    with log.open("wb") as written:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "premblyd", "--config", str(config), "serve"],
            cwd=folder,
            stderr=written,
            stdout=written,
        )
    try:
        wait_until(lambda: "daemon.started" in log.read_text() or daemon.poll() is not None)
        if daemon.poll() is not None:
            yield f"the daemon does not start: {log.read_text()[-1000:]}"
            return
        address = re.search(r"127\.0\.0\.1:\d+", log.read_text())
        assert address
        answer = request(address[0], "POST", PATH, BODY, signed(BODY))
        if answer.status != 200:
            yield f"a webhook gets {answer.status}"
            return
        wait_until(lambda: told.exists() or daemon.poll() is not None)
        for command in COMMANDS:
            done = _python(folder, "-m", "premblyd", "--config", str(config), *command.split())
            if "Traceback" in done.stderr or done.returncode not in (0, 1):
                yield f"premblyd {command}: {done.stderr[-1000:]}"
    finally:
        daemon.terminate()
        if code := daemon.wait():
            yield f"the daemon ends with {code}: {log.read_text()[-1000:]}"
    with sqlite3.connect(folder / "premblyd.db") as database:
        left = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    yield from (f"the table {table} is left" for table in sorted(left & _tables(names)))


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
    sets = [going_with({name}) for name in options.features or FEATURES]
    if options.all_at_once:
        sets = [set(FEATURES)]
    worst = 0
    for names in sets:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            faults = list(broken(names, Path(folder)))
            print(f"without {' '.join(sorted(names))}: {len(faults) or 'nothing'} broken")
            for fault in faults:
                print(f"    {fault}")
            worst |= bool(faults)
    return worst


if __name__ == "__main__":
    sys.exit(main())
