"""Numbers that pages promise: each is written out here, as tests that import a constant go on
passing when it is ten times as large."""

import importlib

from tests.support.pages import PAGES
from tests.support.rows import for_each

MIB = 1 << 20
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


# module.NAME below premblyd, its value, and where which words say so.
PROMISED = [
    ("receive.evidence.LINES_PER_MINUTE", 20, "configuration", "at most 20 a minute"),
    ("receive.evidence.LINES_PER_MINUTE", 20, "monitoring", "20 a minute, but for 401 and 413"),
    ("receive.evidence.MINUTE_S", 60, "configuration", "at most 20 a minute"),
    ("receive.connection.MAX_NAME_BYTES", 256, "configuration", "of a header has over 256"),
    ("receive.server.MAX_HEADER_BYTES", 32 << 10, "configuration", "its head is over 32 KiB"),
    ("record.troubles.BURST", 20, "monitoring", "20 requests were refused in an hour"),
    ("record.troubles.NOISE_BURST", 300, "monitoring", "(300 if anybody can cause it)"),
    ("record.troubles.FAILING", 3, "monitoring", "the last three attempts of an action"),
    ("features.asking.shown.DOWNTIME_DAYS", 30, "monitoring", "or 30 days have passed"),
    ("cli.check.REMINDED_MS", 30 * DAY_MS, "monitoring", "or 30 days have passed"),
    ("ground.times.DAY_MS", DAY_MS, "monitoring", "or until a day has passed"),
    ("config.values.DISK_PERCENT", 90, "monitoring", "the database's disk is 90 % full"),
    ("config.values.DISK_PERCENT", 90, "monitoring", "`disk` alone means 90%"),
    ("features.asking.shown.UNREACHABLE", 3, "monitoring", "three questions or more"),
    ("features.asking.shown.UNREACHABLE_MS", 10 * MINUTE_MS, "monitoring", "for 10 minutes"),
    ("record.troubles.LATE_MS", 5 * MINUTE_MS, "monitoring", "due more than 5 minutes ago"),
    ("store.writer.RECENT_S", 20.0, "monitoring", "(on the console: for 20 seconds)"),
    ("queue.heartbeat.LEAST_MS", HOUR_MS, "monitoring", "for more than an hour no webhook"),
    ("features.watch.alerts.LOOK_EVERY_S", 20.0, "monitoring", "looks every 20 seconds"),
    ("daemon.STUCK_MS", 30_000, "install", "is stuck for 30 seconds"),
    ("run.process.KILL_AFTER_S", 5.0, "hooks", "SIGKILL 5 s later"),
    ("run.process.MAX_OUTPUT_BYTES", 64 << 10, "hooks", "the first 64 KiB of standard"),
    ("run.shell.MAX_VALUE_BYTES", 4 << 10, "hooks", "a NUL or is over 4 KiB"),
    ("run.dispatcher.MAX_RETRY_AFTER_MS", DAY_MS, "hooks", "makes the wait longer, up to a day"),
    ("features.worker.protocol.MAX_LINE_BYTES", 64 << 10, "worker-protocol", "than 64 KiB, or"),
    ("prembly.bodies.MAX_LEVELS", 100, "worker-protocol", "over 100 levels"),
    ("prembly.bodies.MAX_VALUES", 250_000, "worker-protocol", "more than 250,000 values"),
    ("run.process.KILL_AFTER_S", 5.0, "worker-protocol", "and SIGKILL 5 s later"),
    ("run.process.MAX_OUTPUT_BYTES", 64 << 10, "worker-protocol", "attempt, the first 64 KiB"),
    ("ground.httpclient.KEPT_BYTES", 64 << 10, "hooks", "the first 64 KiB of the body are kept"),
    ("ground.httpclient.MAX_READ_BYTES", 16 * MIB, "hooks", "Reading stops at 16 MiB"),
    ("ground.httpclient.MAX_HEAD_BYTES", 64 << 10, "hooks", "A head over 64 KiB is a failure"),
    ("queue.jobs.SMALL_BYTES", 64 << 10, "hooks", "the bodies over 64 KiB of running hooks"),
    ("features.asking.client.ALLOWED_FAILURES", 5, "hooks", "After five failures in a row"),
    ("features.asking.client.FIRST_PAUSE_S", 10.0, "hooks", "nothing is asked for 10 s"),
    ("features.asking.client.MAX_PAUSE_S", 300.0, "hooks", "for up to five minutes"),
    ("ground.logs.MAX_WAITING_BYTES", 4 * MIB, "monitoring", "When 4 MiB wait"),
    ("prembly.bodies.MAX_VALUES", 250_000, "configuration", "more than 250,000 values"),
    ("ground.expressions.EXPRESSION_STEPS", 200_000, "configuration", "may take 200,000 steps"),
    ("ground.expressions.EVENT_STEPS", 300_000, "configuration", "may take 300,000 steps"),
    ("features.asking.settings._ASK_MS", (60_000, 300_000, 1_800_000, 7_200_000, 43_200_000),
     "configuration", "ask: [1m, 5m, 30m, 2h, 12h]"),
    ("queue.rejections.MAX_REJECTIONS", 10_000, "database", "the newest 10,000"),
    ("queue.rejections.MAX_NOISE", 1000, "database", "the newest 1,000"),
    ("features.console.access.LINK_LIFE_MS", 10 * MINUTE_MS, "console", "ten minutes"),
]  # fmt: skip


def value_of(constant: str) -> object:
    module, _, name = constant.rpartition(".")
    return getattr(importlib.import_module(f"premblyd.{module}"), name)


@for_each(("constant", "value", "page", "words"), PROMISED)
def test_what_a_page_promises_is_so(constant: str, value: object, page: str, words: str) -> None:
    assert value_of(constant) == value
    text = " ".join(PAGES[f"docs/{page}.md"].split())
    assert words in text, "write out in the page what is changed, and here"
