"""The result of a rehearsal: how many events differ, by action, type, code, outcome and reason, and
which."""

from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from premblyd.features.tryout.rehearsal import Compared, Difference, Rehearsed

MOST_FIGURES = 1000  # who sends webhooks may make up types and codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Of:
    """What is counted together. Of too many figures only action and difference are told apart."""

    action: str
    difference: Difference
    type: str | None = None
    response_code: str | None = None
    outcome: str | None = None
    why: str = ""


@dataclass(slots=True)
class Figure:
    """How many events there are of a kind, and which; of these `so_now` with the present
    configuration would do the same."""

    of: Of
    so_now: int = 0
    events: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def count(self) -> int:
        return len(self.events)

    @property
    def reason(self) -> tuple[Difference, str]:
        """What differs, and why."""
        return self.of.difference, self.of.why

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` has it."""
        counted = {"count": self.count, "so_now": self.so_now, "event_ids": self.events.tolist()}
        return asdict(self.of) | counted


class Figures:
    """Counts what a rehearsal yields."""

    def __init__(self) -> None:
        self.events = 0
        self.differing = 0  # events
        self.by_action: dict[str, Counter[Difference]] = {}
        self._figures: dict[Of, Figure] = {}

    def add(self, event: Rehearsed) -> None:
        """Count the result for an event."""
        self.events += 1
        self.differing += event.differs
        for each in event.actions:
            self.by_action.setdefault(each.action, Counter())[each.difference] += 1
            if each.difference is not Difference.NONE:
                figure = self._figure(event, each)
                figure.events.append(event.event_id)
                figure.so_now += each.so_now

    def _figure(self, event: Rehearsed, each: Compared) -> Figure:
        of = Of(
            action=each.action,
            difference=each.difference,
            type=event.type,
            response_code=event.response_code,
            outcome=event.outcome,
            why=each.why,
        )
        if of not in self._figures and len(self._figures) >= MOST_FIGURES:
            of = Of(action=each.action, difference=each.difference)
        return self._figures.setdefault(of, Figure(of))

    def figures(self, action: str) -> list[Figure]:
        """Return the figures of an action, by difference and reason, those of most events first."""
        own = [each for each in self._figures.values() if each.of.action == action]
        order = list(Difference)
        totals: Counter[tuple[Difference, str]] = Counter()
        for each in own:
            totals[each.reason] += each.count

        def place(each: Figure) -> tuple[int, int, str, int]:
            most_first = -totals[each.reason]
            return order.index(each.of.difference), most_first, each.of.why, -each.count

        return sorted(own, key=place)

    def as_json(self) -> dict[str, Any]:
        """Return all of it, as `--json` has it."""
        return {
            "events": self.events,
            "differing": self.differing,
            "actions": [
                {"action": name, **{each.value: counts[each] for each in Difference}}
                for name, counts in self.by_action.items()
            ],
            "differences": [
                figure.as_json() for name in self.by_action for figure in self.figures(name)
            ],
        }
