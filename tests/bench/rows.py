"""What is measured, against what, and what came out."""

import random
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Measured = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One figure of a row. `bound` and `aim` are for the ratio ours / theirs: at least where
    more is better, at most where less is; no bound: the figure is shown, and nothing is asked."""

    key: str
    what: str
    unit: str
    more_is_better: bool
    bound: float | None = None
    aim: float | None = None

    def reached(self, ratio: float, target: float) -> bool:
        return ratio >= target if self.more_is_better else ratio <= target


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table: what measures us, what measures the peer, once each."""

    name: str
    title: str
    peer: str
    goals: tuple[Goal, ...]
    needs: tuple[str, ...] = ()  # programs; each is in the Debian package of its name
    libraries: tuple[str, ...] = ()  # that only the peer needs: the extra `bench` has them
    ours: Callable[[], Measured]
    theirs: Callable[[], Measured]


@dataclass(slots=True)
class Outcome:
    """The rounds of one goal."""

    row: Row
    goal: Goal
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def our_median(self) -> float:
        return statistics.median(self.ours)

    @property
    def their_median(self) -> float:
        return statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: what slows a whole round does not count."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """That of each round. How far they are apart tells how far to trust their median."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def verdict(self) -> str:
        """`aim`, `met`, `missed`, or nothing where nothing is asked."""
        goal = self.goal
        if goal.bound is None:
            return ""
        if not goal.reached(self.ratio, goal.bound):
            return "missed"
        return "aim" if goal.aim is None or goal.reached(self.ratio, goal.aim) else "met"


def rate(key: str, what: str, bound: float | None = None, aim: float | None = None) -> Goal:
    """A goal for so many a second."""
    return Goal(key=key, what=what, unit="/s", more_is_better=True, bound=bound, aim=aim)


def time(key: str, what: str, bound: float | None = None, aim: float | None = None) -> Goal:
    """A goal for a time in milliseconds."""
    return Goal(key=key, what=what, unit="ms", more_is_better=False, bound=bound, aim=aim)


def memory(key: str, what: str) -> Goal:
    """A goal for memory in MB, of which the budget is the peer."""
    return Goal(key=key, what=what, unit="MB", more_is_better=False, bound=1.0)


def play(row: Row, rounds: int) -> list[Outcome]:
    """Measure us and the peer by turns, so that what else the machine does meets both. By chance
    one of them is first, as a machine that gets slower would favour who always is."""
    outcomes = {goal.key: Outcome(row, goal) for goal in row.goals}

    def measure_us() -> None:
        measured = row.ours()
        for key, outcome in outcomes.items():
            outcome.ours.append(measured[key])

    def measure_peer() -> None:
        measured = row.theirs()
        for key, outcome in outcomes.items():
            outcome.theirs.append(measured[key])

    for _ in range(rounds):
        for measure in random.sample([measure_us, measure_peer], 2):
            measure()
    return list(outcomes.values())
