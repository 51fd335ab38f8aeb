"""The lists: a form made of their filters, and parts of rows. Begin with `ListPage`: what they have
in common."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

from premblyd.config.values import When
from premblyd.features.console.handler import Handler
from premblyd.ground.errors import PremblydError
from premblyd.record import lists, standing
from premblyd.record.filters import DeliveryFilter, EventFilter, OperatorFilter, RejectionFilter
from premblyd.record.listing import Chosen, Filter, Reads, filters_of
from premblyd.record.lists import Cursor, DeliveryRow, EventRow, OperatorRow, Part, RejectionRow
from premblyd.record.queries import Row
from premblyd.store.engine import Database
from premblyd.store.states import State

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

    def refuse_patterns(self, offered: Iterable[Filter]) -> None:
        """Refuse patterns: by them one learns a masked type letter by letter."""
        for each in offered:
            if each.reads is Reads.TYPE and set("*?") & set(self.typed.get(each.name, "")):
                self.mistakes[each.name] = "should be a whole type"

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

    async def get(self) -> None:
        offered = [each for each in self.offered() if not each.probes or self.may_operate]
        form = Form(self.filters(*(each.name for each in offered), *self.places))
        chosen = form.chosen(self.kind, offered, self.now_ms, self.fixed)
        if not self.may_operate:
            form.refuse_patterns(offered)
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

    def beside(self, database: Database, chosen: Any) -> Mapping[str, Any]:
        """Return what the page shows in addition to the list."""
        return {}

    def _find(self, database: Database, chosen: Chosen, place: Cursor) -> Part:
        part = lists.part(database, chosen, place)
        masked = [self.row(**row.masked()) for row in part.rows]
        return dataclasses.replace(part, rows=masked)


class Events(ListPage):
    """Events, the newest first, chosen by a form."""

    section = path = "/events"
    kind, row = EventFilter, EventRow
    name, template = "events", "events.html"


class Deliveries(ListPage):
    """A list of deliveries, the newest first."""

    section = "/dead"
    path = "/deliveries"
    kind, row = DeliveryFilter, DeliveryRow
    name, template = "deliveries", "deliveries.html"
    nothing = MappingProxyType({"dead": {}})

    def beside(self, database: Database, chosen: DeliveryFilter) -> Mapping[str, Any]:
        return {"dead": standing.dead_of(database)}


class Dead(Deliveries):
    """Dead deliveries: those that used up all their attempts."""

    path = "/dead"
    fixed = MappingProxyType({"state": State.DEAD})


class Rejections(ListPage):
    """A list of refused requests, the newest first."""

    section = path = "/rejections"
    kind, row = RejectionFilter, RejectionRow
    name, template = "rejections", "rejections.html"
    places = ("before",)


class Operators(ListPage):
    """The log of operators, the newest first."""

    section = path = "/operators"
    kind, row = OperatorFilter, OperatorRow
    name, template = "operator_actions", "operators.html"
