"""The lists: a form made of their filters, parts, JSON, and CSV of all. Begin with `ListPage`:
what they have in common."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

from peewee import fn

from premblyd.config.values import When
from premblyd.features.console.handler import Handler
from premblyd.ground import times, words
from premblyd.ground.errors import PremblydError, TryAgainError
from premblyd.ground.privacy import is_type
from premblyd.record import lists, queries
from premblyd.record.filters import EventFilter, OperatorFilter, RejectionFilter
from premblyd.record.listing import Chosen, Filter, Reads, filters_of
from premblyd.record.lists import LIMIT, Cursor, EventRow, OperatorRow, Part, RejectionRow
from premblyd.record.queries import Row
from premblyd.store.engine import Database
from premblyd.store.readers import Readers
from premblyd.store.tables import Rejection

ROWS = 500  # of a part
TRIES = 5
AGAIN_S = 0.5
Read = Callable[[Database, int | None], tuple[Sequence[Any], int | None]]


async def parts(
    readers: Readers,
    row: type[Row],
    read: Read,
    before: int | None = None,
) -> AsyncIterator[bytes]:
    """Yield a table's head, and a line for each row. `read` returns the rows before a row, and
    before which to go on: None is the end. Raise TryAgainError where it can't be read, again and
    again."""
    names = [field.name for field in dataclasses.fields(row)]
    yield words.csv_head([name.removesuffix("_ms") if _is_time(name) else name for name in names])
    while True:
        lines, before = await _part(readers, read, names, before)
        yield lines
        if before is None:
            return


async def _part(
    readers: Readers, read: Read, names: Sequence[str], before: int | None
) -> tuple[bytes, int | None]:
    def make(database: Database) -> tuple[bytes, int | None]:
        rows, older = read(database, before)
        return words.csv_lines(_cells(row, names) for row in rows), older

    for _ in range(TRIES - 1):
        try:
            return await readers.run(make)
        except TryAgainError:  # others read too; a server may come back
            await asyncio.sleep(AGAIN_S)
    return await readers.run(make)


def _cells(row: Row, names: Sequence[str]) -> list[Any]:
    cells = [getattr(row, name) for name in names]
    return [
        times.for_people(cell) if _is_time(name) else cell
        for name, cell in zip(names, cells, strict=True)
    ]


def _is_time(name: str) -> bool:
    return name == "at_ms" or name.endswith("_at_ms")


C = TypeVar("C", bound=Chosen)
MAX_CHARACTERS = 200
MAX_ID = 2**63 - 1
MOST_SENDERS = 20


@dataclass(slots=True)
class Form:
    """The fields of a filter: what was typed, and what is wrong with it."""

    typed: Mapping[str, str]
    mistakes: dict[str, str] = field(default_factory=dict)

    def chosen(
        self, kind: type[C], offered: Iterable[Filter], now_ms: int, fixed: Mapping[str, Any]
    ) -> C:
        """Return which rows were asked for by the filters that are `offered`."""
        return kind(**{each.field: self._value(each, now_ms) for each in offered}, **fixed)

    def _value(self, each: Filter, now_ms: int) -> Any:
        if each.reads in (Reads.EVENT, Reads.ROW):
            return self._id(each.name)
        text = self.typed.get(each.name, "").strip()
        try:
            return _read(each, text, now_ms) if text else None
        except ValueError as error:
            self.mistakes[each.name] = str(error)
            return None

    def refuse_probes(self, offered: Iterable[Filter]) -> None:
        """Of patterns, accept only those that can't reveal a masked type letter by letter."""
        for each in offered:
            start, star, rest = self.typed.get(each.name, "").strip().partition("*")
            is_whole = not star and "?" not in start
            if each.reads is Reads.TYPE and not is_whole and (rest or not _is_known(start)):
                self.mistakes[each.name] = "should be a whole type, or such as transaction.*"

    def require(self) -> None:
        """Raise PremblydError where something is wrong with what was typed."""
        if self.mistakes:
            raise PremblydError("; ".join(f"{name} {what}" for name, what in self.mistakes.items()))

    def place(self) -> Cursor:
        """Return which part of the list was asked for. Raise PremblydError for what is no row's
        number."""
        return Cursor(before=self._id("before"), after=self._id("after"))

    def _id(self, name: str) -> int | None:
        value = self.typed.get(name, "")
        if not value:
            return None
        if not value.isascii() or not value.isdigit() or len(value) > MAX_CHARACTERS:
            raise PremblydError(f"`{name}` should be a row's number.")
        return min(int(value), MAX_ID)

    def query(self, **changes: Any) -> str:
        """Return the query of this filter's URL, with `changes`: None leaves a field out."""
        asked = dict(self.typed) | {"before": "", "after": ""} | changes
        return urlencode({name: each for name, each in asked.items() if each not in (None, "")})

    def ways(self, part: Part) -> dict[str, str | None]:
        """Return the queries of the parts beside this one, and of the two ends."""
        at_top = part.newer is None
        at_bottom = part.older is None
        return {
            "newest": None if at_top else self.query(),
            "newer": None if at_top else self.query(after=part.newer),
            "older": None if at_bottom else self.query(before=part.older),
            "oldest": None if at_bottom else self.query(after=0),
        }


def is_plain(each: Filter, typed: str) -> bool:
    """Return whether what was typed for a filter names nobody."""
    if each.reads is Reads.TYPE:
        return is_type(typed) or (typed.endswith("*") and _is_known(typed[:-1]))
    return not each.probes


def _is_known(start: str) -> bool:
    """Return whether a type's beginning says no more than known words."""
    return not start or (start[-1] in "._" and is_type(start[:-1]))


