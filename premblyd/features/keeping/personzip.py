"""Everything stored about a person, as one ZIP: `record.json`, each body exactly as it came, its
photos, and one page to read.

It is read in portions, so that no snapshot of the database is kept for long; at the end it is seen
whether something of it was erased or removed meanwhile.
"""

import base64
import binascii
import dataclasses
import functools
import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, BinaryIO, NamedTuple

from peewee import Field
from tornado.template import Loader

from premblyd import __version__
from premblyd.features.keeping import persons, removing
from premblyd.features.keeping.listing import HoldRow
from premblyd.features.keeping.persons import FoundBy, Named, Person
from premblyd.features.keeping.tables import Hold
from premblyd.ground import jsontext, privacy, times, words
from premblyd.ground.errors import NotFoundError, PremblydError, TryAgainError
from premblyd.prembly import bodies
from premblyd.prembly.payload import Kind, plain_id
from premblyd.record import operating, queries
from premblyd.record.events import AttemptRow
from premblyd.record.operating import Operator
from premblyd.record.queries import Row, row_of
from premblyd.store.columns import Seen, Table
from premblyd.store.engine import Database, Lookup, Transaction
from premblyd.store.schema import TABLES
from premblyd.store.tables import Attempt, Delivery, Event

FORMAT = "premblyd-person/1"
PORTION = 20  # events: each may have had many attempts, of which each may have printed 64 KiB
LOOKED_UP = 500  # values of one statement
RECORDED = 500  # rows that are only inserted: that takes a tenth of the time
EXPORT = "export"  # what the record calls it
WITHHELD = ("token",)  # opens something at who runs premblyd, and says nothing of the person
SHORTEST_PHOTO = 64  # characters in base64
MOST_VALUES = 500  # of an event on the page: its file has all
MOST_CHARACTERS = 1000  # of a value there
MANY = 10_000  # events: what is written of them may be more than 2 GiB
_PHOTOS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"RIFF": "webp",
    b"%PDF-": "pdf",
}


class SeveralPeopleError(PremblydError):
    """The given name belongs to several people: none of them may get another's data."""


class ChangedMeanwhileError(TryAgainError):
    """Something of it was erased or removed while it was read. Nothing was written: try again."""


@row_of(Event, Seen.LISTS, (Event.headers, Event.session_id))
class _Event(Row):
    """An event without its body, which is read by itself."""


