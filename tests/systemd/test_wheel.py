"""The wheel and the source distribution: what is in them, and what comes of them elsewhere."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.pages import ROOT
from tests.support.ports import free_port
from tests.support.rows import for_each
from tests.support.waiting import wait_until
from tests.systemd.built import Built, build, checkout, page_of, refused, tool, version_of

pytestmark = pytest.mark.release


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    return build(checkout(folder / "a"), folder / "dist")


def described(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        return message_from_bytes(wheel.read(name))


def test_the_same_commit_gives_the_same_bytes_in_any_folder_for_anybody(
    built: Built, tmp_path: Path
) -> None:
    other = checkout(tmp_path / "another folder")
    for path in other.rglob("*"):
        if path.is_file() and not path.is_symlink() and ".git" not in path.parts:
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (1, 1))
    again = build(other, tmp_path / "dist", umask=0o077, TZ="Africa/Lagos")
    assert again.wheel.read_bytes() == built.wheel.read_bytes()
    assert again.sdist.read_bytes() == built.sdist.read_bytes()


def test_what_is_not_committed_is_not_built(tmp_path: Path) -> None:
    tree = checkout(tmp_path / "a")
    build_wheel = (tree / "systemd/build-wheel", tmp_path / "dist")
    (tree / "README.md").write_text("not committed")
    assert "commit or undo your changes first" in refused(*build_wheel)
    shutil.rmtree(tree / ".git")
    assert "run this in a checkout of git" in refused(*build_wheel)


def test_the_source_distribution_is_the_whole_checkout_and_makes_the_same_wheel(
    built: Built, tmp_path: Path
) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="tar")
    (tree,) = tmp_path.iterdir()
    assert tree.name == f"premblyd-{version_of(built.tree)}"
    listed = subprocess.run(["git", "ls-files"], cwd=built.tree, capture_output=True, text=True)
    # A link to a folder is an entry of its own, of which git has just the link.
    files = (path for path in tree.rglob("*") if path.is_symlink() or not path.is_dir())
    found = {str(path.relative_to(tree)) for path in files}
    assert found == {*listed.stdout.splitlines(), "PKG-INFO"}
    about = message_from_bytes((tree / "PKG-INFO").read_bytes())
    assert about["Version"] == version_of(tree) == version_of(built.tree)
    builder = Path(sys.executable)  # has a setuptools
    pip = (builder, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w")
    subprocess.run([*pip, tmp_path / "dist", tree], check=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as made, zipfile.ZipFile(built.wheel) as known:
        contents = {name: made.read(name) for name in made.namelist()}
        ours = {name: known.read(name) for name in known.namelist()}
    # Which setuptools made it is in WHEEL, and the digest of that in RECORD.
    differing = {name for name in ours | contents if ours.get(name) != contents.get(name)}
    assert {Path(name).name for name in differing} <= {"WHEEL", "RECORD"}


def test_the_wheel_has_all_of_the_package_and_says_of_which_commit_it_is(built: Built) -> None:
    def git(folder: Path, *words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True).stdout

    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        package = wheel.read("premblyd/__init__.py").decode()
    assert names == set(git(ROOT, "ls-files", "premblyd").splitlines())
    commit = git(built.tree, "rev-parse", "--short=8", "HEAD").strip()
    assert described(built)["Version"].endswith(f"+g{commit}")
    assert f'\n__version__ = "{described(built)["Version"]}"\n' in package


def test_an_index_gets_all_that_it_shows_and_no_address_that_is_not_there(built: Built) -> None:
    about = described(built)
    assert (about["Name"], about["License-Expression"]) == ("premblyd", "MIT")
    assert about["Description-Content-Type"] == "text/markdown"
    assert about["Requires-Python"] == ">=3.11"
    assert about["Summary"]
    assert about["Project-URL"] is about["Home-page"] is about["Author-email"] is None
    text = about.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert text.startswith("# premblyd\n")
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "- How do I write a worker? `docs/worker-protocol.md`\n" in text
    subprocess.run([*tool("twine"), "check", "--strict", built.wheel, built.sdist], check=True)


@for_each("installer", ["pipx", "uv"])
def test_from_the_page_to_the_first_signed_webhook(
    built: Built, installer: str, tmp_path: Path
) -> None:
    """As a stranger with an empty home. The daemon and its commands are what was installed."""
    install, serve, look = page_of("pipx or uv")
    command = {"pipx": "pipx install", "uv": "uv tool install"}[installer]
    install = install.replace("pipx install", command)
    home = tmp_path / installer
    home.mkdir()
    shutil.copy(built.wheel, home)
    port = free_port()
    ours = ("PREMBLYD_", "PYTHON", "VIRTUAL_ENV")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = f"{home}/.local/bin:{Path(*tool(installer)).parent}:{environ['PATH']}"
    environ |= {"HOME": str(home), "PATH": path, "UV_PYTHON": sys.executable}
    environ |= {"PREMBLYD_CONFIG": f"{home}/webhooks/premblyd.yaml"}
    if links := environ.get("PIP_FIND_LINKS"):
        environ["UV_FIND_LINKS"] = links

    def shell(text: str, stdin: str = "") -> str:
        how: dict[str, Any] = {"cwd": home, "env": environ, "input": stdin}
        done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, **how)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    shell(install)
    assert Path(shell("command -v premblyd").strip()).parent == home / ".local/bin"
    assert "premblyd" in shell("premblyd demo --once")
    shell(f"sed -i 's|^listen: .*|listen: 127.0.0.1:{port}|' webhooks/premblyd.yaml")
    *before, last = serve.splitlines()
    shell("\n".join(before), stdin="live_pk_of_a_stranger\n")
    assert last == "premblyd serve"
    with (home / "log").open("wb") as log:
        # Not by a shell, which would be what is ended.
        program = home / ".local/bin/premblyd"
        daemon = psutil.Popen([program, "serve"], cwd=home, env=environ, stderr=log, stdout=log)
    try:
        wait_until(lambda: answers(port) or daemon.poll() is not None)
        assert daemon.poll() is None, (home / "log").read_text()
        send, events = look.splitlines()
        assert "200 " in shell(send)
        assert "sample-api" in shell(events)
    finally:
        daemon.terminate()
        daemon.wait()
    assert (home / "webhooks/premblyd.db").stat().st_size


def answers(port: int) -> bool:
    command = ["curl", "-sf", f"http://127.0.0.1:{port}/healthz"]
    return subprocess.run(command, capture_output=True).stdout == b'{"status":"ok"}'
