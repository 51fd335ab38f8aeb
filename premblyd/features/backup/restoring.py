"""`record restore`: puts a copy in the place of the database. All is done in a file beside it, and
that takes its place at last: until then nothing is changed, and a killed restore is begun again."""

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import database_of
from premblyd.cli.printing import print_told, progress, showing
from premblyd.features.backup import copying, replacing, taking
from premblyd.features.backup.copying import ON_SERVER, copies_in, digest_of, parse
from premblyd.features.backup.taking import Source, Watch, become_owner, lacking_room
from premblyd.features.keeping.erasurelines import (
    NAME,
    AppliedAgain,
    Line,
    all_lines,
    erase_again,
    files_of,
    own_file,
    read_lines,
    record_id,
    union,
)
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress, EncryptedFile, file_of, key_of
from premblyd.ground.errors import (
    LacksRightsError,
    PremblydError,
    StoreUnavailableError,
    TryAgainError,
)
from premblyd.ground.words import counted
from premblyd.record.operating import write_down
from premblyd.store import schema
from premblyd.store.connections import backend, connect_operator, connect_read_only, translated
from premblyd.store.sqlite.connecting import NotOpenedError, failures
from premblyd.store.sqlite.files import (
    MODE,
    NEW,
    beside,
    hold,
    real_path,
    remove,
    size,
)
from premblyd.store.sqlite.opening import plain

_RECORD = "SELECT schema_number, schema_digest, record_id FROM record"
_FOUND = (
    "SELECT max(ifnull(alive_at_ms, 0), ifnull((SELECT max(received_at_ms) FROM event), 0)),"
    " (SELECT count(*) FROM delivery WHERE state IN ('pending', 'running')) FROM record"
)
# A higher number is nobody's: after the highest that there can be, no event could be stored.
_MOST_EVENTS = 1 << 52


