"""Counts of what has happened since the daemon started, in the loop's thread.

Plain dictionaries, as every webhook is counted in them: prometheus_client's own counters take ten
times as long.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from premblyd.config.models import Config
from premblyd.feature import Count, added
from premblyd.prembly import events
from premblyd.prembly.payload import CODES
from premblyd.queue.rejections import ConnectionFault

OTHER, MISSING = "other", "missing"
OVERLOADED, UNAVAILABLE = "overloaded", "unavailable"
RESULTS = ("received", "duplicate", "rejected", OVERLOADED, UNAVAILABLE, "failed")
ATTEMPT_OUTCOMES = ("succeeded", "failed", "timed_out", "interrupted")
# Why a request is refused: all there are.
REASONS = (
    "wrong signature",
    "missing signature",
    "malformed signature",
    "missing token",
    "address not allowed",
    "body too large",
    *(noise.value for noise in ConnectionFault),
)
# In seconds. Prembly waits 10 s for an answer; a hook may run for minutes.
ANSWER_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ATTEMPT_BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Histogram:
    """How many values were up to each of `bounds`, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def copy(self) -> "Histogram":
        """Return the histogram as it is now."""
        copied = Histogram(self.bounds)
        copied.counts, copied.total = list(self.counts), self.total
        return copied


class Counts:
    """Counts what is reported: a listener of `telemetry`."""

    def __init__(self) -> None:
        self.webhooks: Counter[tuple[str, str]] = Counter()  # endpoint, result
        self.events: Counter[tuple[str, str, str]] = Counter()  # type, response code, outcome
        self.rejections: Counter[str] = Counter()  # reason
        self.attempts: Counter[tuple[str, str]] = Counter()  # action, outcome
        self.of_features = {
            row.name: (row, Counter(dict.fromkeys(row.values, 0)))
            for row in added("__init__", "COUNTS")
        }
        self.answers = Histogram(ANSWER_BOUNDS)
        self.attempt_durations: dict[str, Histogram] = {}  # by action
        self._kinds: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "webhook.received": self._received,
            "webhook.duplicate": self._duplicate,
            "webhook.rejected": self._rejected,
            "webhook.overloaded": lambda _: self._count_webhook("", OVERLOADED),
            "webhook.unavailable": lambda told: self._count_webhook(told["endpoint"], UNAVAILABLE),
            "webhook.failed": lambda told: self._count_webhook(told["endpoint"], "failed"),
            "attempt.finished": self._attempt,
            **{row.event: partial(self._count, row) for row, _ in self.of_features.values()},
        }

    def configure(self, config: Config) -> None:
        """Have a count for each endpoint and action of `config`, zero at first: of one that begins
        with its first 1, nobody can tell the increase."""
        # Without a name: what was turned away before its endpoint was known, or had none.
        for name in ("", *(endpoint.name for endpoint in config.endpoints)):
            for ended in RESULTS:
                self.webhooks[name, ended] += 0
        for reason in REASONS:
            self.rejections[reason] += 0
        for action in config.actions:
            if action.name not in self.attempt_durations:  # of thousands, a reload changes few
                self.attempt_durations[action.name] = Histogram(ATTEMPT_BOUNDS)
                for attempted in ATTEMPT_OUTCOMES:
                    self.attempts[action.name, attempted] += 0

    def listen(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count what happened, if it is one of the kinds that are counted."""
        if count := self._kinds.get(event):
            count(fields)

    def copy(self) -> "Counts":
        """Return the counts as they are now."""
        copied = Counts()
        for name in ("webhooks", "events", "rejections", "attempts"):
            setattr(copied, name, Counter(getattr(self, name)))
        copied.of_features = {
            name: (row, Counter(counts)) for name, (row, counts) in self.of_features.items()
        }
        copied.answers = self.answers.copy()
        copied.attempt_durations = {
            name: histogram.copy() for name, histogram in self.attempt_durations.items()
        }
        return copied

    def _received(self, told: Mapping[str, Any]) -> None:
        self.webhooks[told["endpoint"], "received"] += 1
        self.answers.observe(told["duration_ms"] / 1000)
        code = told["response_code"]  # a sender chose it: there may be any number of them
        code = code if code in CODES else OTHER if code else MISSING
        kind = told["type"] if told["type"] in events.MEANINGS else OTHER
        self.events[kind, code, told["outcome"]] += 1

    def _duplicate(self, told: Mapping[str, Any]) -> None:
        self.webhooks[told["endpoint"], "duplicate"] += 1
        self.answers.observe(told["duration_ms"] / 1000)

    def _rejected(self, told: Mapping[str, Any]) -> None:
        self._count_webhook(told["endpoint"], "rejected")
        self.rejections[told["reason"]] += 1

    def _count_webhook(self, endpoint: str, result: str) -> None:
        self.webhooks[endpoint, result] += 1

    def _attempt(self, told: Mapping[str, Any]) -> None:
        self.attempts[told["action"], told["outcome"]] += 1
        durations = self.attempt_durations.get(told["action"])
        if durations is None:  # of an action that has left the configuration
            durations = self.attempt_durations.setdefault(told["action"], Histogram(ATTEMPT_BOUNDS))
        durations.observe(told["duration_ms"] / 1000)

    def _count(self, row: Count, told: Mapping[str, Any]) -> None:
        self.of_features[row.name][1][tuple(told[field] for field in row.fields)] += 1
