"""A release: what is in its folder, what its SBOMs name, and how anybody checks it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.needs import UnavailableError
from tests.support.pages import ROOT
from tests.systemd.built import Released, checkout, page_of, refused, version_of

pytestmark = pytest.mark.release


@pytest.fixture
def version(released: Released) -> str:
    return version_of(released.tree)


@pytest.fixture
def wheel(version: str) -> str:
    return f"premblyd-{version}-py3-none-any.whl"


def sbom(file: Path, version: str) -> dict[str, Any]:
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError:
        raise UnavailableError("needs pip install -e '.[release]'") from None
    text = file.with_name(f"{file.name}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found: dict[str, Any] = json.loads(text)
    assert found["metadata"]["component"]["name"] == "premblyd"
    assert found["metadata"]["component"]["version"] == version
    return found


def test_each_file_that_is_installed_has_an_sbom_and_each_file_a_sum(
    released: Released, version: str, wheel: str
) -> None:
    names = {path.name for path in released.folder.iterdir()}
    installed = {wheel, released.image.name}
    described = {f"{name}.cdx.json" for name in installed}
    summed = {*installed, *described, f"premblyd-{version}.tar.gz"}
    assert names == {*summed, "SHA256SUMS", "SHA256SUMS.sig"}
    lines = (released.folder / "SHA256SUMS").read_text().splitlines()
    assert {line.split()[1] for line in lines} == summed


def test_the_wheels_sbom_names_each_package_that_it_was_tested_with(
    released: Released, version: str, wheel: str
) -> None:
    locked = (ROOT / "systemd/requirements.txt").read_text()
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", locked, re.MULTILINE))
    del pinned["setuptools"]  # builds it
    found = sbom(released.folder / wheel, version)
    named = {part["name"]: part for part in found["components"]}
    assert {name: part["version"] for name, part in named.items()} == pinned | {"premblyd": version}
    assert all(part["purl"].startswith(f"pkg:pypi/{name}@") for name, part in named.items())
    assert named["tornado"]["licenses"]
    needs = {row["ref"]: row.get("dependsOn", []) for row in found["dependencies"]}
    assert named["tornado"]["bom-ref"] in needs[named["premblyd"]["bom-ref"]]
    assert named["markdown-it-py"]["bom-ref"] in needs[named["rich"]["bom-ref"]]


@pytest.fixture
def copied(released: Released, tmp_path: Path) -> Path:
    """The release as somebody gets it, without the large image, who knows the key."""
    for path in released.folder.iterdir():
        if path != released.image:
            shutil.copy(path, tmp_path)
    (tmp_path / released.image.name).symlink_to(released.image)
    (tmp_path / "allowed_signers").write_text(f"{released.signer}\n")
    return tmp_path


def check(folder: Path) -> bool:
    (lines,) = page_of("Check a release")
    done = subprocess.run(["bash", "-euc", lines], cwd=folder, capture_output=True, text=True)
    assert done.returncode or 'Good "premblyd-release" signature for premblyd' in done.stdout
    return not done.returncode


def test_a_release_is_checked_by_the_page_and_a_changed_byte_is_seen(
    copied: Path, wheel: str
) -> None:
    assert check(copied)
    file = copied / wheel
    whole = file.read_bytes()
    file.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    assert not check(copied)
    file.write_bytes(whole)
    sums = copied / "SHA256SUMS"
    text = sums.read_text()
    sums.write_text(text.replace(" premblyd", "  premblyd", 1))
    assert not check(copied)
    sums.write_text(text)
    assert check(copied)
    # Signed by another key.
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", copied / "k"], check=True)
    (copied / "SHA256SUMS.sig").unlink()
    sign = "ssh-keygen -q -Y sign -f k -n premblyd-release SHA256SUMS"
    subprocess.run(sign.split(), cwd=copied, check=True)
    assert not check(copied)


def test_a_release_that_fails_says_why_at_its_end_and_leaves_nothing(tmp_path: Path) -> None:
    if not shutil.which("podman"):
        raise UnavailableError("needs podman (apt-get install podman crun)")
    tree, out, key = checkout(tmp_path / "premblyd"), tmp_path / "out", tmp_path / "key"
    release = tree / "systemd/release"
    assert "is not empty" in refused(release, tree, tree / "README.md")
    assert "README.md is no SSH key" in refused(release, out, tree / "README.md")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (tree / "README.md").write_text("not committed")
    said = refused(release, out, key).splitlines()
    assert said[-1].startswith("build-wheel: commit or undo your changes first")
    assert list(out.iterdir()) == []
