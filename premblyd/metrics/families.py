"""The metrics by their names, as Prometheus reads them. docs/monitoring.md lists them."""

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
from premblyd.metrics.counting import Counts, Histogram
from premblyd.metrics.state import State


@dataclass(frozen=True, slots=True)
class Exposition:
    """Metrics as text, and of which content type that is."""

    text: bytes
    content_type: str


def expose(counts: Counts, state: State, accept: str) -> Exposition:
    """Return all metrics in the format that `accept`, a request's header, asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(counts, state))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return Exposition(encode(registry), content_type)


class _Families(Collector):
    def __init__(self, counts: Counts, state: State) -> None:
        self._counts = counts
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from _of_counts(self._counts)
        yield from _of_state(self._state)


def _of_counts(counts: Counts) -> Iterator[Metric]:
    yield _counter(
        "premblyd_webhooks",
        "Requests to endpoints, by how they ended. An empty endpoint: the path was no endpoint's,"
        " or they were too many to be told apart.",
        ("endpoint", "result"),
        counts.webhooks,
    )
    yield _counter(
        "premblyd_events",
        "Events stored, by type, response code and outcome. Codes that neither Prembly documents"
        " nor the configuration names are other.",
        ("type", "response_code", "outcome"),
        counts.events,
    )
    yield _counter(
        "premblyd_rejections",
        "Requests refused, by reason.",
        ("reason",),
        {(reason,): count for reason, count in counts.rejections.items()},
    )
    yield _counter(
        "premblyd_attempts",
        "Runs of hooks that have ended, by action and outcome.",
        ("action", "outcome"),
        counts.attempts,
    )
    yield _counter(
        "premblyd_inquiries",
        "Questions to Prembly, by purpose and result.",
        ("purpose", "result"),
        counts.inquiries,
    )
    yield _histogram(
        "premblyd_answer_duration_seconds",
        "From a webhook's whole head to its answer 200.",
        (),
        {(): counts.answers},
    )
    yield _histogram(
        "premblyd_commit_duration_seconds",
        "How long the writer took for a transaction, the disk's part included.",
        (),
        {(): counts.commits},
    )
    yield _histogram(
        "premblyd_attempt_duration_seconds",
        "How long hooks ran, by action.",
        ("action",),
        {(action,): durations for action, durations in counts.attempt_durations.items()},
    )


def _of_state(state: State) -> Iterator[Metric]:
    runtime, sizes = state.runtime, state.sizes
    yield _gauge(
        "premblyd_build_info",
        "The version that runs; always 1.",
        ("version", "python"),
        {(__version__, platform.python_version()): 1},
    )
    for name, help_text, value in (
        (
            "premblyd_requests_in_flight",
            "Webhooks that are being read or stored.",
            runtime.requests,
        ),
        ("premblyd_connections", "Open connections on the public listener.", runtime.connections),
        ("premblyd_hooks_running", "Hooks that run now.", runtime.hooks),
        (
            "premblyd_store_up",
            "Whether the last transaction was committed: 1, or 0.",
            int(runtime.store_works),
        ),
        ("premblyd_database_bytes", "Size of the database file.", sizes.database_bytes),
        ("premblyd_wal_bytes", "Size of its write-ahead log.", sizes.log_bytes),
        (
            "premblyd_disk_free_bytes",
            "What is free on the database's disk.",
            sizes.free_bytes,
        ),
        (
            "premblyd_record_readable",
            "Whether the numbers below could be read from the database: 1, or 0.",
            int(state.record is not None),
        ),
    ):
        if value is not None:
            yield _gauge(name, help_text, (), {(): value})
    record = state.record
    if record is None:
        return
    if record.last_event_ms is not None:
        yield _gauge(
            "premblyd_last_event_timestamp_seconds",
            "When the newest event came; not there while there is none.",
            (),
            {(): record.last_event_ms / 1000},
        )
    yield _gauge(
        "premblyd_hosts_alive",
        "Daemons that work on the database: this one, and on PostgreSQL others.",
        (),
        {(): record.hosts_alive},
    )
    for name, help_text, by_action in (
        (
            "premblyd_backlog_deliveries",
            "Deliveries that wait to run, for the first time or again.",
            {each.action: float(each.backlog) for each in record.actions},
        ),
        (
            "premblyd_overdue_deliveries",
            "Deliveries that are due and do not run yet.",
            {each.action: float(each.overdue) for each in record.actions},
        ),
        (
            "premblyd_dead_deliveries",
            "Deliveries that gave up and wait for a replay.",
            {each.action: float(each.dead) for each in record.actions},
        ),
        (
            "premblyd_oldest_waiting_seconds",
            "How long ago the oldest delivery was made that has not ended; 0 for none.",
            {
                each.action: max(0.0, (record.at_ms - each.oldest_waiting_ms) / 1000)
                if each.oldest_waiting_ms
                else 0.0
                for each in record.actions
            },
        ),
    ):
        values = {(action,): value for action, value in by_action.items()}
        yield _gauge(name, help_text, ("action",), values)
    yield _gauge(
        "premblyd_needs_attention",
        "What `premblyd status` tells, by kind: how many things of it need somebody.",
        ("kind",),
        {(kind,): count for kind, count in record.attention.items()},
    )


def _counter(
    name: str, help_text: str, labels: Iterable[str], values: Mapping[Any, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=list(labels))
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _gauge(
    name: str, help_text: str, labels: Iterable[str], values: Mapping[Any, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=list(labels))
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _histogram(
    name: str, help_text: str, labels: Iterable[str], values: Mapping[Any, Histogram]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_text, labels=list(labels))
    for key, histogram in sorted(values.items()):
        buckets, below = [], 0
        for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
            below += count
            buckets.append((str(bound), float(below)))
        family.add_metric(list(key), buckets, histogram.total)
    return family
