"""One run of `reconcile`: what is compared with the record, what is absent, and what became of
it."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from premblyd.errors import LacksRightsError, PremblydError
from premblyd.times import DAY_MS

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from premblyd.ask.logreading import Window
    from premblyd.ask.reconciling import Absent
    from premblyd.clock import Clock
    from premblyd.config.models import Config
    from premblyd.record.reconciling import OwnRecord


@dataclass(slots=True, kw_only=True)
class Reconciliation:
    """One run. First `compare_list` for a list, or a `window` for the log; then `run`."""

    settings: "Config"
    record: "OwnRecord"
    endpoint: str
    stores: bool
    clock: "Clock"  # of the database
    window: "Window | None" = None
    progress: "Progress | None" = None
    compared: int = 0
    pages: int = 0
    open: int = 0  # verifications that have not ended, as the log says
    without_id: int = 0
    outside: int = 0
    absent: "list[Absent]" = field(default_factory=list)
    stopped_by: PremblydError | None = None
    _is_whole: bool = False  # all of the log was read and compared

    @property
    def missing(self) -> "list[Absent]":
        return [each for each in self.absent if each.is_missing]

    @property
    def stored(self) -> "list[Absent]":
        return [each for each in self.absent if not each.is_missing]

    @property
    def left_open(self) -> "list[Absent]":
        """Of the missing, those of which an event came that does not say how they ended."""
        return [each for each in self.missing if each.fate == "unsettled"]

    def compare_list(self, references: Mapping[str, int]) -> None:
        """Find which references of a list have no event; each has the number of its line."""
        from premblyd.ask.reconciling import Absent

        self.compared = len(references)
        self._keep_absent(
            [Absent(ids=(reference,), line=line) for reference, line in references.items()]
        )

    async def run(self) -> None:
        """Ask what there is to ask. What stops that early is `stopped_by`."""
        from premblyd.ask.client import Inquirer
        from premblyd.logs import output

        if self.window is None and not self.stores:
            return
        output.configure("auto", "critical")  # what went wrong is told in this command's words
        with contextlib.closing(Inquirer(self.clock)) as inquirer:
            inquirer.configure(self.settings.prembly)
            try:
                if self.window is not None:
                    await self._read_log(inquirer, self.window)
                if self.stores and self.absent:
                    await self._ask_for_absent(inquirer)
            except PremblydError as error:
                self.stopped_by = error

    async def _read_log(self, inquirer: Any, window: "Window") -> None:
        from premblyd.ask.logreading import read_log
        from premblyd.ask.reconciling import Absent, Fate, fetching

        question = self.settings.prembly.logs  # type: ignore[union-attr]  # there is a key
        advance = self._showing("reading the log")
        log = await read_log(
            question,
            window,
            fetching(inquirer, question),
            after_page=lambda log: advance(log.pages, log.total_pages),
        )
        self.pages, self.without_id, self.outside = log.pages, log.without_id, log.outside
        ended = [entry for entry in log.entries.values() if not entry.is_open]
        self.open = len(log.entries) - len(ended)
        self.compared = len(ended)
        self._keep_absent([Absent.of(entry) for entry in ended])
        final = [entry for entry in ended if entry.is_final]
        self.absent += self._left_open([Absent.of(entry, Fate.LEFT_OPEN) for entry in final])
        self._is_whole = True

    def _keep_absent(self, candidates: "list[Absent]") -> None:
        """Keep those that the record has no event of."""
        from premblyd.ask.reconciling import is_session

        ids = {name for each in candidates for name in each.ids}
        have = self.record.known_ids(ids)
        left = [each for each in candidates if have.isdisjoint(each.ids)]
        sessions = {name for each in left for name in each.ids if is_session(name)}
        since_ms = self.window.since_ms - DAY_MS if self.window else None
        have = self.record.known_sessions(sessions, since_ms=since_ms)
        self.absent = [each for each in left if have.isdisjoint(each.ids)]

    def _left_open(self, candidates: "list[Absent]") -> "list[Absent]":
        """Return those of which the record has events, and none that says how they ended."""
        ids = {name for each in candidates for name in each.ids}
        have, told = self.record.known_ids(ids), self.record.told_ids(ids)
        return [
            each
            for each in candidates
            if not have.isdisjoint(each.ids) and told.isdisjoint(each.ids)
        ]

    async def _ask_for_absent(self, inquirer: Any) -> None:
        from premblyd.ask.reconciling import Reconciler
        from premblyd.ask.settling import Settling

        advance = self._showing("asking")
        done = 0

        def after_each(_: "Absent") -> None:
            nonlocal done
            done += 1
            advance(done, len(self.absent))

        reconciler = Reconciler(
            inquirer,
            Settling(self.settings),
            self.record,
            endpoint=self.endpoint,
            now_ms=self.clock.now_ms,
        )
        await reconciler.ask_for(self.absent, after_each)

    def _showing(self, what: str) -> Callable[[int, int | None], None]:
        """Return what shows how far this is."""
        progress = self.progress
        if progress is None:
            return lambda done, total: None
        task: TaskID = progress.add_task(what, total=None)
        return lambda done, total: progress.update(
            task,
            completed=done,
            total=total and max(done, total),  # the log's number may be wrong
        )

    def mark_downtimes(self) -> None:
        """Keep that nothing is missing of the downtimes that were looked at, if this user may."""
        from premblyd.engines.connections import connect_operator
        from premblyd.record.reconciling import OwnRecord

        window = self.window
        if window is None or not self._is_whole or self.missing or self.stopped_by:
            return
        with (
            contextlib.suppress(LacksRightsError),
            contextlib.closing(connect_operator(self.settings.database)) as database,
        ):
            OwnRecord(database).mend_downtimes(
                since_ms=window.since_ms, until_ms=window.until_ms, now_ms=self.clock.now_ms()
            )
