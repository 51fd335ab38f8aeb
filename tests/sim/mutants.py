"""Breaks the daemon in ways that matter (mutants.txt), and says how many the simulator sees.

    python -m tests.sim.mutants [WORD …]      those whose names have one of these words

Each is tried in a copy of the tree, with new seeds until --seconds of processor are over.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ASKED = 0.95


class Mutant(NamedTuple):
    """A text that stands once in a file, and what stands there instead. `hosts`: in how many of
    which it is looked for; none: in one on SQLite."""

    name: str
    file: str
    text: str
    instead: str
    hosts: str

    def apply(self, root: Path) -> None:
        """Break the copy of the tree. Raise ValueError when the text is not there any more."""
        path = root / "premblyd" / self.file
        source = path.read_text()
        if source.count(self.text) != 1:
            raise ValueError(f"{self.name}: found {source.count(self.text)} times in {self.file}")
        path.write_text(source.replace(self.text, self.instead))


def mutants() -> Iterator[Mutant]:
    for block in Path(__file__).with_name("mutants.txt").read_text().split("\n= "):
        name, file, *lines = block.removeprefix("= ").splitlines()
        text, instead = (
            "\n".join(line[2:] for line in lines if line[0] == sign) for sign in ("-", "+")
        )
        file, _, hosts = file.removeprefix("@ ").partition(" ")
        yield Mutant(name, file, text, instead, hosts[1:2])


def found_by(mutant: Mutant, seconds: float, first: int) -> str | None:
    """Return what the simulator says of it; None: that all is well."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("premblyd", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, Path(folder, name), ignore=ignored)
        mutant.apply(Path(folder))
        command = [sys.executable, "-m", "tests.sim", f"--first={first}", f"--seconds={seconds}"]
        command += [f"--hosts={mutant.hosts}"] if mutant.hosts else []
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not ended.returncode:
        return None
    said = re.findall(r"^after (.* s) of processor\n(seed \d+: .*)$", ended.stdout, re.MULTILINE)
    return " ".join(said[0]) if said else ended.stderr.strip().splitlines()[-1]


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.sim.mutants")
    options.add_argument("words", nargs="*")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--first", type=int, default=1)
    given = options.parse_args()
    chosen = [
        each for each in mutants() if not given.words or any(map(each.name.count, given.words))
    ]
    seen = 0
    for mutant in chosen:
        told = found_by(mutant, given.seconds, given.first)
        seen += told is not None
        print(f"{mutant.name}: {told or 'NOT SEEN'}"[:200], flush=True)
    print(f"{seen} of {len(chosen)} seen")
    return 0 if seen >= ASKED * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
