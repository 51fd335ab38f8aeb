"""What a tree calls itself, by the program that says it wherever something is built of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT

pytestmark = pytest.mark.process

BETWEEN, RELEASED = '__version__ = "1.2.3.dev0"\n', '__version__ = "1.2.3"\n'
AT = {f"GIT_{who}_DATE": "1790000000 +0100" for who in ("AUTHOR", "COMMITTER")}
WHO = ("-c", "user.name=a", "-c", "user.email=a@example")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree between two releases, in no repository."""
    folder = tmp_path / "tree"
    for name in ("systemd/version.py", "systemd/steps.sh", ".gitattributes"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "premblyd").mkdir()
    (folder / "premblyd/__init__.py").write_text(BETWEEN)
    return folder


def git(folder: Path, *words: str) -> str:
    line = ["git", "-C", str(folder), *WHO, *words]
    return subprocess.check_output(line, env=os.environ | AT, text=True)


def committed(folder: Path) -> str:
    """Commit what is in a folder. Return the version that it has now."""
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        git(folder, *words)
    commit = git(folder, "rev-parse", "--short=8", "HEAD").strip()
    return f"1.2.3.dev20260921141320+g{commit}"


def version_of(folder: Path) -> str:
    return subprocess.check_output([sys.executable, folder / "systemd/version.py"], text=True)[:-1]


def test_between_releases_a_version_says_when_its_commit_was_and_which(tree: Path) -> None:
    commit = committed(tree)
    assert version_of(tree) == commit
    (tree / "new").touch()
    assert version_of(tree) == commit, "what lies around is no change"
    with (tree / "premblyd/__init__.py").open("a") as file:
        file.write("# changed\n")
    assert version_of(tree) == f"{commit}.changed"
    (tree / "premblyd/__init__.py").write_text(RELEASED)
    assert version_of(tree) == "1.2.3"


def test_an_archive_of_git_says_of_which_commit_it_is(tree: Path, tmp_path: Path) -> None:
    commit = committed(tree)
    git(tree, "archive", "--output", str(tmp_path / "a.zip"), "HEAD")
    shutil.unpack_archive(tmp_path / "a.zip", tmp_path / "archived")
    assert version_of(tmp_path / "archived") == commit


def test_a_tree_without_a_repository_says_of_no_commit_also_in_somebody_elses(tree: Path) -> None:
    assert version_of(tree) == "1.2.3.dev0"
    (tree.parent / "theirs").touch()
    committed(tree.parent)
    assert version_of(tree) == "1.2.3.dev0"


def test_a_copy_that_is_installed_or_packed_keeps_the_version(tree: Path, tmp_path: Path) -> None:
    commit = committed(tree)
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns(".git"))
    steps = f'. {tree}/systemd/steps.sh; set_version {copy} "{version_of(tree)}"'
    subprocess.run(["sh", "-euc", steps], check=True)
    assert version_of(copy) == commit
    assert (copy / "premblyd/__init__.py").read_text() == f'__version__ = "{commit}"\n'