def _read(each: Filter, text: str, now_ms: int) -> Any:
    """Return what a filter's text means. Raise ValueError, in words, when it means nothing."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"should have {MAX_CHARACTERS} characters at most")
    allowed = ("yes",) if each.reads is Reads.YES else each.choices
    if allowed and text not in allowed:
        raise ValueError(f"should be one of {', '.join(allowed)}")
    if each.reads is Reads.TIME:
        try:
            return When.read(text).by(now_ms)
        except ValueError:
            example = "2026-01-31 14:00, or an age such as 12h"
            raise ValueError(f"should be a time such as {example}") from None
    return text


class ListPage(Handler):
    """A list, the newest first, without personal data."""

    kind: ClassVar[type[Chosen]]
    row: ClassVar[type[Row]]
    path: ClassVar[str]
    name: ClassVar[str]  # of the rows in JSON
    template: ClassVar[str]
    fixed: ClassVar[Mapping[str, Any]] = {}  # what is chosen on this page whatever is typed
    nothing: ClassVar[Mapping[str, Any]] = {}  # besides the list, where a filter is mistyped
    places: ClassVar[tuple[str, ...]] = ("before", "after")
    csv_rows: ClassVar[int] = ROWS  # of a part

    async def get(self) -> None:
        offered = [each for each in self.offered() if not each.probes or self.may_operate]
        form = Form(self.filters(*(each.name for each in offered), *self.places))
        chosen = self.bounded(form.chosen(self.kind, offered, self.now_ms, self.fixed))
        if not self.may_operate:
            form.refuse_probes(offered)
        if self.request.path.endswith(".csv"):
            form.require()
            filename = f"{self.path.strip('/')}.csv"
            await self.send_csv(filename, self._csv(chosen, form.place()))
            return
        part: Part = Part(rows=[], newer=None, older=None)
        beside = self.nothing
        if form.mistakes:
            self.set_status(400)
        else:
            place = form.place()
            part, beside = await self.read(
                lambda database: (
                    self._find(database, chosen, place),
                    self.beside(database, chosen),
                )
            )
        view = {
            self.name: part.rows,
            "newer": part.newer,
            "older": part.older,
            "is_cut": part.is_cut,
            "mistakes": form.mistakes,
            **beside,
        }
        await self.show(
            self.template,
            view,
            path=self.path,
            form=form,
            fields=[each for each in offered if each.title],
            search=chosen,
            ways=form.ways(part),
            is_top=not any(form.typed[name] for name in self.places),
            now_ms=self.now_ms,
            actions=[action.name for action in self.services.config.actions],
        )

    @classmethod
    def offered(cls) -> list[Filter]:
        """Return the filters that people may use here."""
        found = filters_of(cls.kind)
        return [each for each in found if each.is_offered and each.field not in cls.fixed]

    def bounded(self, chosen: Any) -> Any:
        """Return what is chosen, so far as who asks may learn by it."""
        return chosen

    def beside(self, database: Database, chosen: Any) -> Mapping[str, Any]:
        """Return what the page shows in addition to the list."""
        return {}

    def _find(self, database: Database, chosen: Chosen, place: Cursor, limit: int = LIMIT) -> Part:
        part = lists.part(database, chosen, place, limit)
        masked = [self.row(**row.masked()) for row in part.rows]
        return dataclasses.replace(part, rows=masked)

    def _csv(self, chosen: Chosen, place: Cursor) -> AsyncIterator[bytes]:
        def read(database: Database, before: int | None) -> tuple[list[Any], int | None]:
            part = self._find(database, chosen, Cursor(before=before), self.csv_rows)
            return part.rows, part.older

        return parts(self.services.readers, self.row, read, place.before)


class Events(ListPage):
    """Events, the newest first, chosen by a form."""

    section = path = "/events"
    kind, row = EventFilter, EventRow
    name, template = "events", "events.html"

    def bounded(self, chosen: EventFilter) -> EventFilter:
        if self.may_operate:
            return chosen
        return dataclasses.replace(chosen, find=None, whole_name=chosen.find)


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionsFrom:
    """How many requests from an address were refused for a reason, and when last."""

    reason: str
    remote_ip: str
    count: int
    last_at_ms: int


def rejections_by_sender(database: Database, since_ms: int | None = None) -> list[RejectionsFrom]:
    """Return the reasons and addresses with most refused requests, of the 10,000 that are kept."""
    query = Rejection.select(
        Rejection.reason,
        Rejection.remote_ip,
        fn.COUNT(Rejection.id).alias("count"),
        fn.MAX(Rejection.at_ms).alias("last_at_ms"),
    )
    if since_ms is not None:
        query = query.where(Rejection.at_ms >= since_ms)
    query = (
        query.group_by(Rejection.reason, Rejection.remote_ip)
        .order_by(fn.COUNT(Rejection.id).desc(), Rejection.reason, Rejection.remote_ip)
        .limit(MOST_SENDERS)
    )
    return queries.rows(database, query, RejectionsFrom)


class Rejections(ListPage):
    """A list of refused requests, the newest first, below a summary."""

    section = path = "/rejections"
    kind, row = RejectionFilter, RejectionRow
    name, template = "rejections", "rejections.html"
    places = ("before",)
    csv_rows = 999  # there are 10,000 at most, and each part sorts them all
    nothing = MappingProxyType({"summary": []})

    def beside(self, database: Database, chosen: RejectionFilter) -> Mapping[str, Any]:
        return {"summary": rejections_by_sender(database, chosen.since_ms)}


class Operators(ListPage):
    """The log of operators, the newest first."""

    section = path = "/operators"
    kind, row = OperatorFilter, OperatorRow
    name, template = "operator_actions", "operators.html"
