"""Alerts: trouble is told once, gathered, by a hook, and not again within `every`."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.config.hooks import CommandHook, HttpHook, ShellHook
from premblyd.config.load import parse_config
from premblyd.config.secrets import SecretPlaces
from premblyd.features.watch.alerts import AlertLog, TroubleWatch
from premblyd.features.watch.settings import Alert, kinds
from premblyd.ground.errors import ConfigError
from premblyd.ground.times import Clock
from premblyd.queue.jobs import Result
from premblyd.record import troubles
from premblyd.record.told import Item, Situation, Trouble
from premblyd.run.kinds import Invocation
from premblyd.store.connections import connect_read_only
from premblyd.store.states import AttemptOutcome
from tests.support.commands import run
from tests.support.daemon import Premblyd
from tests.support.database import away, locked
from tests.support.dispatching import runners_of
from tests.support.jobs import PLACES, action, action_of, settings
from tests.support.logs import logged
from tests.support.processes import runs
from tests.support.queue import FAILED, SUCCEEDED, claim, finish
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store
from tests.support.waiting import wait_until

FAST = "from premblyd.features.watch import alerts; alerts.LOOK_EVERY_S = 0.05"
HOUR_MS = 3_600_000
BASE = "database: sqlite:///p.db\nendpoints: [{name: prembly, path: /p, keys: {live: a-key}}]\n"


def alert(*on: Any, name: str = "page", **keys: Any) -> Alert:
    hook = {} if keys.keys() & {"shell", "command", "worker", "http"} else {"shell": "true"}
    return Alert.model_validate({"name": name, "on": list(on), **hook, **keys}, context=PLACES)


class StoppedClock(Clock):
    """A clock that stands still until the test sets it."""

    at_ms = NOW_MS

    def now_ms(self) -> int:
        return self.at_ms


class Recorder:
    """A runner that keeps what it is to run, and says that it succeeded unless told otherwise."""

    def __init__(self) -> None:
        self.runs: list[Invocation] = []
        self.result = Result(outcome=AttemptOutcome.SUCCEEDED)

    async def run(self, _: Any, invocation: Invocation) -> Result:
        self.runs.append(invocation)
        return self.result

    @property
    def kinds(self) -> list[str]:
        """The kinds of trouble that were told, for each time."""
        return [str(run.environment["PREMBLYD_ALERT_KINDS"]) for run in self.runs]


class Watching:
    """A watch on a real record, whose looks and time the test decides."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = StoppedClock()
        self.runner = Recorder()
        self.store_error: str | None = None
        self.is_leader = True
        self.restart()

    def restart(self) -> None:
        runner: Any = self.runner
        self._watch = TroubleWatch(
            AlertLog(self.store.writer),
            runners_of({ShellHook: runner, CommandHook: runner, HttpHook: runner}),
            self.clock,
            self.store.place,
            store_error=lambda: self.store_error,
            is_leader=lambda: self.is_leader,
        )

    def configure(self, *alerts: Alert) -> None:
        self._watch.configure(settings(actions=(action("crm", "00"),), alerts=alerts))

    def look(self, times: int = 1, after_ms: int = 0) -> list[str]:
        """Look so often, `after_ms` later; return the kinds that were told meanwhile."""
        self.clock.at_ms += after_ms
        before = len(self.runner.runs)
        for _ in range(times):
            self.store.wait(self._watch.look())
        return self.runner.kinds[before:]

    def bury(self, count: int = 1, name: str = "crm") -> None:
        """Add deliveries that are dead."""
        now_ms = self.clock.now_ms()
        for number in range(count):
            body = b"%d %d %s" % (now_ms, number, name.encode())
            self.store.add(name, body=body, attempts=1)
        for job in claim(self.store, 1 << 50, 9, (), **{name: 9}).jobs:
            finish(self.store, job, FAILED, now_ms=now_ms)

    def forget_the_dead(self) -> None:
        """End them, as a replay that succeeds or a cancel does."""
        self.store.by_hand("UPDATE delivery SET state = 'cancelled' WHERE state = 'dead'")

    @property
    def titles(self) -> list[str]:
        """The titles of what was told."""
        return [str(run.environment["PREMBLYD_ALERT_TITLE"]) for run in self.runner.runs]


@pytest.fixture
def watching(store: Store) -> Watching:
    return Watching(store)


