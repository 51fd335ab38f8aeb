"""What the lists have in common: a form made of their filters, parts, JSON, and CSV of all."""

import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from premblyd.console import export
from premblyd.console.forms import Form, ways
from premblyd.console.handler import Handler
from premblyd.engines.connections import Database
from premblyd.record import lists
from premblyd.record.filters import Chosen, Filter, filters_of
from premblyd.record.lists import LIMIT, Cursor, Part
from premblyd.record.queries import Row


class ListPage(Handler):
    """A list, the newest first, without personal data."""

    kind: ClassVar[type[Chosen]]
    row: ClassVar[type[Row]]
    path: ClassVar[str]
    name: ClassVar[str]  # of the rows in JSON
    template: ClassVar[str]
    fixed: ClassVar[Mapping[str, Any]] = {}  # what is chosen on this page whatever is typed
    places: ClassVar[tuple[str, ...]] = ("before", "after")
    csv_rows: ClassVar[int] = export.ROWS  # of a part

    async def get(self) -> None:
        offered = self.offered()
        form = Form(self.filters(*(each.name for each in offered), *self.places))
        chosen = form.chosen(self.kind, offered, self.now_ms, self.fixed)
        if self.request.path.endswith(".csv"):
            form.require()
            filename = f"{self.path.strip('/')}.csv"
            await self.send_csv(filename, self._csv(chosen, form.place()))
            return
        part: Part[Any] = Part(rows=[], newer=None, older=None)
        beside = self.beside(None, chosen)
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
        if self.wants_json:
            await self.send_json(view)
            return
        await self.send_page(
            self.template,
            path=self.path,
            form=form,
            fields=[each for each in offered if each.title],
            search=chosen,
            ways=ways(form, part),
            is_top=not any(form.typed[name] for name in self.places),
            now_ms=self.now_ms,
            actions=[action.name for action in self.services.config.actions],
            **view,
        )

    @classmethod
    def offered(cls) -> list[Filter]:
        """Return the filters by which people may choose here."""
        found = filters_of(cls.kind)
        return [each for each in found if each.is_offered and each.field not in cls.fixed]

    def beside(self, database: Database | None, chosen: Any) -> dict[str, Any]:
        """Return what the page shows besides the list; without a database, as if there were
        nothing."""
        return {}

    def _find(
        self, database: Database, chosen: Chosen, place: Cursor, limit: int = LIMIT
    ) -> Part[Any]:
        part = lists.part(database, chosen, place, limit)
        masked = [self.row(**row.masked()) for row in part.rows]
        return dataclasses.replace(part, rows=masked)

    def _csv(self, chosen: Chosen, place: Cursor) -> AsyncIterator[bytes]:
        def read(database: Database, before: int | None) -> tuple[list[Any], int | None]:
            part = self._find(database, chosen, Cursor(before=before), self.csv_rows)
            return part.rows, part.older

        return export.parts(self.services.readers, self.row, read, place.before)
