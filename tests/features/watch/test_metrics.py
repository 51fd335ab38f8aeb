"""Metrics: the counts are right, the names conventional, and the labels bounded."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from premblyd.features.watch.counting import REASONS, Counts, Histogram
from premblyd.features.watch.daemon import Exporter
from premblyd.ground.databases import DatabaseAddress
from premblyd.ground.times import Clock
from premblyd.queue.rejections import ConnectionFault
from tests.support.database import away
from tests.support.jobs import action, endpoint, settings
from tests.support.pages import PAGES, ROOT, explained
from tests.support.queue import FAILED, add_many, claim, finish
from tests.support.store import NOW_MS, Store

PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (apt-get install prometheus)"
)
CONFIG = settings(endpoint(), actions=(action("crm", "00", "E7"), action("page", "03")))


class At(Clock):
    def now_ms(self) -> int:
        return NOW_MS + 60_000


Told = tuple[str, dict[str, Any]]


def received(event: str = "webhook.received", **changes: Any) -> Told:
    fields = {"endpoint": "prembly", "type": "verification.direct", "response_code": "00"}
    return event, {**fields, "outcome": "verified", "duration_ms": 4.0, **changes}


def attempt(action: str = "crm", outcome: str = "succeeded", duration_ms: int = 300) -> Told:
    return "attempt.finished", {"action": action, "outcome": outcome, "duration_ms": duration_ms}


def rejected(reason: str = "wrong signature", endpoint: str = "prembly") -> Told:
    return "webhook.rejected", {"endpoint": endpoint, "reason": reason}


@pytest.fixture
def counts() -> Counts:
    counts = Counts()
    counts.configure(CONFIG)
    return counts


@pytest.fixture
def exporter(place: DatabaseAddress) -> Exporter:
    exporter = Exporter(place, At())
    exporter.configure(CONFIG)
    writer: Any = SimpleNamespace(last_error=None, recent_error=lambda: None)
    exporter.watch(writer)
    return exporter


def exposed(exporter: Exporter) -> str:
    return asyncio.run(exporter.expose(""))[0].decode()


def samples(exporter: Exporter) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(exposed(exporter)):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value(found: dict[str, list[Sample]], name: str, **labels: str) -> float:
    [sample] = [each for each in found[name] if each.labels == labels]
    return sample.value


def test_webhooks_are_counted_by_how_they_ended(counts: Counts) -> None:
    for told in (
        received(),
        received("webhook.duplicate"),
        rejected(),
        rejected("no such path", ""),
        ("webhook.overloaded", {"limit": "bytes"}),
        ("webhook.unavailable", {"endpoint": "prembly"}),
        ("webhook.not_logged", {"kind": "no such path", "count": 7}),
        ("daemon.stopped", {}),
    ):
        counts.listen(*told)
    assert {key: count for key, count in counts.webhooks.items() if count} == {
        ("prembly", "received"): 1,
        ("prembly", "duplicate"): 1,
        ("prembly", "rejected"): 1,
        ("prembly", "unavailable"): 1,
        ("", "rejected"): 1,
        ("", "overloaded"): 1,
    }, "a line of the log that stands for many is no request"
    assert +counts.rejections == {"wrong signature": 1, "no such path": 1}
    assert sum(counts.answers.counts) == 2


def test_a_code_or_a_type_that_nobody_knows_makes_no_label(counts: Counts) -> None:
    for code in ("00", "E7", "99", "~1234abcd", None):
        counts.listen(*received(response_code=code))
    for name in ("transaction.zyx", "transaction.processed"):
        counts.listen(*received(type=name))
    assert +counts.events == {
        ("verification.direct", "00", "verified"): 1,
        ("verification.direct", "other", "verified"): 3,
        ("verification.direct", "missing", "verified"): 1,
        ("other", "00", "verified"): 1,
        ("transaction.processed", "00", "verified"): 1,
    }


def test_attempts_are_counted_with_their_durations(counts: Counts) -> None:
    counts.listen(*attempt())
    counts.listen(*attempt(outcome="failed", duration_ms=3_600_000))
    counts.listen(*attempt(action="former"))
    assert counts.attempts["crm", "failed"] == counts.attempts["crm", "succeeded"] == 1
    durations = counts.attempt_durations["crm"]
    assert (sum(durations.counts), durations.counts[-1], durations.total) == (2, 1, 3600.3)
    assert counts.attempts["former", "succeeded"] == 1


def test_a_value_on_a_bound_is_below_it() -> None:
    histogram = Histogram((0.1, 1.0))
    for each in (0.05, 0.1, 0.5, 1.0, 7):
        histogram.observe(each)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 8.65)


def test_all_counts_are_there_from_the_start(exporter: Exporter) -> None:
    found = samples(exporter)
    for name, labels in (
        ("webhooks_total", {"endpoint": "prembly", "result": "failed"}),
        ("webhooks_total", {"endpoint": "", "result": "overloaded"}),
        ("rejections_total", {"reason": "wrong signature"}),
        ("attempts_total", {"action": "page", "outcome": "timed_out"}),
        ("attempt_duration_seconds_count", {"action": "page"}),
        ("waiting_deliveries", {"action": "page"}),
        ("inquiries_total", {"purpose": "confirm", "result": "contradicted"}),
    ):
        assert value(found, f"premblyd_{name}", **labels) == 0


def test_what_happened_and_how_things_stand_is_exposed(store: Store, exporter: Exporter) -> None:
    for told in (received(), received(), attempt()):
        exporter.counts.listen(*told)
    add_many(store, 4, "crm")
    for job in claim(store, crm=2).jobs[:1]:
        finish(store, job, FAILED)
    found = samples(exporter)
    event = {"type": "verification.direct", "response_code": "00", "outcome": "verified"}
    assert value(found, "premblyd_events_total", **event) == 2
    assert value(found, "premblyd_answer_duration_seconds_bucket", le="0.005") == 2
    assert value(found, "premblyd_answer_duration_seconds_sum") == pytest.approx(0.008)
    for name, of_crm in (("waiting", 2), ("overdue", 2), ("dead", 1)):
        assert value(found, f"premblyd_{name}_deliveries", action="crm") == of_crm
    assert value(found, "premblyd_oldest_waiting_seconds", action="crm") == 60
    assert value(found, "premblyd_last_event_timestamp_seconds") == NOW_MS / 1000
    assert value(found, "premblyd_needs_attention", kind="dead") == 1
    if isinstance(store.place, Path):
        assert value(found, "premblyd_disk_free_bytes") > 0
    assert value(found, "premblyd_record_readable") == value(found, "premblyd_store_up") == 1
    assert found["process_resident_memory_bytes"]


def test_without_a_record_the_rest_is_exposed(exporter: Exporter, place: DatabaseAddress) -> None:
    with away(place):
        found = samples(exporter)
    assert value(found, "premblyd_record_readable") == 0
    assert "premblyd_waiting_deliveries" not in found
    assert "premblyd_webhooks_total" in found


def test_nothing_that_a_sender_chose_is_exposed(store: Store, exporter: Exporter) -> None:
    store.add("crm", response_code="22200000042", reference="AMINA", user_ref="AMINA")
    exporter.counts.listen(*received(response_code="~1234abcd", reference="AMINA"))
    assert not re.search("22200000042|AMINA|1234abcd", exposed(exporter))


def test_the_page_lists_every_kind_of_attention() -> None:
    from premblyd.record import troubles

    section = PAGES["docs/monitoring.md"].partition("## What needs attention")[2]
    kinds = explained(section.partition("\n## ")[0])
    assert sorted(kinds) == sorted(row.kind for row in troubles.table())


@pytest.mark.sqlite
def test_rules_and_dashboard_name_metrics_that_exist(store: Store, exporter: Exporter) -> None:
    store.add("crm")
    lines = exposed(exporter).splitlines()
    families = {line.split()[2] for line in lines if line.startswith("# TYPE premblyd_")}
    for name in ("prometheus-rules.yaml", "grafana-dashboard.json"):
        text = (ROOT / "config" / name).read_text()
        found = re.findall(r"\bpremblyd_\w+", text)
        named = {re.sub("_(bucket|sum|count)$", "", each) for each in found}
        assert named
        assert named <= families


@pytest.mark.process
@PROMTOOL
def test_promtool_takes_the_metrics_and_the_rules_each_of_which_fires_on_what_it_is_for_alone(
    store: Store, exporter: Exporter
) -> None:
    store.add("crm")
    for told in (received(), rejected(), attempt()):
        exporter.counts.listen(*told)
    rules = f"{ROOT}/config/prometheus-rules.yaml"
    tests = Path(__file__).with_name("prometheus-rules-test.yaml")
    for command in (f"check rules --lint-fatal {rules}", f"test rules {tests}", "check metrics"):
        asked = ["promtool", *command.split()]
        done = subprocess.run(asked, input=exposed(exporter), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tried_says_what_to_do_and_leads_to_the_page() -> None:
    rules = yaml.safe_load((ROOT / "config" / "prometheus-rules.yaml").read_text())
    tried = Path(__file__).with_name("prometheus-rules-test.yaml").read_text()
    for rule in rules["groups"][0]["rules"]:
        name = rule["alert"]
        fires = f'{{alertname="{name}", alertstate="firing"}}' in tried
        assert fires or f"alertname: {name}\n        exp_alerts" in tried, name
        assert len(rule["annotations"]["description"].split()) > 4, name
        assert rule["annotations"]["runbook_url"].endswith("/monitoring.md#at-3-am")
    assert "\n## At 3 a.m.\n" in PAGES["docs/monitoring.md"]


def test_every_reason_of_a_refusal_is_counted_from_the_start() -> None:
    sources = [ROOT / "premblyd" / "receive" / "exchange.py"]
    sources.append(ROOT / "premblyd" / "prembly" / "signature.py")
    text = "".join(source.read_text() for source in sources)
    named = set(re.findall(r'(?:_refuse\(\d+, |reason.* = )"([^"]+)"', text))
    assert named
    assert {*named, *ConnectionFault} == set(REASONS)