@row_of(Delivery, Seen.LISTS)
class _Delivery(Row):
    """A delivery."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """Everything stored about a person, except what the events say."""

    by: FoundBy
    name: str = field(repr=False)  # as it was named
    made_at_ms: int
    removed_parts: dict[int, str | None]  # of each of its events, when it was begun
    # Not in it: events under one of the names too that name somebody else, and those that name
    # nobody, under a name that somebody else has too.
    other_ids: tuple[int, ...]
    nameless_ids: tuple[int, ...]  # in it: found by a reference or session of the person alone
    holds: list[Row]
    more: dict[str, list[Row]]  # of features: by one of the references, and about no event

    @property
    def event_ids(self) -> list[int]:
        return sorted(self.removed_parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """An event, all that became of it, and where its body is in the ZIP; None: it was removed."""

    event: Row
    deliveries: list[dict[str, Any]]  # each with its attempts
    more: dict[str, list[Row]]  # of other tables, as they are called in it

    @property
    def body_file(self) -> str | None:
        if self.event.removed_parts is not None:
            return None
        return f"bodies/{self.event.id}.{'bin' if self.event.kind == Kind.RAW else 'json'}"

    def as_json(self) -> dict[str, Any]:
        """Return the event as `record.json` has it."""
        return {
            **dataclasses.asdict(self.event),
            "body_file": self.body_file,
            "deliveries": self.deliveries,
            **self.more,
        }


class _Value(NamedTuple):
    """A value in a body, where it stands, and how the page shows it: as text, or by a file."""

    name: str
    text: str
    is_file: bool


def find(database: Database, named: Named, name: str, now_ms: int) -> Holdings:
    """Find what is held of who is `named`. Raise NotFoundError when that is nothing,
    SeveralPeopleError when a reference is that of several people."""
    person = database.look(lambda transaction: persons.find(transaction, named))
    if len(person.user_refs) > 1:
        raise SeveralPeopleError(
            f"Its events name {len(person.user_refs)} people (user_ref). Nothing was written,"
            " because nobody may get another person's data: export each by --user-ref."
        )
    doubtful = database.look(functools.partial(_doubtful, person))
    ids = set(person.event_ids) - doubtful
    users = person.user_refs | ({named.name} if named.by is FoundBy.USER_REF else set())
    places = (Hold.user_ref, users), (Hold.reference, person.references)
    found = Holdings(
        by=named.by,
        name=name,
        made_at_ms=now_ms,
        removed_parts=database.look(functools.partial(_removed_parts, ids)),
        other_ids=tuple(sorted({*person.other_ids, *doubtful})),
        nameless_ids=tuple(id_ for id_ in person.nameless_ids if id_ not in doubtful),
        holds=_rows(database, Hold, HoldRow, *places),
        more=_about_nothing(database, person),
    )
    if not (found.removed_parts or found.holds):
        raise NotFoundError("Nothing is stored under this name.")
    return found


def record_export(database: Database, actor: str, event_ids: Sequence[int], about: str) -> None:
    """Record that the actor takes out what is held of a person: a row that names nobody, and behind
    it one for each event, so that each says who has seen it."""
    now_ms = database.now_ms()
    operator = database.transact(Operator(actor=actor).many(about, now_ms, EXPORT))
    recorded = operator.record_events(EXPORT, event_ids, now_ms, RECORDED)
    for _ in operating.transact_all(database, recorded):
        pass


def write(out: BinaryIO, database: Database, held: Holdings, made_by: str) -> None:
    """Write what is held, as `record_export` has recorded. Raise ChangedMeanwhileError when
    something of it was erased meanwhile: what is written is worth nothing then."""
    stamp = time.gmtime(max(held.made_at_ms // 1000, 315_532_800))[:6]  # ZIP begins in 1980
    ids = held.event_ids
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def add(name: str, pieces: Iterable[bytes]) -> None:
            about = zipfile.ZipInfo(name, stamp)
            about.compress_type = zipfile.ZIP_DEFLATED
            about.create_system = 3  # Unix, whose rights follow
            about.external_attr = 0o600 << 16
            with archive.open(about, "w", force_zip64=len(ids) > MANY) as member:
                for piece in pieces:
                    member.write(piece)

        add("record.json", _document(database, held, ids, made_by))
        shown = [(told, _add_body(database, told, add)) for told in _events(database, ids)]
        page = _page().generate(held=held, made_by=made_by, events=shown, **_WORDS)
        add("page.html", [page])
        if database.look(functools.partial(_removed_parts, held.event_ids)) != held.removed_parts:
            raise ChangedMeanwhileError(
                "Some of it was erased or deleted while it was read, so nothing was written. Run"
                " the same command again."
            )


def _add_body(
    database: Database, told: _Told, add: Callable[[str, Iterable[bytes]], None]
) -> list[_Value]:
    """Add the body of an event, and the photos in it; return its values as the page shows them."""
    if told.body_file is None:
        return []
    body = _body_of(database, told.event.id)
    add(told.body_file, [body])
    values = []
    for number, (name, value) in enumerate(_values(body), 1):
        photo = _photo(value)
        if photo is not None:
            kind, data = photo
            file = f"photos/{told.event.id}-{number}.{kind}"
            add(file, [data])
            values.append(_Value(name, file, is_file=True))
        elif len(values) < MOST_VALUES:
            values.append(_Value(name, jsontext.beginning(value, MOST_CHARACTERS), is_file=False))
    return values


def _document(database: Database, held: Holdings, ids: list[int], made_by: str) -> Iterator[bytes]:
    """Yield `record.json`."""
    yield jsontext.dumps(_about(held, made_by))[:-1] + b',\n"events":['
    comma = b"\n"
    for told in _events(database, ids):
        yield comma + jsontext.dumps(told.as_json())
        comma = b",\n"
    yield b"]}\n"


def _about(held: Holdings, made_by: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "made_at_ms": held.made_at_ms,
        "made_by": made_by,
        "version": __version__,
        "found_by": held.by,
        "name": held.name,
        "withheld": list(WITHHELD),
        "nameless_ids": list(held.nameless_ids),
        "not_included": len(held.other_ids),
        "holds": held.holds,
        **held.more,
    }


@functools.cache
def _page() -> Any:
    return Loader(str(resources.files(__package__))).load("person.html")


_WORDS = {
    "moment": times.for_people,
    "visible": words.visible,
    "counted": words.counted,
    "label": lambda name: str(name).replace("_", " "),
}


def _events(database: Database, ids: list[int]) -> Iterator[_Told]:
    for start in range(0, len(ids), PORTION):
        yield from _portion(database, ids[start : start + PORTION])


def _portion(database: Database, ids: list[int]) -> Iterator[_Told]:
    deliveries = _rows(database, Delivery, _Delivery, (Delivery.event, ids))
    event_of = {row.id: row.event_id for row in deliveries}
    attempts = _rows(database, Attempt, AttemptRow, (Attempt.delivery, event_of))
    more: dict[int, dict[str, list[Row]]] = {
        number: {table.exported_as: [] for table, _ in _MORE} for number in ids
    }
    for table, row in _MORE:
        of_events = [(each, ids) for each in _links(table, Event)]
        of_deliveries = [(each, event_of) for each in _links(table, Delivery)]
        for found in _rows(database, table, row, *of_events, *of_deliveries):
            events = [event_of.get(each) for each in _ids_in(found, table, Delivery)]
            for number in more.keys() & {*events, *_ids_in(found, table, Event)}:
                more[number][table.exported_as].append(found)
    for event in _rows(database, Event, _Event, (Event.id, ids)):
        yield _Told(
            event=event,
            deliveries=[
                dataclasses.asdict(row)
                | {"attempts": [each for each in attempts if each.delivery_id == row.id]}
                for row in deliveries
                if row.event_id == event.id
            ],
            more=more[event.id],
        )


def _about_nothing(database: Database, person: Person) -> dict[str, list[Row]]:
    """Return what features have under these references that is about no event."""
    found: dict[str, list[Row]] = {}
    for table, row in _MORE:
        if table.named_by:
            place = (getattr(table, table.named_by), person.references)
            rows = _rows(database, table, row, place)
            found[table.exported_as] = [
                each for each in rows if not any(_ids_in(each, table, Event))
            ]
    return found


def _links(table: type[Table], to: type[Table]) -> list[Field]:
    return [each for each, its in removing.LINKS if each.model is table and its is to]


def _ids_in(row: Row, table: type[Table], of: type[Table]) -> list[Any]:
    """Return the ids of events, or of deliveries, that a row of a table has."""
    return [getattr(row, each.column_name) for each in _links(table, of)]


def _rows(
    database: Database, table: type[Table], row: type[Any], *places: tuple[Field, Collection[Any]]
) -> list[Any]:
    """Return the rows that have one of these values in one of these columns, each once, by their
    numbers. (By one condition for all columns, an engine would read the whole table.)"""
    found: dict[int, Any] = {}
    for column, values in places:
        listed = sorted(values)
        for start in range(0, len(listed), LOOKED_UP):
            query = table.select(*queries.columns(table, row))
            part = query.where(column.in_(listed[start : start + LOOKED_UP]))
            found |= {each.id: each for each in queries.rows(database, part, row)}
    return [found[number] for number in sorted(found)]


def _body_of(database: Database, event_id: int) -> bytes:
    [[body]] = queries.tuples(database, Event.select(Event.body).where(Event.id == event_id))
    return bytes(body or b"")


def _values(body: bytes) -> Iterator[tuple[str, Any]]:
    """Yield the values in a body, each with where it stands; none of what is no JSON object."""
    document = bodies.parse(body)
    if document is not None and not privacy.is_deep(document):
        yield from _inner("", document)


def _inner(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value, 1):
            yield from _inner(f"{name} › {key}" if name else str(key), each)
    else:
        yield name, value


def _photo(value: Any) -> tuple[str, bytes] | None:
    """Return what kind of file a photo or a document is, and its bytes; None: it is none."""
    if not isinstance(value, str) or len(value) < SHORTEST_PHOTO:
        return None
    encoded = value.partition(",")[2] if value.startswith("data:") else value
    try:
        data = base64.b64decode(encoded)
    except (binascii.Error, ValueError):
        return None
    kind = next((kind for mark, kind in _PHOTOS.items() if data.startswith(mark)), None)
    return None if kind is None else (kind, data)


def _doubtful(person: Person, transaction: Transaction) -> set[int]:
    """Return the events that name nobody, under a name that somebody else has too."""
    return {
        number
        for number, user_ref, reference, session_id in transaction.look_up(_NAMES, person.event_ids)
        if not user_ref and {plain_id(reference or ""), session_id or ""} & person.shared
    }


def _removed_parts(ids: Collection[int], transaction: Transaction) -> dict[int, str | None]:
    return dict(transaction.look_up(_REMOVED_PARTS, sorted(ids)))


_MORE = [
    (each, row_of(each, Seen.LISTS)(type(each.__name__, (Row,), {})))
    for each in TABLES
    if each.exported_as
]
_NAMES = Lookup(Event.select(Event.id, Event.user_ref, Event.reference, Event.session_id), Event.id)
_REMOVED_PARTS = Lookup(Event.select(Event.id, Event.removed_parts), Event.id)
