"""The copy of events' keys: files sealed by age, of which only the newest is kept. A copy of the
record has none of these keys; so what is erased, and has gone from here, no copy opens any more.

    premblyd-keys.json         which files there are, and of when; nothing of it is secret
    premblyd-keys-000000.age   keys, by the events that they open
    premblyd-keys-erased.age   the digests' key, and who was erased, is held, or has left

They are written anew one by one, the list last: whoever is killed leaves files that are whole, and
is to run again.
"""

import base64
import contextlib
import io
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from premblyd.agefiles import Identity, require_recipients, sealed
from premblyd.backup import folder as folders
from premblyd.config.models import Config
from premblyd.engines.engine import Database
from premblyd.errors import LacksRightsError, PremblydError, TryAgainError
from premblyd.keep import keycopies, operators, restoring
from premblyd.keep.keycopies import KeptKeys
from premblyd.keep.restoring import Remembered
from premblyd.newfile import sync

INDEX = "premblyd-keys.json"
ERASED = "premblyd-keys-erased.age"
FORMAT = 1
WAIT_S = 60.0  # for another command that renews them
AGAIN_S = 0.1


class NoKeysError(PremblydError):
    """There is no copy of events' keys that could be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What the list says of the files."""

    made_at_ms: int
    newest_event_id: int
    recipients: list[str]
    chunks: dict[str, Any]  # by their numbers, as Chunk has them


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What a keys' copy has now."""

    keys: int
    written: int  # of its files with keys
    erasure_id: int  # nothing of who was erased up to this


def folder_of(settings: Config) -> Path | None:
    """Return where the keys' copy is; None: there is none to be kept, as nothing is sealed or no
    folder is named."""
    if settings.encryption is None or settings.backup is None:
        return None
    return settings.backup.keys


def require(settings: Config, copies: Path) -> Path | None:
    """Return where the keys' copy of a record is to be, before a copy is made in another folder;
    None: nothing is sealed. Raise PremblydError when it can't be made."""
    if settings.encryption is None:
        return None
    recipients = settings.backup.recipients if settings.backup else ()
    place = folder_of(settings)
    if not recipients or place is None:
        raise PremblydError(
            "With `encryption` a copy has none of the keys that open it, so these are copied too:"
            " `backup: {recipients: [age1…], keys: /var/lib/premblyd/keys}` says to whom they are"
            " sealed, and in which folder of their own. Nothing was copied."
        )
    require_recipients(recipients)
    with folders.explained(place):
        is_same = os.path.samefile(place, copies) if copies.exists() else False
        os.listdir(place)
    if not os.access(place, os.W_OK):
        raise LacksRightsError(f"You may not write into {place}. Nothing was copied.")
    if is_same:
        raise PremblydError(
            f"{place} is for the keys' copy alone, of which only the newest is kept: copy the"
            " record into another folder."
        )
    return place


def keep_up(settings: Config, database: Database, actor: str, pause_s: float = 0) -> Renewed | None:
    """Renew the keys' copy, if there is one to be kept, and put that on record. Raise PremblydError
    when it can't be renewed."""
    place = folder_of(settings)
    if place is None or settings.backup is None:
        return None
    renewed = renew(database, place, settings.backup.recipients, pause_s)
    note = keycopies.up_to(renewed.erasure_id)
    now_ms = database.now_ms()
    database.transact(
        lambda transaction: operators.write_down(transaction, actor, operators.KEYS, now_ms, note)
    )
    return renewed