def test_trouble_is_told_when_it_lasts_and_not_again_within_every(watching: Watching) -> None:
    watching.configure(alert("dead", every="30m"))
    assert watching.look(2) == []
    watching.bury(2)
    assert watching.look() == [], "it may pass by itself"
    assert watching.look() == ["dead"]
    assert watching.look(3, after_ms=29 * 60_000) == []
    assert watching.look(3, after_ms=60_000) == ["dead"], "it lasts"
    assert watching.look(2, after_ms=-400 * 24 * HOUR_MS) == ["dead"], "the clock was set back"


def test_what_comes_together_is_told_together(watching: Watching) -> None:
    watching.configure(alert("dead", "database"))
    watching.bury()
    watching.store_error = "the disk is full"
    assert watching.look(2) == ["database dead"]


def test_trouble_of_one_action_does_not_silence_that_of_another(watching: Watching) -> None:
    watching.configure(alert("dead", every="1h"))
    watching.bury(5, "newsletter")
    assert watching.look(2) == ["dead"]
    watching.bury(3, "activate")
    assert watching.look(2, after_ms=60_000) == ["dead"]
    assert watching.titles[-1].endswith("2 things need attention (dead)")
    assert watching.look(3, after_ms=60_000) == []


def test_a_restart_repeats_nothing(watching: Watching) -> None:
    def restart() -> None:
        watching.restart()
        watching.configure(alert("dead", every="30m"))

    restart()
    watching.bury()
    assert watching.look(2) == ["dead"]
    restart()
    assert watching.look(3, after_ms=60_000) == []
    assert watching.look(1, after_ms=HOUR_MS) == ["dead"]
    watching.forget_the_dead()
    watching.bury(1, "mail")
    assert watching.look(2, after_ms=HOUR_MS) == ["dead"]
    assert watching.store.rows("SELECT name, kind FROM alert") == [("page", "dead mail")]


def test_what_comes_and_goes_is_told_once_within_every(watching: Watching) -> None:
    watching.configure(alert("database", every="30m"))
    told: list[str] = []
    for _ in range(5):
        for error in ("the disk is full", None):
            watching.store_error = error
            told += watching.look(2, after_ms=60_000)
    assert told == ["database"]


def test_that_the_record_cannot_be_read_is_told(watching: Watching) -> None:
    watching.configure(alert("dead", {"silent": "1m"}), alert("database", name="other"))
    watching.bury()
    assert watching.look(2, after_ms=HOUR_MS) == ["dead silent"]
    with away(watching.store.place):
        assert watching.look(3) == ["database"]


def test_a_hook_that_fails_has_told_nobody_runs_again_soon_and_is_trouble_until_then(
    watching: Watching,
) -> None:
    watching.configure(alert("dead", "alert"))
    watching.bury()
    watching.runner.result = Result(
        outcome=AttemptOutcome.FAILED, exit_code=3, error="exit 3", output="mail:\n cannot send\n"
    )
    with logged() as lines:
        assert watching.look(3) == ["dead"] * 2
    assert [(line["event"], line["exit_code"]) for line in lines] == [("alert.failed", 3)] * 2
    told = "The alert page could not be sent: exit 3. It printed: mail: cannot send"
    assert failed_alerts(watching) == [told]
    watching.runner.result = SUCCEEDED
    with logged() as lines:
        assert watching.look() == ["dead"], "not of itself"
        assert watching.look(2, after_ms=60_000) == []
    assert [(line["event"], line["kinds"]) for line in lines] == [("alert.sent", ["dead"])]
    assert failed_alerts(watching) == []


def test_another_alert_tells_that_it_could_not_be_sent(watching: Watching) -> None:
    watching.configure(alert("alert", name="chat"))
    watching.store.by_hand(
        "INSERT INTO alert (name, kind, at_ms)"
        f" VALUES ('page', '', {watching.clock.now_ms()}), ('chat', '', {watching.clock.now_ms()})"
    )
    watching.configure(alert("alert", name="chat"), alert("dead"))
    assert watching.look(2) == ["alert"]
    assert watching.titles[-1].endswith(": The alert page could not be sent: its hook failed.")


def failed_alerts(watching: Watching) -> list[str]:
    with closing(connect_read_only(watching.store.place)) as database:
        situation = Situation(record=database, now_ms=watching.clock.now_ms())
        return [item.text for item in troubles.items(situation, kinds=["alert"])]


