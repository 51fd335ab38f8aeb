"""What users install, built as a release builds it."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.needs import UnavailableError
from tests.support.pages import ROOT, blocks

# So that what is not committed yet is tested too, and the same bytes come of it each time.
_COMMIT = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "a"), ("EMAIL", "a@example"), ("DATE", "1790000000 +0000"))
}


@dataclass(frozen=True)
class Built:
    """A checkout, and what was built of it."""

    tree: Path
    wheel: Path
    sdist: Path


@dataclass(frozen=True)
class Released:
    """A checkout, and the folder of its release; `signer` is the line that says whose it is."""

    tree: Path
    folder: Path
    image: Path
    signer: str


def checkout(folder: Path) -> Path:
    """Make a checkout in `folder` of this tree as it is now, in one commit. Return the folder."""
    if not (ROOT / ".git").exists():
        raise UnavailableError("needs a git checkout")
    folder.mkdir()
    files = "git ls-files -z --cached --others --exclude-standard"
    packed = f"{files} | tar -c --null --ignore-failed-read -T -"
    copy = f"{packed} | tar -x -C {shlex.quote(str(folder))}"
    subprocess.run(["bash", "-euo", "pipefail", "-c", copy], cwd=ROOT, check=True)
    for words in ("init -q", "add -A", "commit -q -m all"):
        subprocess.run(["git", *words.split()], cwd=folder, check=True, env=os.environ | _COMMIT)
    return folder


def version_of(tree: Path) -> str:
    """Return what a tree that is built calls itself."""
    command = [sys.executable, str(tree / "systemd/version.py")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def build(tree: Path, out: Path, *, umask: int = 0o022, **environ: str) -> Built:
    """Build wheel and source distribution of a checkout into the folder `out`."""
    how: dict[str, Any] = {"env": os.environ | environ, "umask": umask}
    command = [tree / "systemd/build-wheel", out]
    done = subprocess.run(command, capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stderr
    wheel, sdist = map(Path, done.stdout.splitlines())
    return Built(tree, wheel, sdist)


def refused(*command: str | Path) -> str:
    """Return what a script says that refuses to build anything."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def tool(name: str) -> list[str]:
    """Return the command of a tool. Raise UnavailableError if it is absent."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        raise UnavailableError(f"needs {name} (apt-get install pipx, pip install -e '.[release]')")
    return [found]


def page_of(section: str) -> list[str]:
    """Return the blocks that a reader types in a section of the page."""
    lines = (ROOT / "docs/install.md").read_text().splitlines()
    begin = lines.index(f"## {section}") + 1
    heads = [number for number, line in enumerate(lines, 1) if line.startswith("## ")]
    end = min([number for number in heads if number > begin], default=len(lines))
    found = (block for block in blocks("sh") if block.page == "docs/install.md")
    return [block.text for block in found if begin < block.line < end]