def renew(
    database: Database, place: Path, recipients: Sequence[str], pause_s: float = 0
) -> Renewed:
    """Have the keys' copy hold the keys that are there now, and no others; `pause_s`: rest so long
    behind each file. Raise FolderError when the folder is not there, LacksKeyError when a data key
    is not, PremblydError when it can't be written: what was there is there still."""
    if not recipients:
        raise PremblydError("The keys' copy is for nobody: `backup` has no recipients.")
    require_recipients(recipients)
    with _alone(place), folders.writing(place, f"The keys' copy in {place} could not be renewed"):
        folders.clean(place)
        before = _index(place)
        erasure_id = database.look(keycopies.newest_erasure_id)  # one that comes now may be missed
        index = Index(
            made_at_ms=database.now_ms(),
            newest_event_id=database.look(keycopies.newest_event_id),
            recipients=list(recipients),
            chunks={str(each.number): asdict(each) for each in database.look(keycopies.chunks)},
        )
        _write(place, ERASED, _text_of(database.look(restoring.remember)), recipients)
        written = 0
        for number, chunk in index.chunks.items():
            if not _is_same(place, before, index, number):
                found = database.look(partial(keycopies.secrets, number=chunk["number"]))
                _write(place, _name(number), json.dumps({"keys": found}), recipients)
                written += 1
                time.sleep(pause_s)
        _write(place, INDEX, json.dumps({"format": FORMAT, **asdict(index)}))
        _remove_others(place, index)
        sync(place)
    keys = sum(chunk["count"] for chunk in index.chunks.values())
    return Renewed(keys=keys, written=written, erasure_id=erasure_id)


def read(place: Path, identity: Identity) -> KeptKeys:
    """Read a keys' copy. Raise NoKeysError when there is none, CannotOpenError when it is not
    sealed to this identity."""
    index = _index(place)
    if index is None:
        raise NoKeysError(
            f"{place} has no copy of events' keys ({INDEX}): without it nobody can open what is"
            " sealed in the copy. `--keys DIR` names where it is."
        )
    found = _opened(place, ERASED, identity)
    keys: dict[str, bytes] = {}
    for number in index.chunks:
        for key, secret in _opened(place, _name(number), identity)["keys"].items():
            keys[key] = base64.b64decode(secret)
    rows = {name: [tuple(row) for row in each] for name, each in found["rows"].items()}
    remembered = Remembered(
        key=base64.b64decode(found["digest_key"]), rows=rows, events=found["events"]
    )
    return KeptKeys(
        secrets=keys,
        remembered=remembered,
        newest_event_id=index.newest_event_id,
        made_at_ms=index.made_at_ms,
    )


def _text_of(remembered: Remembered) -> str:
    return json.dumps(
        {
            "digest_key": base64.b64encode(remembered.key).decode(),
            "rows": remembered.rows,
            "events": remembered.events,
        }
    )


def _opened(place: Path, name: str, identity: Identity) -> Any:
    out = io.BytesIO()
    try:
        with (place / name).open("rb") as file:
            identity.open(file, out)
        return json.loads(out.getvalue())
    except PermissionError:
        raise LacksRightsError(f"You may not read {place / name}.") from None
    except OSError as error:
        raise NoKeysError(
            f"The keys' copy is not whole: {place / name}: {error.strerror}."
        ) from None
    except ValueError:
        raise NoKeysError(f"{place / name} has no keys in it.") from None


def _name(number: str) -> str:
    return f"premblyd-keys-{int(number):06}.age"


def _index(place: Path) -> Index | None:
    """Return what the list says; None: there is none that can be read, so all is to be written."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        document = json.loads((place / INDEX).read_bytes())
        if document.pop("format", None) == FORMAT:
            return Index(**document)
    return None


def _is_same(place: Path, before: Index | None, now: Index, number: str) -> bool:
    """Return whether the file of a portion has these keys already."""
    if before is None or before.recipients != now.recipients:
        return False
    is_same: bool = before.chunks.get(number) == now.chunks[number]
    return is_same and (place / _name(number)).is_file()


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Wait until nobody else renews: whoever read the keys before would write what is gone."""
    until_s = time.monotonic() + WAIT_S
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(folders.held(place))
            except TryAgainError:
                if time.monotonic() >= until_s:
                    raise
                time.sleep(AGAIN_S)
                continue
            yield
            return


def _write(place: Path, name: str, text: str, recipients: Sequence[str] = ()) -> None:
    with folders.written(place / name) as file, sealed(file, recipients) as out:
        out.write(text.encode())


def _remove_others(place: Path, index: Index) -> None:
    """Remove the portions of which no key is there any more."""
    there = set(map(_name, index.chunks))
    for path in place.glob("premblyd-keys-[0-9]*.age"):
        if path.name not in there:
            path.unlink()
