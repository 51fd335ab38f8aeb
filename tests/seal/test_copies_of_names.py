"""With sealed names a copy of the record has none of them, and what is put back knows all again:
under another data key too, save who was erased since."""

import json
from pathlib import Path
from typing import Any

import pyrage
import pytest

from premblyd.engines.connections import backend
from premblyd.vault import DataKey, Vault
from tests.support.commands import Ran, run
from tests.support.database import rows
from tests.support.sealing import KEY, OTHER_KEY
from tests.support.store import store_at

pytestmark = pytest.mark.sqlite
IDENTITY = pyrage.x25519.Identity.generate()
NAMES = Vault(DataKey.read(KEY), seals_names=True)
PEOPLE = ("hush-amina", "hush-tunde")
STORED = "SELECT reference, user_ref, lacks FROM event ORDER BY id"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration of a record of two people, whose names are sealed; and a copy of it."""
    at = tmp_path / "record"
    for folder in (at, tmp_path / "copies", tmp_path / "keys"):
        folder.mkdir(mode=0o700)
    place = at / "premblyd.db"
    backend(place).prepare()
    with store_at(place, NAMES) as store:
        for name in PEOPLE:
            store.add(body=name.encode(), reference=f"{name}-1", user_ref=name, session_id=None)
    for name, key in (("first", KEY), ("second", OTHER_KEY)):
        (at / name).touch(0o600)
        (at / name).write_text(key)
    (tmp_path / "identity").write_text(f"{IDENTITY}\n")
    path = at / "premblyd.yaml"
    configure(path, "first", identity="sealed")
    assert command(path, "backup", tmp_path / "copies").code == 0
    return path


def configure(path: Path, key: str, **more: str) -> None:
    folder = path.parents[1]
    settings = {
        "database": "sqlite:///premblyd.db",
        "endpoints": [{"name": "prembly", "path": "/prembly", "keys": {"live": "k"}}],
        "encryption": {"key": {"file": key}, **more},
        "backup": {"recipients": [str(IDENTITY.to_public())], "keys": f"{folder}/keys"},
    }
    path.write_text(json.dumps(settings))


def command(config: Path, *arguments: object) -> Ran:
    return run(*arguments, "--config", config)


def restore(config: Path) -> None:
    folder = config.parents[1]
    done = command(config, "restore", folder / "copies", "--identity", folder / "identity")
    assert done.code == 0, done


def found(config: Path, *filters: str) -> list[Any]:
    done = command(config, "events", *filters, "--json")
    assert done.code == 0, done
    return [event["reference"] for event in json.loads(done.out)]


def test_a_copy_has_no_name(config: Path, tmp_path: Path) -> None:
    [copy] = (tmp_path / "copies").iterdir()
    content = pyrage.decrypt(copy.read_bytes(), [IDENTITY])
    assert b"sealed-" in content
    assert b"hush" not in content


@pytest.mark.parametrize("key", ["first", "second"])
def test_what_is_put_back_knows_the_names_and_no_erased_one(config: Path, key: str) -> None:
    before = rows(config.with_name("premblyd.db"), STORED)
    assert command(config, "erase", "--user-ref", "hush-amina", "--yes").code == 0
    if key == "second":  # as where database and data key were lost
        config.with_name("premblyd.db").unlink()
    configure(config, key, identity="sealed")
    restore(config)
    assert rows(config.with_name("premblyd.db"), STORED) == [(None, None, "erased"), before[1]]
    assert found(config, "--user-ref", "hush-tunde") == ["hush-tunde-1"]
    assert found(config, "--user-ref", "hush-amina") == []
    with store_at(config.with_name("premblyd.db"), vault(key)) as store:
        again = store.add(reference="hush-amina-1", user_ref=None, session_id=None)
        assert again.is_erased


def vault(key: str) -> Vault:
    return Vault(DataKey.read({"first": KEY, "second": OTHER_KEY}[key]), seals_names=True)
