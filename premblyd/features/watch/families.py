"""The metrics by their names, as Prometheus reads them, each with its help.

`read` asks the record how things stand, and features what they measure there (FAMILIES in their
shown.py); `expose` writes it with what was counted.
"""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from premblyd import __version__
from premblyd.feature import added
from premblyd.features.reading.standing import standings
from premblyd.features.watch.counting import Counts, Histogram
from premblyd.record import queries, troubles
from premblyd.record.told import Family, Situation
from premblyd.store.tables import Event


def read(situation: Situation) -> list[Family]:
    """Return what the record says. Raise StoreUnreadableError when it can't be read."""
    asked = (_of_record, *added("shown", "FAMILIES"))
    return [family for ask in asked for family in ask(situation)]


def _of_record(situation: Situation) -> Iterator[Family]:
    database, now_ms = situation.database, situation.now_ms
    newest_event = Event.select(Event.received_at_ms).order_by(Event.id.desc())
    last_ms = queries.value(database, newest_event)
    if last_ms is not None:
        newest = "When the newest event came; absent while there is none."
        yield Family("premblyd_last_event_timestamp_seconds", newest, last_ms / 1000)
    configured = situation.settings.actions if situation.settings else ()
    found = standings(database, now_ms, [action.name for action in configured])
    for name, help_text in (
        ("waiting", "Deliveries that wait to run, for the first time or again."),
        ("overdue", "Deliveries that are due and do not run yet, of actions that are not paused."),
        ("dead", "Deliveries that gave up and wait for a replay."),
    ):
        counts = {each.action: getattr(each, name) for each in found}
        yield Family(f"premblyd_{name}_deliveries", help_text, counts, ("action",))
    made = "Age of the oldest delivery that has not ended; 0 for none."
    oldest = {
        each.action: max(0.0, (now_ms - (each.oldest_waiting_at_ms or now_ms)) / 1000)
        for each in found
    }
    yield Family("premblyd_oldest_waiting_seconds", made, oldest, ("action",))
    kinds = {row.kind: 0 for row in troubles.table() if row.has_metric}
    counted = Counter(item.kind for item in troubles.items(situation) if item.needs_somebody)
    needs = "How many problems `premblyd status` lists, by kind."
    yield Family("premblyd_needs_attention", needs, kinds | counted, ("kind",))


def expose(
    counts: Counts,
    record: Sequence[Family] | None,
    accept: str,
    *,
    store_works: bool,
    free_bytes: int | None,
) -> tuple[bytes, str]:
    """Return all metrics in the format that `accept`, a request's header, asks for, and that
    format. `record` is None when it can't be read."""
    registry = CollectorRegistry(auto_describe=False)
    of_record = map(_metric, record or ())
    of_daemon = _of_daemon(store_works, free_bytes, is_readable=record is not None)
    registry.register(_Families(chain(_of_counts(counts), of_daemon, of_record)))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


@dataclass(frozen=True, slots=True)
class _Families(Collector):
    """Is collected once."""

    families: Iterator[Metric]

    def collect(self) -> Iterator[Metric]:
        return self.families


def _of_counts(counts: Counts) -> Iterator[Metric]:
    yield _counter(
        "premblyd_webhooks",
        "Requests by endpoint and result. The endpoint is empty if none has the path, or if there"
        " are too many to count each.",
        counts.webhooks,
        *("endpoint", "result"),
    )
    yield _counter(
        "premblyd_events",
        "Events stored, by type, response code and outcome. Other: Prembly does not document it.",
        counts.events,
        *("type", "response_code", "outcome"),
    )
    yield _counter(
        "premblyd_rejections", "Requests refused, by reason.", counts.rejections, "reason"
    )
    ended = "Runs of hooks that have ended, by action and outcome."
    yield _counter("premblyd_attempts", ended, counts.attempts, "action", "outcome")
    for row, of_feature in counts.of_features.values():
        yield _counter(row.name, row.help, of_feature, *row.fields)
    yield _histogram(
        "premblyd_answer_duration_seconds",
        "From a webhook's complete head to its answer 200.",
        counts.answers,
    )
    ran = "How long hooks ran, by action."
    yield _histogram("premblyd_attempt_duration_seconds", ran, counts.attempt_durations, "action")


def _of_daemon(store_works: bool, free_bytes: int | None, *, is_readable: bool) -> Iterator[Metric]:
    build = {(__version__, platform.python_version()): 1}
    yield _gauge(
        "premblyd_build_info", "The version that runs; always 1.", build, "version", "python"
    )
    up = "Whether the last transaction was committed: 1, or 0."
    yield _gauge("premblyd_store_up", up, store_works)
    if free_bytes is not None:
        free = "What is free on the database's disk."
        yield _gauge("premblyd_disk_free_bytes", free, free_bytes)
    readable = "Whether the numbers below could be read from the database: 1, or 0."
    yield _gauge("premblyd_record_readable", readable, is_readable)


def _metric(family: Family) -> Metric:
    return _gauge(family.name, family.help, family.values, *family.labels)


def _counter(name: str, help_text: str, values: Any, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(name, help_text, labels=labels), values)


def _gauge(name: str, help_text: str, values: Any, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(name, help_text, labels=labels), values)


def _histogram(name: str, help_text: str, values: Any, *labels: str) -> Metric:
    return _filled(HistogramMetricFamily(name, help_text, labels=labels), values)


def _filled(metric: Metric, values: Any) -> Metric:
    """Return a metric with its values by their labels, or with its one value, which has none."""
    family: Any = metric
    for key, value in sorted(values.items() if isinstance(values, Mapping) else [((), values)]):
        labels = key if isinstance(key, tuple) else (key,)
        if isinstance(value, Histogram):
            family.add_metric(labels, list(_buckets(value)), value.total)
        else:
            family.add_metric(labels, float(value))
    return metric


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    below = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        below += count
        yield str(bound), float(below)