class UnusableCopyError(PremblydError):
    """A copy can't be put in the place of the database. Nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A copy that can be put in. `newest_ms`: when its record ends; `knows_erasures`: what lay with
    the database knew them."""

    copy: str
    record: str
    newest_ms: int
    waiting: int  # deliveries
    erased_again: AppliedAgain
    newest_erasure_ms: int | None
    knows_erasures: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What a database says of its record."""

    record: str
    numbers: dict[str, int]  # the last of each table
    lines: list[Line]
    files: list[Path]  # with lines, in folders of copies


@contextlib.contextmanager
def taken_in(
    place: DatabaseAddress,
    copy: Path,
    now_ms: int,
    watch: Watch,
    *,
    actor: str,
    key_path: Path | None = None,
    erased: Path | None = None,
    is_any: bool = False,
) -> Iterator[tuple[Taken, Callable[[], Path | None]]]:
    """Give what was found in a copy, or the newest of a folder, once it lies beside the database of
    a stopped daemon without who was erased since; and what puts it in, and returns where the old
    file is kept. `key_path`: the key of the copy, if the database has another; `erased`: a file
    with erasures' lines besides those that are found; `is_any`: also a copy of another record.
    Raise UnusableCopyError, AlreadyRunningError, TryAgainError or LacksRightsError."""
    if (file := file_of(place)) is None:
        raise PremblydError(ON_SERVER)
    replaced = _known(place)
    copy = _newest(copy, replaced) if copy.is_dir() else copy
    real, own_key = real_path(file), key_of(place)
    key_path = own_key and (key_path or own_key)
    new = beside(real, NEW)
    with contextlib.ExitStack() as held:
        with _saying(copy):
            # What root alone may read is read first, and by root.
            descriptor = held.enter_context(_opened(copy))
            _require_unchanged(copy, descriptor)
            there = Path(f"/proc/self/fd/{descriptor}")  # SQLite opens no descriptors
            source = held.enter_context(closing(Source(there, key_path)))
            record = _record_of(copy, source)
            if not _is_open_twice(descriptor):
                raise UnusableCopyError(f"Somebody has replaced {copy} just now.")
            files = [copy.parent.resolve() / NAME, *([erased] if erased else [])]
            read = [read_lines(path, record) for path in files]
            lines = union(*(each.lines for each in read))
            newest = [each.event_id for each in copies_in(copy.parent, record)]
            become_owner(file)
            held.enter_context(hold(real))
            known = replaced if replaced and replaced.record == record else None
            if replaced and not known and replaced.numbers.get("event") and not is_any:
                raise UnusableCopyError(
                    f"{copy} is of the record {record}, and the database of {replaced.record}. If"
                    " that is meant, add `--record new`."
                )
            held.callback(remove, new)
            _make(new, os.fstat(descriptor).st_size)
            source.write(new, own_key, watch)
            own = read_lines(own_file(place), record)
            lines = union(lines, own.lines, known.lines if known else ())
            numbers = known.numbers if known else {}
            given = [*newest, *(line.event_id for line in lines), numbers.get("event", 0)]
            highest = max((each for each in given if each < _MOST_EVENTS), default=0)
            backend(_at(new, own_key)).prepare()  # it may be of before a feature was installed
            with closing(connect_operator(_at(new, own_key))) as database:
                watch("checking", 0, None)
                if found := taking.what_is_wrong(database.connection()):
                    raise UnusableCopyError(f"{copy} is damaged: {found}.")
                again = erase_again(database, lines, now_ms)
                [newest_ms, waiting] = database.connection().execute(_FOUND).fetchone()
                others = {*(known.files if known else ()), *(files[:1] if read[0].is_own else ())}
                for path in others.difference(files_of(database, place)):
                    copying.note(database, str(path.parent), copied_at_ms=newest_ms)
                taking.go_on_above(database.connection(), numbers | {"event": highest})
                newest_ms -= newest_ms % 1000  # people type it
                note = f"{times.iso(newest_ms)} {counted(again.events, 'event')} erased again"
                database.transact(lambda each: write_down(each, actor, "restore", now_ms, note))
                database.connection().execute("PRAGMA journal_mode = delete")  # it has no log

        def put_in() -> Path | None:
            if _known(place) != replaced:
                raise TryAgainError(f"Somebody has just written to {place}. Nothing was changed.")
            try:
                return replacing.put_in_place(new, file, now_ms, own_key)
            except OSError as error:
                told = f"{place} can't be replaced: {error.strerror}. Run the same command again."
                raise TryAgainError(told) from None

        yield (
            Taken(
                copy=str(copy),
                record=record,
                newest_ms=newest_ms,
                waiting=waiting,
                erased_again=again,
                newest_erasure_ms=lines[-1].at_ms if lines else None,
                knows_erasures=known is not None or own.is_own,
            ),
            put_in,
        )


def erase_in_place(place: DatabaseAddress, erased: Path | None, now_ms: int) -> AppliedAgain:
    """Erase again in the database what files with lines know, while no daemon has it."""
    if file := file_of(place):
        become_owner(file)
    with backend(place).hold(), closing(connect_operator(place)) as database:
        record = database.look(record_id)
        files = [*files_of(database, place), *([erased] if erased else [])]
        lines = union(*(read_lines(path, record).lines for path in files))
        return erase_again(database, lines, now_ms)


def _known(place: DatabaseAddress) -> _Known | None:
    """Return what the database says that is there; None, if there is none that can be read."""
    try:
        with closing(connect_read_only(place)) as database, translated():
            numbers = dict(database.connection().execute("SELECT name, seq FROM sqlite_sequence"))
            files = files_of(database, place)[1:]
            return _Known(database.look(record_id), numbers, all_lines(database), files)
    except PremblydError as error:
        if error.lacks_rights:
            raise
    return None


def _newest(folder: Path, replaced: _Known | None) -> Path:
    """Return the newest copy in a folder: of the record that is there, if it has one of that."""
    found = copies_in(folder)
    found = [each for each in found if replaced and each.record_id == replaced.record] or found
    if len({each.record_id for each in found}) != 1:
        has = "copies of several records: name one of them" if found else "no copy"
        raise UnusableCopyError(f"{folder} has {has}. Nothing was changed.")
    return folder / str(found[-1])


@contextlib.contextmanager
def _saying(copy: Path) -> Iterator[None]:
    """Say in words why a copy can't be put in."""
    kind: type[PremblydError] = UnusableCopyError
    try:
        yield
        return
    except UnusableCopyError as error:
        why = str(error)
    except NotOpenedError:
        why = (
            f"{copy} is damaged, or encrypted with another key than the record: `--key FILE` names"
            " that. Without `encryption` an encrypted copy can't be put in."
        )
    except StoreUnavailableError as error:
        why = f"{copy} can't be put in: {error.reason}."
    except failures() as error:
        why = f"{copy} can't be put in: {plain(error)}."
    except OSError as error:
        why = f"{error.filename or copy} can't be used: {error.strerror}."
        if isinstance(error, PermissionError):
            kind = LacksRightsError
    raise kind(f"{why} Nothing was changed.")


