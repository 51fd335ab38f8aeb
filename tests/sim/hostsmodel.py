"""What several hosts promise on top, and what they don't (docs/several-hosts.md)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from premblyd.features.asking.settings import CONFIRM
from tests.sim.hooks import Run
from tests.sim.model import Model, d, e
from tests.sim.world import Post

if TYPE_CHECKING:
    from tests.sim.hosts import Host

NEAR = 0.75  # of lost_after: beats are a tenth of it apart, and a way to the server takes its time
SOON_S = 10.0  # after it goes on, a host has told the others so
NOTICED_S = 60.0  # so long after lost_after, nothing runs any more under who was lost
BEGINS_S = 80.0  # after the claim, at most
CLOCKS_MS = 100  # so far apart are the hosts' clocks at most


@dataclass
class HostsModel(Model):
    """See Model. A daemon that was killed or stopped can't end its hooks: those run on beside who
    takes over. One that is cut off ends its own."""

    SLACK_S = CLOCKS_MS / 1000  # each host knows the server's clock a little differently
    loose: set[int] = field(default_factory=set)  # lives of such daemons
    hosts: "list[Host]" = field(default_factory=list)
    silent: dict[str, float] = field(default_factory=dict)  # workers, and since when
    changes_s: list[float] = field(default_factory=list)  # when another may have become the first

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        asked = self.connection.execute(sql.replace("?", "%s"), values)
        found: list[tuple[Any, ...]] = asked.fetchall()
        return found

    def is_loose(self, run: Run) -> bool:
        return run.life in self.loose

    def expected(self, post: Post, *, duplicate: bool) -> list[str]:
        names = {action.name for action in self.hosts[0].sim.current.settings.actions}
        expected = super().expected(post, duplicate=duplicate)
        return [name for name in expected if duplicate or name in names]

    def _crashed_were_dead(self) -> None:
        """See taken_for_lost."""

    def claimed_begin(self) -> None:
        """What a host has claimed begins there, or is due again soon."""
        begun = {(run.delivery, run.attempt) for run in self.runs}
        for host in self.hosts:
            if not host.is_well(self.time.now_s - BEGINS_S) or host.disk.fails(BEGINS_S / 2):
                continue
            rows = self.rows(
                "SELECT delivery_id, number, action FROM attempt JOIN delivery"
                " ON delivery.id = delivery_id WHERE worker = ? AND outcome IS NULL"
                " AND started_at_ms < ?",
                self.worker_of(host),
                host.sim.server_ms - round(BEGINS_S * 1000),
            )
            for delivery, number, action in rows:
                begins = (delivery, number) in begun or CONFIRM.of(self.actions[action]) is not None
                self.require(begins, "what is claimed begins, or is due again", d(delivery))

    def fenced(self, host: "Host") -> None:
        """A host that comes back has ended what others run now."""
        for run in host.sim.script.running:
            rows = self.rows(
                "SELECT outcome FROM attempt WHERE delivery_id = ? AND number = ?",
                run.delivery,
                run.attempt,
            )
            is_own = rows == [(None,)] or run.life not in self.loose
            self.require(is_own, "who comes back ends what others run", d(run.delivery))

    def committed(self) -> None:
        super().committed()
        running = self.rows(
            "SELECT action, count(*) FROM delivery WHERE state = 'running' GROUP BY action"
        )
        for action, count in running:
            most = self.actions[action].concurrency.cluster
            self.require(most is None or count <= most, "no more hooks than `cluster`", action)

    # Who is lost

    def worker_of(self, host: "Host") -> str:
        return str(
            self.rows("SELECT worker FROM host WHERE name = ? ORDER BY id DESC", host.name)[0][0]
        )

    def falls_silent(self, host: "Host") -> None:
        worker, now_s = self.worker_of(host), self.time.now_s
        self.silent[worker] = now_s
        self.changes_s.append(now_s)
        lost_s = host.sim.lost_after_s + NOTICED_S
        self.time.at(lost_s, lambda: self._is_noticed(worker, now_s))

    def taken_for_lost(self, worker: str) -> None:
        """Who lives and can say so is not taken for lost, nor anybody too early."""
        lost_after_s, now_s = self.hosts[0].sim.lost_after_s, self.time.now_s
        [(name,)] = self.rows("SELECT name FROM host WHERE worker = ?", worker)
        host = next(each for each in self.hosts if each.name == name)
        lives = host.is_well(now_s - SOON_S) and self.worker_of(host) == worker
        self.require(not lives, f"who lives is not taken for lost: {name}")
        since_s = self.silent.get(worker, float("-inf"))
        self.require(
            now_s - since_s >= NEAR * lost_after_s,
            f"nobody is lost before lost_after: {name} after {now_s - since_s:.1f} s",
        )

    def _is_noticed(self, worker: str, since_s: float) -> None:
        """What ran under a host that was lost runs elsewhere, if there is an elsewhere."""
        if self.silent[worker] != since_s:  # it was well in between: it is looked at later again
            return
        elsewhere = [host for host in self.hosts if host.is_well(since_s)]
        is_back = any(host.lives and self.worker_of(host) == worker for host in self.hosts)
        if not elsewhere or is_back or elsewhere[0].sim.faults["disk"]:
            return
        left = self.rows(
            "SELECT delivery_id FROM attempt JOIN delivery ON delivery.id = delivery_id"
            " WHERE worker = ? AND outcome IS NULL AND state = 'running'",
            worker,
        )
        self.require(not left, f"who is lost is noticed: {worker}", *(d(*row) for row in left))

    def look(self) -> None:
        super().look()
        sim = self.hosts[0].sim
        if sim.faults["disk"]:
            return  # what could not be kept is asked again
        twice = self.rows(
            "SELECT one.event_id, one.at_ms FROM inquiry AS one JOIN inquiry AS two"
            " ON one.event_id = two.event_id WHERE one.id <> two.id AND one.purpose = 'pending'"
            " AND two.purpose = 'pending' AND two.at_ms >= one.at_ms"
            " AND two.at_ms < one.at_ms + one.duration_ms - ?",
            CLOCKS_MS,
        )
        for event, at_ms in twice:
            at_s = (at_ms - sim.server_ms) / 1000 + self.time.now_s
            changed = any(at_s - 4 * sim.lost_after_s - 60 < each < at_s for each in self.changes_s)
            self.require(changed, "one host at a time asks about what is pending", e(event))
