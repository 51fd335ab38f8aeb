"""Records of stopped daemons, plain and encrypted, and copies of them."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

from premblyd.features.backup.taking import Source
from premblyd.features.keeping.erasurelines import write_all
from premblyd.ground.databases import DatabaseAddress, EncryptedFile
from premblyd.store.connections import connect_operator, connect_read_only
from premblyd.store.sqlite.files import beside
from tests.support.commands import json_of, record, run
from tests.support.database import file_in


def configured(folder: Path, *, is_encrypted: bool) -> Path:
    folder.mkdir()
    config = record(folder)
    if is_encrypted:
        encrypt(config)
    return config


def encrypt(config: Path) -> None:
    """Let the record be encrypted from now on."""
    place = file_in(config.parent, is_encrypted=True)
    new = config.with_name("new")
    new.touch()
    assert isinstance(place, EncryptedFile)
    with closing(Source(place.path, place.key_path)) as source:
        source.write(new, place.key_path, lambda *_: None)
    new.rename(place.path)
    settings = json.loads(config.read_text())
    settings["encryption"] = {"key": {"file": place.key_path.name}}
    config.write_text(json.dumps(settings))


def remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        beside(database, suffix).unlink(missing_ok=True)


def put(file: Path, database: Path) -> None:
    """Put a file in its place as somebody does by hand."""
    remove(database)
    shutil.copy(file, database)


def place_of(config: Path) -> DatabaseAddress:
    is_encrypted = "encryption" in json.loads(config.read_text())
    place = config.with_name("premblyd.db")
    return EncryptedFile(place, config.with_name("database.key")) if is_encrypted else place


def rows(config: Path, sql: str) -> list[Any]:
    with closing(connect_read_only(place_of(config))) as database:
        return list(database.connection().execute(sql))


def change(config: Path, sql: str) -> None:
    with closing(connect_operator(place_of(config))) as database:
        database.connection().execute(sql)


def copied(config: Path, folder: Path) -> Path:
    return folder / str(json_of(config, "record", "backup", folder)["file"])


def remember(config: Path, folder: Path) -> None:
    with closing(connect_read_only(place_of(config))) as database:
        write_all(database, folder)


def erase(config: Path, event_id: int) -> None:
    ran = run("person", "erase", "--event", event_id, "--yes", "--config", config)
    assert ran.code == 0, ran


def erased(config: Path) -> list[int]:
    found = rows(config, "SELECT id FROM event WHERE removed_parts = 'erased' ORDER BY id")
    return [number for (number,) in found]
