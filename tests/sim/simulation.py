"""One simulation: a configuration, a world and its faults, all by one seed; lives of the daemon one
after the other on the same file; and the promises, all along and at the end."""

import asyncio
import contextlib
import functools
import gc
import itertools
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import premblyd.daemon
from premblyd.config.load import load_config
from premblyd.daemon import Daemon
from premblyd.features.asking.settings import PENDING
from premblyd.features.keeping import erasing, holds
from premblyd.features.keeping.erasing import HeldError
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.settings import RETENTION
from premblyd.features.pause import pauses
from premblyd.features.turns.settings import then_of
from premblyd.ground import telemetry
from premblyd.ground.errors import NotFoundError, PremblydError, TryAgainError
from premblyd.queue.queue import Claims
from premblyd.receive.server import Receiver
from premblyd.record.operating import Operator, transact_all
from premblyd.run import kinds
from premblyd.store.connections import connect_operator
from premblyd.store.sqlite import opening
from premblyd.store.sqlite.engine import SqliteEngine
from tests.sim.disk import CRASHES, FAILURES, Backend, Disk, Fate, InlineWriter
from tests.sim.hooks import Run, Runner, Script
from tests.sim.model import Broken, Model, d, e
from tests.sim.virtual import Crash, Loop, Time
from tests.sim.world import Api, Person, Post, make_person, make_post, send
from tests.support.webhooks import KEY, PATH

FOLDER = Path("/dev/shm")
DAY_S = 86_400.0
SEEN_S = 30.0  # after which the daemon has followed a jump of the clock
ENOUGH = 30  # lines of a story
LONGEST_S, AWAITED_S = 0.5 * DAY_S, 1.5 * DAY_S  # until it must have; and what is awaited
OWN_FAULTS = {
    "daemon.failed",
    "dispatcher.failed",
    "runner.failed",
    "webhook.failed",
    "pending.failed",
    "retention.failed",
    "store.operation_failed",
    "erasure.lines_failed",
}
# Whoever looks now and then looks less often, or most of the work would be to look.
POLLS = {
    "premblyd.run.dispatcher.POLL_S": 15.0,
    "premblyd.features.asking.pending.POLL_S": 15.0,
    "premblyd.receive.server.WATCH_EVERY_S": 10.0,
    "premblyd.features.keeping.daemon.WHOLE_EVERY_MS": 300_000,  # in hours, as in days
    "premblyd.features.watch.alerts.TroubleWatch.run": lambda _: asyncio.Event().wait(),
}