def test_of_two_hosts_the_first_tells_and_repeats_nothing_that_the_other_has_told(
    watching: Watching, store: Store
) -> None:
    first, second = watching, Watching(store)

    def lead(leader: Watching) -> None:
        first.is_leader, second.is_leader = leader is first, leader is second

    for each in (first, second):
        each.configure(alert("dead"))
    lead(first)
    first.bury()
    assert (first.look(3), second.look(3)) == (["dead"], [])
    lead(second)
    assert (first.look(3), second.look(3)) == ([], [])
    second.bury(1, "mail")
    assert (first.look(2), second.look(2)) == ([], ["dead"])
    lead(first)
    assert first.look(3) == []
    assert first.look(after_ms=30 * 60_000) == ["dead"]


def test_each_alert_tells_its_own_kinds(watching: Watching) -> None:
    watching.configure(alert("dead", name="mail", every="24h"), alert("database", name="page"))
    watching.bury()
    watching.store_error = "the disk is full"
    assert sorted(watching.look(2)) == ["database", "dead"]
    assert watching.look(2, after_ms=HOUR_MS) == ["database"]


def test_silence_is_told_after_so_long_and_ends_with_an_event_of_prembly(
    watching: Watching,
) -> None:
    def receive(body: bytes, **changes: Any) -> None:
        watching.store.add(received_at_ms=watching.clock.now_ms(), body=body, **changes)

    watching.configure(alert({"silent": "6h"}, every="1h"))
    assert watching.look(2, after_ms=5 * HOUR_MS) == [], "it counts from the start"
    assert watching.look(2, after_ms=HOUR_MS) == ["silent"]
    receive(b"1")
    assert watching.look(2) == []
    assert watching.look(2, after_ms=6 * HOUR_MS - 1) == []
    receive(b"an answer to us", verified_by="prembly-api")
    assert watching.look(2, after_ms=1) == ["silent"]