@contextlib.contextmanager
def _opened(copy: Path) -> Iterator[int]:
    """Open a file, and nothing else: no link is followed, no pipe is waited for."""
    descriptor = os.open(copy, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnusableCopyError(f"{copy} is no regular file.")
        if size(beside(copy, "-wal")):
            raise UnusableCopyError(
                f"{copy} has a log beside it, with its newest data. Open it once with `sqlite3`:"
                " that puts the log into it."
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _is_open_twice(descriptor: int) -> bool:
    """Return whether SQLite, which opens a file by its name, has opened this one."""
    own, count = os.fstat(descriptor), 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list itself
            count += os.path.samestat(os.fstat(int(number)), own)
    return count > 1


def _record_of(copy: Path, source: Source) -> str:
    """Return the id of a copy's record."""
    number, digest, record = source.connection.execute(_RECORD).fetchone()
    if digest != schema.digest():
        which = "a newer version" if number > schema.NUMBER else "another build"
        raise UnusableCopyError(f"{copy} was made by {which} of premblyd: restore it by that one.")
    return str(record)


def _require_unchanged(copy: Path, descriptor: int) -> None:
    """Raise UnusableCopyError when the file is not as it was made, by the digest in its name."""
    name = parse(copy.name)
    if name is not None and digest_of(descriptor) != name.digest:
        raise UnusableCopyError(f"{copy} is cut or changed: its digest is not that in its name.")


def _at(file: Path, key_path: Path | None) -> DatabaseAddress:
    return EncryptedFile(file, key_path) if key_path else file


def _make(new: Path, bytes_: int) -> None:
    """Make the file that the copy is written to, if the disk has room for it."""
    remove(new)
    if told := lacking_room(new.parent, bytes_):
        raise UnusableCopyError(f"The disk of {new} is too small: {told}.")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(new, flags, MODE))


FILE = click.Path(path_type=Path)


@click.command()
@click.argument("copy", metavar="[FILE|DIR]", required=False, type=FILE)
@click.option(
    "--key",
    "key_path",
    type=FILE,
    help="The file with the key of the copy, if the record has another by now.",
)
@click.option("--erased", type=FILE, help="An erased.jsonl, besides those that are found.")
@click.option("--record", type=click.Choice(["new"]), help="Also a copy of another record.")
@click.option("--erase-again", "only_again", is_flag=True, help="Put nothing in: only erase again.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@config_option
@json_option
def restore(
    config_path: Path,
    *,
    copy: Path | None,
    key_path: Path | None,
    erased: Path | None,
    record: str | None,
    only_again: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Puts FILE, or the newest copy in DIR, in the place of the database; the daemon must be
    stopped. Who was erased since it was made is erased again: as the database that is replaced, its
    .erased.jsonl and the one beside the copy say. The old file is kept beside the new one.

    A copy is refused if it is damaged, of another record, or of another build of premblyd. Then
    nothing is changed. A restore that was interrupted is run again.

    --erase-again, without a copy: after pg_restore, or when somebody has put a file in by hand.

    Exit status 75: a daemon runs, or another command has the database open.
    """
    place = database_of(config_path)
    if only_again == (copy is not None):
        raise click.UsageError("Name a copy, or the folder of copies; or give --erase-again.")
    if copy is None:
        again = erase_in_place(place, erased, times.now_ms())
        words = f"Erased again: {_again(again)}."
        print_told({"erased_again": again}, words, as_json=as_json)
        return
    with progress(silent=as_json) as shown:
        about: Any = {"key_path": key_path, "erased": erased, "is_any": record == "new"}
        taking_in = taken_in(place, copy, times.now_ms(), showing(shown), actor=actor(), **about)
        taken, put_in = click.get_current_context().with_resource(taking_in)
    for line in () if as_json and yes else _lines(taken):
        click.echo(line, err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("There is no terminal to ask for confirmation: add --yes.")
        click.confirm(f"Put it in the place of {place}?", abort=True, err=True)
    kept = put_in()
    words = f"{place} has the record of that copy now.\n"
    if kept:
        words += f"The old file is kept: {kept}\n"
    words += "Start the daemon, then ask Prembly for what came since:"
    words += f" `premblyd reconcile --since {times.iso(taken.newest_ms)} --store`"
    print_told({**asdict(taken), "kept": kept and str(kept)}, words, as_json=as_json)


def _lines(taken: Taken) -> Iterator[str]:
    """Yield what people should know before it is put in."""
    yield (
        f"{taken.copy}: record {taken.record}, newest from {times.for_people(taken.newest_ms)} UTC."
    )
    newest = times.for_people(taken.newest_erasure_ms)
    known = f"the newest erasure known is from {newest} UTC" if newest else "no erasure is known"
    yield f"Erased again: {_again(taken.erased_again)}; {known}."
    if not taken.knows_erasures:
        yield (
            "Only what lies beside the copy knows of erasures. If there is a newer .erased.jsonl"
            " elsewhere, name it: --erased FILE."
        )
    if taken.waiting:
        waiting = counted(taken.waiting, "delivery waits", "deliveries wait")
        yield (
            f"{waiting} in it, and will run, perhaps a second time. Before you start the daemon,"
            " `premblyd pause ACTION` keeps them waiting."
        )


def _again(again: AppliedAgain) -> str:
    return f"{counted(again.events, 'event')} of {counted(again.erasures, 'erasure')}"