class _NoThreads:
    """A pool without threads: the loop runs at once what it is given."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, work: Callable[[], Any]) -> Any:
        return SimpleNamespace(result=work)

    def shutdown(self, **_: object) -> None: ...


class _Server:
    """Listens to nobody."""

    sockets = addresses = ("simulated",)

    def add_sockets(self, _: object) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def tell_if_elsewhere(self, _: object) -> None: ...
    async def accept_last(self) -> None: ...
    async def close_all_connections(self) -> None: ...


class Simulation:
    """What a seed makes. `hours`: of true time, before it gets quiet."""

    KINDS: tuple[str, ...] = (
        "crashes",
        "disk",
        "clock",
        "api",
        "hooks",
        "operator",
        "erase",
        "reboots",
        "stop",
    )
    HOURS: tuple[float, ...] = (0.3, 0.3, 1.5, 3.0)
    QUIET_S = 20 * 60.0  # after all has ended
    FAILURES: tuple[Fate, ...] = FAILURES

    def __init__(self, seed: int, hours: float | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.hours = hours or self.rng.choice(self.HOURS)
        self.time = Time()
        self.story: deque[tuple[float, str, frozenset[str]]] = deque(maxlen=200_000)
        self.counts: Counter[str] = Counter()
        self.loop: Loop | None = None
        self.receiver: Receiver | None = None
        self.daemon: Daemon | None = None
        self.stop: asyncio.Future[bool] | None = None
        self.is_quiet = self.unseen_jump = False
        self.followed_s = float("-inf")  # when a daemon last had moved due times by a jump
        self.machine = "machine-1"
        self._down_since: float | None = 0.0

    def _machine(self) -> str:
        return self.machine

    def tell(self, text: str, *about: object) -> None:
        self.story.append((self.time.now_s, text, frozenset(map(str, about))))

    # One run

    def run(self) -> None:
        """Raise Broken, when a promise is broken."""
        gc_was_on = gc.isenabled()
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        gc.disable()  # what is collected when would differ from run to run
        folder = Path(
            tempfile.mkdtemp(prefix="premblyd-sim-", dir=FOLDER if FOLDER.is_dir() else None)
        )
        try:
            with self.time.instead_of_real(random.Random(self.seed)), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of what a crash leaves
                try:
                    self._run_in(folder)
                finally:
                    asyncio.set_event_loop(None)
                    gc.collect()
        finally:
            shutil.rmtree(folder)
            sys.unraisablehook = hook
            if gc_was_on:
                gc.enable()

    def _run_in(self, folder: Path) -> None:
        self.engines: list[SqliteEngine] = []
        self.api = Api(self.time, self.rng, self.tell)
        self.api.sleep = asyncio.sleep
        self.script = Script(self.time, self.rng, self._begins, self._ended)
        self.model = self._open(folder)
        self.model.given = self.api.given
        try:
            with self._instead_of_the_machine():
                self._plan()
                self._go_on()
        except Broken as broken:
            broken.record = self.model.record_of(broken.about)
            raise
        finally:
            self.model.close()
            self._close()

    def _open(self, folder: Path) -> Model:
        """Make the database; return who looks into it."""
        path = folder / "premblyd.yaml"
        self.whole = self._configuration()
        path.write_text(json.dumps(self.whole))
        self.settings, self.config_path = load_config(path), path
        self.place: Any = self.settings.database
        assert isinstance(self.place, Path)
        opening.prepare(self.place)
        self.disk = Disk(self.rng)
        self.disk.told = lambda fate: self.tell(f"the next commit: {fate.name}")
        connection = sqlite3.connect(f"file:{self.place}?mode=ro", uri=True)
        model = Model(connection, self.time, self.settings)
        self.disk.committed = model.committed
        return model

    def _go_on(self) -> None:
        while not self._live():
            self._wait_for_the_next_life()

    def _close(self) -> None:
        for engine in self.engines:
            engine.close()

    def _own_parts(self) -> dict[str, Any]:
        """Return what the daemon has instead of its parts that reach the machine."""
        backend = type("OwnBackend", (Backend,), {"disk": self.disk, "engines": self.engines})
        return {
            "backend": backend,
            "Writer": type("OwnWriter", (InlineWriter,), {"disk": self.disk}),
        }

    @contextlib.contextmanager
    def _instead_of_the_machine(self) -> Iterator[None]:
        server = _Server()
        runner = type("OwnRunner", (Runner,), {"script": self.script})
        own: Any = {
            **self._own_parts(),
            "listening": SimpleNamespace(listen=lambda _: server),
            "make_server": lambda _: server,
            "presence": mock.MagicMock(),
            "find_marks": lambda: {run.mark for run in self.script.running},
            "kill_marked": self.script.kill_marked,
            "random": SimpleNamespace(Random=lambda: random.Random(self.seed)),
        }
        with contextlib.ExitStack() as patched:
            patched.enter_context(mock.patch.multiple(premblyd.daemon, **own))
            machine = mock.patch("premblyd.queue.heartbeat.machine_start", self._machine)
            patched.enter_context(machine)
            executor = "premblyd.receive.recognition.ThreadPoolExecutor"
            patched.enter_context(mock.patch(executor, _NoThreads))
            patched.enter_context(
                mock.patch("premblyd.features.asking.client.HttpClient", return_value=self.api)
            )
            patched.enter_context(mock.patch.object(Claims, "_start", self._claiming()))
            patched.enter_context(mock.patch.object(kinds, "runner_of", return_value=runner))
            patched.enter_context(mock.patch.object(telemetry, "LISTENERS", [self._hear]))
            for name, value in POLLS.items():
                patched.enter_context(mock.patch(name, value))
            yield

    def _claiming(self) -> Callable[..., Any]:
        """Return what stands for Claims._start, and notes that hooks begin."""
        real = Claims._start

        def start(claims: Claims, transaction: Any, starts: Any, *rest: Any) -> Any:
            self.disk.is_claim |= bool(starts)
            return real(claims, transaction, starts, *rest)

        return start

    def _hear(self, event: str, fields: Any) -> None:
        """A fault that the daemon itself calls its own is one."""
        if event in OWN_FAULTS:
            raise Broken(f"the daemon has no fault of its own: {event} {fields.get('cause')!r}")
        if event == "clock.jumped":
            self.followed_s = self.time.now_s
        is_hit = event == "clock.jumped" and self.faults["crashes"] and not self.is_quiet
        if is_hit and self.loop and self.rng.random() < 0.4:  # who starts knows what was followed
            self.loop.kill_soon(self.rng.choice((3, 10, 40)))
        if event in ("clock.jumped", "attempt.lease_lost", "daemon.was_down", "pending.given_up"):
            told = {name: value for name, value in fields.items() if name != "reference"}  # salted
            self.tell(f"the log: {event} {told}", d(fields.get("delivery")))

    # Lives

    def _live(self) -> bool:
        """Let the daemon live until it dies, stops, or all is over. Return whether that is."""
        loop = self.loop = Loop(self.time)
        asyncio.set_event_loop(loop)
        daemon = Daemon(self.settings, self.config_path)
        telemetry.LISTENERS[:] = [self._hear]
        self.counts["lives"] += 1
        self.script.life += 1
        self.tell("the daemon starts")
        is_over = False
        try:
            is_over = loop.run_until_complete(self._serve(daemon))
            self.tell("the daemon has stopped")
        except Crash:
            self.counts["crashes"] += 1
            self.tell("the daemon is killed")
        except PremblydError as error:
            self.tell(f"the daemon does not start: {error}")
            if "part of the daemon failed" in str(error):
                raise Broken("no part of the daemon fails") from None
        finally:
            self.receiver = self.stop = self.loop = self.daemon = None
            loop.throw_away()
            for engine in self.engines:
                engine.close()
            self.engines.clear()
            self._down_since = self.time.now_s
            jumped_s = self.model.clock_jumped_s
            if self.followed_s < jumped_s and self.time.now_s - jumped_s < SEEN_S:
                self.model.clock_set_s, self.unseen_jump = self.time.now_s, True
        return is_over

    async def _serve(self, daemon: Daemon) -> bool:
        assert self.loop is not None
        async with daemon:
            self.model.down_s += self.time.now_s - (self._down_since or 0)
            self.model.calm_since_s = self.time.now_s
            self.receiver, self.unseen_jump = daemon._receiver, False
            self.daemon = daemon
            self.stop = self.loop.create_future()
            self.model.look()
            is_over = await self.stop
            self.receiver = None
        self.model.look()
        return is_over

    def _wait_for_the_next_life(self) -> None:
        if self.faults["clock"] and not self.is_quiet and self.rng.random() < 0.3:
            self._clock_is_set()
        down_s = self.rng.choice((0.2, 3.0, 30.0, 30.0, 600.0)) if not self.is_quiet else 1.0
        until_ns = self.time.true_ns + round(down_s * 1e9)
        while self.time.pass_until(until_ns):
            continue
        if self.faults["reboots"] and self.rng.random() < 0.3:
            self.machine += "'"
            self.time.restart_machine()
            self.model.lost_jump |= self.unseen_jump or self.time.own.wall_stands
            for run in self.script.running:
                self.script.kill(run)
            self.tell("the machine starts again")

    # What is planned by the seed

    def _configuration(self) -> dict[str, Any]:
        rng = self.rng
        actions = []
        for number in range(rng.randint(2, 5)):
            first_delay = rng.choice(("0s", "4s", "60s", "1h"))
            action: dict[str, Any] = {
                "name": f"act{number}",
                "response_codes": rng.choice((["*"], ["*"], ["00"], ["00", "01"], ["00", "02"])),
                "shell": "true",
                "timeout": "20s",
                "retry": {
                    "attempts": rng.choice((1, 2, 4)),
                    "first_delay": first_delay,
                    "factor": rng.choice((1, 3)),
                    "max_delay": "1h" if first_delay == "1h" else "10m",
                },
                "concurrency": rng.choice((1, 2, 4)),
                "erased": rng.choice(("skip", "skip", "run")),
            }
            if rng.random() < 0.4:
                action["confirm"] = True
            if rng.random() < 0.45:
                action["once"] = "reference"
            if rng.random() < 0.4:
                action["order"] = {"by": "reference", "then": rng.choice(("continue", "wait"))}
            actions.append(action)
        configuration: dict[str, Any] = {
            "database": "sqlite:///premblyd.db",
            "endpoints": [{"name": "prembly", "path": PATH, "keys": {"live": KEY}}],
            "prembly": {"url": "http://127.0.0.1:9", "api_key": "secret", "rate": 5},
            "actions": actions,
        }
        if rng.random() < 0.6:
            configuration["pending"] = {"ask": ["10s", "1m", "5m"], "give_up": "1h"}
        if rng.random() < 0.5:
            body = rng.choice((1, 1, 2))
            periods = {"body": f"{body}h"}
            if rng.random() < 0.5:
                periods["identity"] = f"{body + rng.choice((0, 1))}h"
            if rng.random() < 0.7:
                periods["record"] = f"{body + rng.choice((0, 0, 1, 2))}h"
            configuration["retention"] = periods
        return configuration

    def _plan(self) -> None:
        rng, length_s = self.rng, self.hours * 3600
        # Not each kind of fault in each world: what one hides another shows.
        self.faults = {kind: rng.random() < 0.45 for kind in self.KINDS}
        self.tell(f"faults: {', '.join(kind for kind, is_on in self.faults.items() if is_on)}")
        if self.faults["hooks"] or self.faults.get("clock"):  # which tells where something waits
            self.script.bad = rng.choice((0.1, 0.4, 0.8))
            self.script.slow = rng.choice((0, 0.05, 0.3))
            self.script.lacks = rng.choice((0, 0.05))
        self._busy: list[float] = []  # when something comes: then faults tell most
        number = itertools.count(1)
        for which, at_s in enumerate(self._moments(length_s)):
            person = make_person(which, rng, at_s)
            self.model.people.append(person)
            self.api.people[person.reference] = person
            self._plan_posts(person, at_s, number)
        self._plan_late_posts(length_s)
        count = round(6 + 6 * self.hours)
        for kind, fault in self._faults().items():
            if self.faults[kind]:
                for _ in range(rng.randint(1, count)):
                    at_s = rng.choice(self._busy) if rng.random() < 0.7 else length_s * rng.random()
                    at_s = min(at_s + rng.choice((0.0, 0.05, 0.6, 2.5)), length_s - 0.001)
                    self.time.at(at_s, self._unless_quiet(fault))
        for minutes in range(10, round(length_s / 60), 10):
            self.time.at(
                minutes * 60, self._look if minutes % 20 else self.model.nothing_is_held_up
            )
        self.time.at(length_s, self._be_quiet)
        self._plan_reloads(length_s)

    def _plan_reloads(self, length_s: float) -> None:
        """Turn features off for a while, in some worlds: by a generator of their own, so that the
        others stay as they are."""
        rng = random.Random(f"reloads {self.seed}")
        self.comes_back = rng.random() < 0.5
        if rng.random() < 0.35:
            for _ in range(rng.randint(1, 4)):
                off_s = rng.choice(self._busy) + rng.choice((0.05, 2.5, 60.0))
                without = rng.choice(("order", "once", "confirm", "pending", "retention"))
                self.time.at(off_s, self._unless_quiet(functools.partial(self._reload, without)))
                if self.comes_back:
                    again_s = off_s + rng.choice((1, 60, 1200))
                    self.time.at(again_s, self._unless_quiet(self._reload))

    def _reload(self, without: str = "") -> None:
        """Have the daemon, or its next life, do without a feature; "": with all again."""
        self.config_path.write_text(json.dumps(lacking(self.whole, without)))
        self.settings = load_config(self.config_path)
        self.model.off = without
        self.model.turned_off |= {without}
        self.model.calm_since_s = self.time.now_s
        self.tell(f"the configuration has no `{without}`" if without else "it has all again")
        if self.daemon is not None and self.loop is not None:
            self.loop.create_task(self.daemon.reload(self.daemon.read()))

    def _moments(self, length_s: float) -> Iterator[float]:
        """Yield when somebody is verified, and then another."""
        for _ in range(round(8 + 10 * min(self.hours, 5))):
            yield self.rng.uniform(1, length_s)

    def _faults(self) -> dict[str, Callable[[], None]]:
        """Return what happens now and then of the kinds of faults."""
        return {
            "crashes": self._crash_soon,
            "disk": self._disk_fails,
            "clock": self._clock_is_set,
            "api": self._api_changes,
            "operator": self._somebody_operates,
            "erase": self._somebody_is_erased,
            "stop": self._stop_daemon,
        }

    def _look(self) -> None:
        self.model.nothing_is_held_up()
        self.model.look()
        self.model.attempts_add_up()

    def _plan_posts(self, person: Person, at_s: float, number: Iterator[int]) -> None:
        rng = self.rng
        for since_s, word in person.words:
            first_s = max(at_s, since_s)
            for _ in range(rng.choice((1, 1, 1, 2))):
                post = make_post(next(number), person, word, rng)
                self._plan_post(post, first_s + rng.choice((0, 0, 1, 40, 2000)))
        if rng.random() < 0.25:
            others = [
                word for word in ("VERIFIED", "NOT-VERIFIED", "PENDING") if word != word_of(person)
            ]
            word, user_ref = rng.choice(others), person.user_ref
            if rng.random() < 0.3 and word_of(person):
                word, user_ref, person.lied_about = word_of(person), "usr-thief", True
            lie = make_post(next(number), person, word, rng, false=True, user_ref=user_ref)
            self._plan_post(lie, at_s + rng.uniform(-300, 300))
        if rng.random() < 0.15:
            forged = make_post(next(number), person, "VERIFIED", rng, signed=False)
            self._plan_post(forged, at_s + rng.uniform(0, 300))

    def _plan_post(self, post: Post, at_s: float) -> None:
        self.model.posts.append(post)
        times = [at_s]
        while self.rng.random() < 0.25:
            times.append(at_s + self.rng.choice((0.0, 0.001, 5.0, 900.0, 5000.0, 9000.0)))
        for each in times:
            self._busy.append(max(each, 0))
            self.time.at(each, lambda: self._send(post))

    def _plan_late_posts(self, length_s: float) -> None:
        """Where records are deleted, have some webhooks come again after that."""
        record_ms = RETENTION.of(self.settings).record_ms
        if record_ms is None:
            return
        rng = random.Random(f"late {self.seed}")
        for post in rng.sample(self.model.posts, min(12, len(self.model.posts))):
            at_s = rng.uniform(0, length_s / 2) + record_ms / 1000 + rng.choice((600, 1500, 3000))
            self.time.at(at_s, functools.partial(self._send, post))

    # What happens in the world

    def _unless_quiet(self, fault: Callable[[], None]) -> Callable[[], None]:
        """Sleep may have held it up."""
        return lambda: None if self.is_quiet else fault()

    def _send(self, post: Post) -> None:
        post.tries += 1
        post.first_sent_s = post.first_sent_s or self.time.now_s
        about = (post.name, post.person.reference)
        if self.receiver is None:
            return self._again(post)
        self.tell(
            f"{post.name}: {post.word or 'code 01'} of {post.spelling}"
            f"{'' if post.signed else ', forged'}{', false' if post.false else ''}",
            *about,
        )
        self.counts["webhooks"] += 1
        life, sent_s = self.loop, self.time.now_s

        def ended(answer: bytes) -> None:
            if self.loop is life and self.loop is not None:
                self._answered(post, answer, sent_s)

        token = f"token-{self.rng.getrandbits(32)}"
        send(self.receiver, post, ended, token)
        return None

    def _answered(self, post: Post, answer: bytes, sent_s: float) -> None:
        about = (post.name, post.person.reference)
        status = int(answer.split(b" ")[1]) if answer else 0
        if status == 200:
            said = json.loads(answer.partition(b"\r\n\r\n")[2])
            again = ", again" if said["duplicate"] else ""
            self.tell(f"200: event {said['event']}{again}", *about, e(said["event"]))
            self.counts["acknowledged"] += 1
            if post.first_ack_s is None:  # the machine may have slept since it was sent
                post.received_s = sent_s
            return self.model.acknowledged(post, said["event"], duplicate=said["duplicate"])
        self.tell(f"answer {status}", *about)
        self.model.require(
            status != 401 or not post.signed, "what is signed is not refused", post.name
        )
        self.model.require(status in (401, 503, 0), f"no answer but 200, 401, 503: {status}")
        return self._again(post) if post.signed else None

    def _again(self, post: Post) -> None:
        if post.tries < 6 and self.rng.random() < 0.8:
            self.time.at(self.rng.choice((5, 60, 600)), lambda: self._send(post))

    def _begins(self, run: Run) -> None:
        self.tell(
            f"hook {run.action} of delivery {run.delivery} begins, attempt {run.attempt}",
            d(run.delivery), e(run.event),
        )  # fmt: skip
        self.counts["runs"] += 1
        self.model.begins(run)
        if self.faults["crashes"] and self.loop and not self.is_quiet and self.rng.random() < 0.05:
            self.loop.kill_soon(self.rng.choice((3, 10, 30)))  # and the hook goes on

    def _ended(self, run: Run) -> None:
        how = "succeeds" if run.succeeded_s is not None else "ends"
        self.tell(
            f"hook {run.action} of delivery {run.delivery} {how}", d(run.delivery), e(run.event)
        )

    def _crash_soon(self) -> None:
        if self.rng.random() < 0.5:
            fates = [Fate.WELL] * self.rng.choice((0, 1, 2, 5))
            self.disk.next_fates = [*fates, self.rng.choice(CRASHES)]
        elif self.loop is not None:
            self.loop.kill_soon(self.rng.choice((0, 3, 10, 40, 200)))

    def _disk_fails(self) -> None:
        if self.rng.random() < 0.4:
            self.disk.next_claim = self.rng.choice(self.FAILURES[2:])
            return
        if self.rng.random() < 0.6:
            fates = [Fate.WELL] * self.rng.choice((0, 1, 3))
            self.disk.next_fates = [
                *fates,
                *self.rng.choices(self.FAILURES, k=self.rng.choice((1, 1, 3))),
            ]
            return
        self.disk.fails_with = self.rng.choice((None, Fate.LOCKED, Fate.FULL))
        self.disk.slow_s = self.rng.choice((0.0, 0.3, 3.0, 12.0))
        self.time.at(self.rng.choice((2, 20, 100)), self._mend_disk)

    def _mend_disk(self) -> None:
        self.disk.mend()
        self.model.calm_since_s = self.time.now_s

    def _clock_is_set(self) -> None:
        self.model.clock_was_set = True
        if self.stop is None or self.stop.done():
            self.model.clock_set_s, self.unseen_jump = self.time.now_s, True
        rng = self.rng
        match rng.randrange(4):
            case 0:
                self.time.own.wall_stands = not self.time.own.wall_stands
                self.tell(
                    "the wall's clock stands still" if self.time.own.wall_stands else "it goes on"
                )
            case 1:
                sleep_s = rng.choice((5, 300, 5000, 20_000))
                self.tell(f"the machine sleeps for {sleep_s} s")
                is_seen = self.time.now_s - self.model.clock_jumped_s > SEEN_S
                self.time.advance(sleep_s * 10**9, asleep=True)
                self.model.calm_since_s = self.time.now_s
                if not is_seen:
                    self.model.clock_jumped_s = self.time.now_s
            case _:
                by_s = rng.choice((1, -1)) * rng.choice((3, 100, 4000, 90_000, 40_000_000))
                self.tell(f"the wall's clock is set by {by_s} s")
                self.time.own.wall_ns += by_s * 10**9
                self.model.clock_jumped_s = self.time.now_s

    def _api_changes(self) -> None:
        self.api.mode = self.rng.choice(("well", "moody", "moody", "silent", "busy", "broken"))
        self.model.can_ask, self.model.calm_since_s = self.api.mode == "well", self.time.now_s
        self.tell(f"Prembly's API is {self.api.mode}")

    def _stop_daemon(self) -> None:
        if self.stop is not None and not self.stop.done():
            self.tell("SIGTERM")
            self.stop.set_result(False)

    def _somebody_operates(self) -> None:
        # What somebody makes due while the daemon follows a jump is moved as if it were older.
        if self.time.now_s - self.model.clock_jumped_s < SEEN_S:
            return
        rng, operator = self.rng, Operator(actor="ada")
        with contextlib.closing(connect_operator(self.place)) as database:
            now_ms = database.now_ms()
            name = rng.choice([*self.model.actions])
            match rng.randrange(7):
                case 0 if name not in self.model.paused:
                    database.transact(pauses.pause("ada", name, now_ms, None, None))
                    self.model.paused[name] = self.time.now_s
                    self.tell(f"{name} is paused")
                case 0 | 1:
                    self._resume(database, rng.choice([*self.model.paused] or [name]))
                case 2:
                    self._replay(database, rng.randint(1, 3))
                case 3:
                    ids = self.model.rows(
                        "SELECT id FROM delivery WHERE state IN ('pending', 'dead')"
                    )
                    for (delivery,) in rng.sample(ids, min(2, len(ids))):
                        self.model.cancelled.add(delivery)
                        database.transact(operator.cancel(delivery, now_ms))
                        self.tell(f"delivery {delivery} is cancelled", d(delivery))
                case _:
                    person = rng.choice(self.model.people)
                    if person.erased_s is None and not person.held:
                        subject = Named.user(person.user_ref)
                        database.transact(holds.place(subject, actor="ada", now_ms=now_ms))
                        person.held = True
                        self.model.hold(person)
                        self.tell(f"{person.user_ref} is on hold", person.reference)

    def _resume(self, database: Any, name: str) -> None:
        database.transact(pauses.resume("ada", name, database.now_ms()))
        self.model.calm_since_s = self.time.now_s
        if self.model.paused.pop(name, None) is not None:
            self.tell(f"{name} goes on")

    def _replay(self, database: Any, most: int) -> None:
        rows = self.model.rows("SELECT id, action FROM delivery WHERE state = 'dead'")
        for delivery, name in self.rng.sample(rows, min(most, len(rows))):
            action = self.model.actions[name]
            self.model.replayed[delivery] = self.time.now_s
            self.tell(f"delivery {delivery} is replayed", d(delivery))
            changes = Operator(actor="ada").replay(
                {delivery: action.retry.attempts}, database.now_ms(), {delivery: then_of(action)}
            )
            for _ in transact_all(database, changes):
                continue

    def _somebody_is_erased(self) -> None:
        person = self.rng.choice(self.model.people)
        if self.rng.random() < 0.6:  # of whom something was sent just now
            person = max(self.model.posts, key=lambda post: post.first_sent_s).person
        if person.lied_about:
            return
        with contextlib.closing(connect_operator(self.place)) as database:
            try:
                erasing.erase(
                    database, erasing.Request(named=Named.user(person.user_ref), actor="ada")
                )
            except (NotFoundError, TryAgainError):
                return
            except HeldError:
                self.model.require(person.held, "only a hold forbids to erase", person.reference)
                return
        self.model.require(not person.held, "nobody on hold is erased", person.reference)
        person.erased_s = self.time.now_s
        self.tell(f"{person.user_ref} is erased", person.reference)

    # The end

    def _be_quiet(self) -> None:
        """From now on nothing fails, so all must end."""
        self.tell("from now on all is well")
        self.is_quiet = True
        self._mend_disk()
        if self.model.turned_off and self.comes_back:
            self._reload()
        self.api.mode, self.model.can_ask = "well", True
        self.script.bad = self.script.slow = self.script.lacks = 0
        self.time.own.wall_stands = False
        with contextlib.closing(connect_operator(self.place)) as database:
            for name in [*self.model.paused]:
                self._resume(database, name)
        self._quiet_since = self.time.now_s
        self._ended_s: float | None = None
        self.time.at(60, self._is_over)

    def _is_over(self) -> None:
        self.model.nothing_is_held_up()
        waits = self.model.unfinished()
        if self.model.lost_jump:  # while the machine started: nobody knows how far it was set
            waits = []
        left = waits or (
            PENDING.of(self.settings) and not self.model.lost_jump and self.model.awaited()
        )
        now_s = self.time.now_s
        if left:
            self._ended_s = None
            self.model.require(
                now_s - self._quiet_since < (LONGEST_S if waits else AWAITED_S),
                f"everything ends: {left}",
                *[name for row in left for name in (d(row[0]), e(row[1]))],
            )  # fmt: skip
        elif self._ended_s is None:
            self._ended_s = now_s
        elif now_s - self._ended_s > self.QUIET_S and self.stop is not None:
            self.model.at_the_end(now_s - self._quiet_since)
            if not self.model.lost_jump:
                self.model.pending_was_settled(self._quiet_since)
            self.stop.set_result(True)
            return
        self.time.at(60, self._is_over)

    def told(self, broken: Broken) -> str:
        """Return the story of what is broken: what concerns it, and what concerns all."""
        about = set(broken.about)
        for also in ("event", "webhook", ""):  # of a delivery the event, and so on
            for _, _, its in self.story:
                if its & about:
                    about |= {name for name in its if name.startswith(also)}
            lines = [
                f"{at_s:12.3f}  {text}" for at_s, text, its in self.story if not its or its & about
            ]
            if len(lines) > ENOUGH:
                break
        lines = [*lines[:3], "…", *lines[-60:]] if len(lines) > 64 else lines
        return "\n".join([*lines, "", *broken.record])


def lacking(configuration: dict[str, Any], feature: str | None) -> dict[str, Any]:
    """Return a configuration without a feature's section and its key of actions."""
    lacks = {key: each for key, each in configuration.items() if key != feature}
    lacks["actions"] = [
        {key: each for key, each in action.items() if key != feature}
        for action in configuration["actions"]
    ]
    return lacks


def word_of(person: Person) -> str:
    return person.words[-1][1]