@pytest.mark.sqlite
def test_a_full_disk_is_told_by_the_alerts_own_share(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def disk(situation: Situation) -> Iterator[Item]:
        asked.append(situation.disk_percent)
        if situation.disk_percent <= 80:
            yield Item(text="full")

    row = Trouble(kind="disk", ask=disk, reads_record=False)
    monkeypatch.setattr(troubles, "table", lambda: (row,))
    watching.configure(
        alert({"disk": "80%"}, name="early"), alert({"disk": "95%"}, name="late"), alert("disk")
    )
    assert watching.look(2) == ["disk"]
    assert set(asked) == {80, 95, 90}


def test_notices_wake_nobody(watching: Watching) -> None:
    watching.configure(alert("unmatched"))
    now_ms = watching.clock.now_ms()
    watching.store.add(received_at_ms=now_ms, response_code="00")
    assert watching.look(2) == []
    watching.store.add(received_at_ms=now_ms, response_code="07", body=b"2")
    assert watching.look(2) == ["unmatched"]


def test_a_process_gets_the_text_and_a_url_gets_json(watching: Watching) -> None:
    http = {"url": "https://chat.example.com/hook"}
    watching.configure(alert("dead", name="mail"), alert("dead", name="chat", http=http))
    watching.bury(2)
    watching.look(2)
    mail, chat = sorted(watching.runner.runs, key=action_of, reverse=True)
    text = mail.body.decode()
    assert "!  2 deliveries of crm gave up (dead).\n   Fix the cause" in text
    assert "   premblyd deliveries --state dead --action crm\n" in text
    assert "Not repeated within 30m." in text
    posted = json.loads(chat.body)
    assert list(posted) == "alert host at severity kinds title text attention".split()
    assert (posted["alert"], posted["kinds"], posted["severity"]) == ("chat", ["dead"], "warning")
    assert posted["text"] == text
    assert "`premblyd cancel --dead --action crm`" in posted["attention"][0]["remedy"]
    assert posted["title"].endswith(": 2 deliveries of crm gave up (dead).")


@for_each(
    ("line", "mistake"),
    [
        ("on: [silent], shell: x", "should say for how long: `silent: 6h`"),
        ("on: [{disk: 120%}], shell: x", "should be a share such as 90%"),
        ("on: [{silent: soon}], shell: x", "should be a duration"),
        ("on: [dead], every: 10s, shell: x", "should be at least 1m"),
        ("on: [dead]", "should have one of shell, command"),
        ("on: [dead], http: {url: 'https://x', send: event}", "an alert has no event"),
        ("on: [dead], shell: x, response_codes: []", "unknown key `response_codes`"),
        ("on: [dead], http: {url: 'https://x'}, send: raw", "`send` goes inside `http:`"),
    ],
)
def test_a_mistake_in_an_alert_is_told(tmp_path: Path, line: str, mistake: str) -> None:
    text = f"{BASE}alerts:\n  - {{name: page, {line}}}\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, tmp_path / "p.yaml", SecretPlaces(tmp_path, {}))
    (problem,) = caught.value.problems
    assert mistake in problem.message
    assert problem.line == 4


def page(folder: Path, *on: Any) -> dict[str, Any]:
    """Return an alert that writes what it is told into files of `folder`."""
    script = f"cat > {folder}/text; env > {folder}/part; mv {folder}/part {folder}/told"
    return {"name": "page", "on": list(on), "shell": script}


def variables(folder: Path) -> dict[str, str]:
    lines = (folder / "told").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.process
@pytest.mark.promise
def test_the_daemon_tells_of_a_dead_delivery_once(daemon: Premblyd, tmp_path: Path) -> None:
    false = {"name": "crm", "response_codes": ["*"], "shell": "exit 1", "retry": {"attempts": 1}}
    daemon.configure(actions=[false], alerts=[page(tmp_path, "dead")])
    daemon.start(before=FAST)
    daemon.send(b'{"response_code": "00"}')
    wait_until((tmp_path / "told").exists)
    told = variables(tmp_path)
    shown = (told["PREMBLYD_ALERT_NAME"], told["PREMBLYD_ALERT_KINDS"])
    assert shown == ("page", "dead")
    assert told["PREMBLYD_ALERT_TITLE"].endswith("1 delivery of crm gave up (dead).")
    assert not [name for name in told if name.startswith("PREMBLY_")]
    assert "premblyd deliveries --state dead" in (tmp_path / "text").read_text()
    daemon.wait_for_rows([("page", "dead crm")], "SELECT name, kind FROM alert")
    wait_until(lambda: len(daemon.log("alert.sent")) == 1)


@pytest.mark.process
def test_the_daemon_tells_that_it_cannot_commit_by_an_alert_that_a_reload_added(
    daemon: Premblyd, tmp_path: Path
) -> None:
    daemon.start(before=FAST)
    daemon.reload(listen=daemon.address, alerts=[page(tmp_path, "database")])
    with locked(daemon.place):
        assert daemon.send(b'{"response_code": "00"}').status == 503
        wait_until((tmp_path / "told").exists)
    assert "The daemon can't store webhooks: " in (tmp_path / "text").read_text()


@pytest.mark.process
def test_a_stop_ends_an_alerts_hook_that_runs(daemon: Premblyd, tmp_path: Path) -> None:
    running = tmp_path / "running"
    hook = f"touch {running}; exec sleep 60"
    daemon.configure(alerts=[{"name": "page", "on": [{"silent": "1ms"}], "shell": hook}])
    daemon.start(before=FAST)
    wait_until(running.exists)
    assert daemon.stop() == 0
    assert not daemon.log("alert.failed")
    assert not [hook for hook in daemon._hooks if runs(hook)]


@pytest.mark.process
def test_try_runs_an_actions_hook_once_and_stores_nothing(daemon: Premblyd, tmp_path: Path) -> None:
    crm = {"name": "crm", "response_codes": ["00"], "shell": "cat; echo $PREMBLY_OUTCOME; exit 3"}
    daemon.configure(actions=[crm])
    body = tmp_path / "body.json"
    body.write_text('{"response_code": "02"}')
    done = run("try", "crm", body, "--config", daemon.config)
    assert done.code == 1
    assert done.out.splitlines()[0].startswith("crm failed after ")
    assert done.out.splitlines()[1:] == ['  | {"response_code": "02"}unknown']
    assert done.err.startswith("note: the daemon would not run it for this: response code 02")
    assert daemon.rows("SELECT count(*) FROM event") == [(0,)]
    shown = run("try", "crm", "-", "--json", "--config", daemon.config, stdin=b"{}")
    names = "name outcome exit_code http_status error output output_truncated duration_ms".split()
    assert list(json.loads(shown.out)) == names
    assert json.loads(shown.out)["exit_code"] == 3


def test_try_says_what_is_missing_and_check_what_cannot_run(daemon: Premblyd) -> None:
    done = run("try", "crm", "-", "--config", daemon.config, stdin=b"{}")
    assert (done.code, done.err) == (1, "There is no action crm; the configuration has none.\n")
    hook = {"name": "page", "on": ["dead", {"silent": "6h"}], "command": ["/nowhere/page"]}
    daemon.configure(alerts=[hook])
    done = run("check", "--config", daemon.config)
    assert "warning: alert page: /nowhere/page is not an executable here" in done.err


def test_every_kind_of_attention_can_be_an_alert() -> None:
    assert {"daemon", *kinds()} == {row.kind for row in troubles.table()}
