"""The worker processes of an action: which of them gets which line, when one is started, and when
nothing can be given at all."""

import asyncio
import dataclasses
import heapq
import os
from collections import Counter, deque
from collections.abc import Callable, Mapping

from premblyd.config.hooks import WorkerHook
from premblyd.model.tables import HaltReason
from premblyd.queue.halts import Halts
from premblyd.queue.jobs import Lines, Result
from premblyd.run.ahead import STALL_S, Pace
from premblyd.run.conversation import Conversation, Phase
from premblyd.run.process import Children
from premblyd.run.protocol import AnswerKind
from premblyd.run.starting import LackError, Permit, what_is_lacking
from premblyd.run.workerline import STOPPED, End, Line, interrupted
from premblyd.run.workerprocess import CHUNK_BYTES
from premblyd.telemetry import tell

FIRST_AGAIN_S = 1.0  # after a start that failed; then twice as long each time
MAX_AGAIN_S = 60.0
MAX_SUSPECTS = 10_000
CHANGED = "the configuration of the action has changed"
ABORTED = "each worker process of the action has answered `abort`"
STALLED = "the worker processes of the action have not answered for a while"
NOT_FOUND = "the worker's program, or what its `#!` names, was not found or is not executable"


class Pool:
    """Up to `concurrency` worker processes. They start when first needed, and are kept."""

    def __init__(
        self,
        action: str,
        hook: WorkerHook,
        concurrency: int,
        children: Children,
        halts: Halts | None,
        make_room: Callable[[bool], None],
    ) -> None:
        """`halts` is told when no process takes anything; None: nobody waits to hear that.
        `make_room` is called before a start, and with True when the machine lacks what it needs."""
        self.hook, self.concurrency = hook, concurrency
        self.action = action
        self.conversations: list[Conversation] = []
        self._children = children
        self._halts = halts
        self._make_room = make_room
        self.used_at = 0.0  # when a line was given last
        self._batch = 1  # that its processes take, as far as is known
        self._pace = Pace()
        self._answer_count = 0
        self._is_watched = False  # whether it is looked at soon, for a stall
        self._halt: HaltReason | None = None
        self._refusal: str | None = None  # why it takes nothing any more
        self._daemon = ""
        self._serves_soon = False
        self._waiting: deque[Line] = deque()
        self._waiting_alone: deque[Line] = deque()
        self._suspects: dict[int, None] = {}  # the newest last
        self._aborted = set[Conversation]()
        self._failure: HaltReason | None = None  # of a start, until a process is of use
        self._not_started = interrupted("")  # how that is told
        self._again_s = FIRST_AGAIN_S
        self._trial: asyncio.TimerHandle | None = None  # until then none is started

    async def run(self, delivery: int, text: list[bytes], permit: Permit, daemon: str) -> Result:
        """Give a line to a process, and return what comes of it. Raise LapsedError or LackError
        when it was not given, see `Patience`."""
        if self._refusal is not None:
            return interrupted(self._refusal)
        if self._halt is not None:
            return self._halted()
        self._daemon = daemon
        line = Line(delivery, text, permit, is_alone=delivery in self._suspects)
        waiting = self._waiting_alone if line.is_alone else self._waiting
        waiting.append(line)
        self._serve_soon()
        if self._halts is not None and self._pace.is_quick and not self._is_watched:
            self._watch()
        try:
            return await line.done
        except asyncio.CancelledError:
            if line in waiting:
                waiting.remove(line)
            raise

    def begin_anew(self) -> None:
        """Forget what was aborted, and what did not start."""
        self._aborted.clear()
        self._forget_failure()
        self._judge()
        self._serve()

    def finish(self) -> None:
        """Take nothing more, and end the processes in good order."""
        self._refuse(CHANGED)
        for conversation in self.conversations:
            conversation.finish()

    def stop(self) -> None:
        """End the processes because the daemon stops."""
        self._halts = None  # what is halted is not taken up again by that
        self._refuse(STOPPED)
        for conversation in self.conversations:
            conversation.stop()

    @property
    def lines(self) -> Lines:
        """How many lines its processes take at once, and how many may wait for them: what they
        don't take, other hosts may."""
        return self._pace.lines(self.concurrency, self._batch)

    @property
    def ending(self) -> int:
        """How many processes end now, and have nothing to do."""
        return sum(
            each.phase is Phase.ENDING and not each.unanswered for each in self.conversations
        )

    def end_idle(self) -> bool:
        """End a process in good order that has nothing to do. False: there is none."""
        for each in self.conversations:
            if each.room and not each.unanswered:
                each.finish()
                return True
        return False

    # What its processes tell it

    def is_ready(self) -> None:
        self._batch = max((each.batch for each in self.conversations), default=self._batch)
        self._tell_lines()
        self._judge()
        self._serve()

    def answered(self, conversation: Conversation, line: Line, kind: AnswerKind) -> None:
        self._answer_count += 1
        if self._pace.took(asyncio.get_running_loop().time() - line.given_at_s):
            self._tell_lines()
        if line.is_alone:
            self._suspects.pop(line.delivery, None)
        if self._failure is not None:
            self._forget_failure()
        if kind is AnswerKind.ABORT:
            self._aborted.add(conversation)  # which may say it of each of its lines
            self._judge()
        if self._waiting or self._waiting_alone or len(self.conversations) < self.concurrency:
            self._serve_soon()

    def ended(self, conversation: Conversation, end: End) -> None:
        self.conversations.remove(conversation)
        for delivery in filter(None, end.suspects):
            self._suspects[delivery] = None
        while len(self._suspects) > MAX_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
        if end.not_ready is not None and self._refusal is None:
            self._start_failed(end.not_ready, end.error, end.output)
        self._judge()
        self._serve()

    def _tell_lines(self) -> None:
        if self._halts is not None and self._refusal is None:  # else another pool has its action
            self._halts.take(self.action, self.lines)

    # Which line goes where

    def _serve_soon(self) -> None:
        """Serve at the end of this round of the loop: lines that come together are written so."""
        if not self._serves_soon:
            self._serves_soon = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Give what waits to processes that have room, and start those that are wanted."""
        self._serves_soon = False
        while self._waiting_alone and (free := self._freest()) and not free.unanswered:
            self._give(free, self._waiting_alone, 1)
        # Else what is to be alone would wait for ever, where others always come.
        spared = self._freest() if self._waiting_alone else None
        while self._waiting and (shares := self._shares(but=spared)):
            for free, count in shares.items():
                self._give(free, self._waiting, count)
        if len(self.conversations) < self.concurrency:
            self._start()

    def _freest(self) -> Conversation | None:
        """Return the process with the fewest unanswered lines of those that take one."""
        free = [each for each in self.conversations if each.room]
        return min(free, key=lambda each: len(each.unanswered), default=None)

    def _shares(self, but: Conversation | None) -> Mapping[Conversation, int]:
        """Return how many of the lines that wait each process gets: one after the other, the one
        with the fewest of those that take one."""
        shares = Counter[Conversation]()
        free = [
            (len(each.unanswered), place, each.room)
            for place, each in enumerate(self.conversations)
            if each is not but and each.room
        ]
        heapq.heapify(free)
        for _ in range(len(self._waiting)):
            if not free:
                break
            has, place, room = free[0]
            shares[self.conversations[place]] += 1
            if room > 1:
                heapq.heapreplace(free, (has + 1, place, room - 1))
            else:
                heapq.heappop(free)
        return shares

    def _give(self, free: Conversation, waiting: deque[Line], count: int) -> None:
        """Give up to `count` lines at once, and no more than a pipe may hold."""
        self.used_at = asyncio.get_running_loop().time()
        lines, size = list[Line](), 0
        while waiting and len(lines) < count and size < CHUNK_BYTES:
            line = waiting.popleft()
            lines.append(line)
            line.given_at_s = self.used_at
            size += len(line.text[0])
        waiting.extendleft(reversed(free.give(lines)))

    def _watch(self) -> None:
        self._is_watched = True
        asyncio.get_running_loop().call_later(STALL_S, self._look, self._answer_count)

    def _look(self, answer_count: int) -> None:
        """When nothing was answered since, give back what was claimed ahead: other hosts may have
        it, and people may cancel it. Look again as long as anything is unanswered: a claim may have
        begun before it was told of that."""
        given = sum(len(each.unanswered) for each in self.conversations)
        self._is_watched = False
        if not given and not self._waiting:
            return
        self._watch()
        if self._answer_count != answer_count:
            return
        self._pace.stalled()
        self._tell_lines()
        while self._waiting and given + len(self._waiting) > self.lines.at_once:
            self._waiting.pop().settle(interrupted(STALLED))

    # Its starts

    def _start(self) -> None:
        """Start processes, as many as there are lines. After a start that failed, one at a time."""
        if self._refusal is not None or self._trial is not None:
            return
        lines = len(self._waiting) + len(self._waiting_alone)
        lines += sum(len(each.unanswered) for each in self.conversations)
        wanted = max(lines, 1) if self._halt is not None else lines
        wanted = min(wanted, self.concurrency - len(self._aborted))
        if self._failure is not None:
            is_tried = any(each.phase is Phase.STARTING for each in self.conversations)
            wanted = min(wanted, 0 if is_tried else len(self.conversations) + 1)
        while len(self.conversations) < wanted and self._start_one():
            pass

    def _start_one(self) -> bool:
        """Start a process. Return whether it began: it is not ready yet."""
        self._make_room(False)
        try:
            started = Conversation(self.action, self.hook, self._daemon, self._children, self)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            self._start_failed(HaltReason.NOT_FOUND, NOT_FOUND)
            return False
        except (OSError, MemoryError) as error:
            if what := what_is_lacking(error):
                self._lacks(what)
            else:
                reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "memory"
                self._start_failed(HaltReason.NOT_STARTED, f"the worker did not start: {reason}")
            return False
        self.conversations.append(started)
        return True

    def _start_failed(self, reason: HaltReason, error: str, output: str = "") -> None:
        """Try again later. `output`: what it printed, which is about no delivery."""
        self._failure = reason
        self._not_started = dataclasses.replace(interrupted(error), output=output)
        again_s = self._again_s if self._trial is None else None
        tell("worker.not_started", action=self.action, reason=str(reason), again_s=again_s)
        if again_s is not None:
            self._try_after(again_s)
            self._again_s = min(2 * again_s, MAX_AGAIN_S)
        self._judge()

    def _lacks(self, what: str) -> None:
        """No process can be started now, through no fault of the hook."""
        self._make_room(True)
        if self._halt is not None:
            self._try_after(FIRST_AGAIN_S)
        self._empty(lambda: LackError(what))

    def _try_after(self, seconds: float) -> None:
        self._trial = asyncio.get_running_loop().call_later(seconds, self._try)

    def _try(self) -> None:
        self._trial = None
        self._serve()

    def _forget_failure(self) -> None:
        self._failure, self._again_s = None, FIRST_AGAIN_S
        if self._trial is not None:
            self._trial.cancel()
            self._trial = None

    # When it takes nothing

    def _judge(self) -> None:
        """Find out whether anything can be given, and tell when that changes."""
        phases = {each.phase for each in self.conversations}
        halt = None
        if self._refusal is None and Phase.READY not in phases:
            if len(self._aborted) >= self.concurrency:
                halt = HaltReason.ABORTED
            elif self._halt is not None or Phase.STARTING not in phases:
                halt = self._failure
        if halt is self._halt:
            return
        self._halt = halt
        if halt is not None:
            self._empty(self._halted)
        if self._halts is not None:
            if halt is not None:
                self._halts.begin(self.action, halt)
            else:
                self._halts.end(self.action)

    def _halted(self) -> Result:
        """Return how a run ends that finds no process: it is due again when one may be ready."""
        if self._halt is HaltReason.ABORTED:
            return interrupted(ABORTED)
        wait_s = 0.0
        if self._trial is not None:
            wait_s = max(wait_s, self._trial.when() - asyncio.get_running_loop().time())
        return dataclasses.replace(self._not_started, retry_after_s=wait_s)

    def _refuse(self, refusal: str) -> None:
        self._refusal = refusal
        self._forget_failure()
        self._empty(lambda: interrupted(refusal))
        self._judge()

    def _empty(self, settled: Callable[[], Result | LackError]) -> None:
        """Settle what waits."""
        for waiting in (self._waiting, self._waiting_alone):
            while waiting:
                waiting.popleft().settle(settled())
