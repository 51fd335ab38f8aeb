"""Which version a tree is: that of `premblyd/__init__.py`. Between releases, where that ends with
.dev0, the time of its commit stands in the place of the 0, and behind it the commit.

    python3 version.py    prints it
"""

import re
import subprocess
import sys
import time
from pathlib import Path

TREE = Path(__file__).absolute().parent.parent
LINE = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)
ARCHIVED = "$Format:%ct %H$"  # filled in by `git archive`, see .gitattributes


def version() -> str:
    found = LINE.search((TREE / "premblyd/__init__.py").read_text(encoding="utf-8"))
    if found is None:
        raise ValueError("premblyd/__init__.py has no __version__")
    named = found[1]
    commit = re.fullmatch(r"(\d+) ([0-9a-f]{8})[0-9a-f]*(-dirty)?", _commit())
    if not named.endswith(".dev0") or commit is None:
        return named
    at_s, digest, changed = commit.groups()
    at = time.strftime("%Y%m%d%H%M%S", time.gmtime(int(at_s)))
    return f"{named[:-1]}{at}+g{digest}{'.changed' if changed else ''}"


def _commit() -> str:
    """Return time and name of the commit, and whether its files were changed since."""
    if not (TREE / ".git").exists():  # also below a checkout of something else
        return ARCHIVED
    try:
        at_s = _git("log", "-1", "--format=%ct")
        return f"{at_s} {_git('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')}"
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    # The tree may be another user's: root installs it.
    command = ["git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(TREE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


VERSION = version()

if __name__ == "__main__":
    sys.stdout.write(f"{VERSION}\n")
