"""The conversation with a worker process, from `ready` to the end: it gets a line, its answer
counts, timeouts are kept. workerprocess.py reads the answers; worker.py chooses which process gets
a line."""

import asyncio
import dataclasses
import functools
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol

from premblyd.features.worker.protocol import (
    Answer,
    AnswerKind,
    ProtocolError,
    hello,
    numbered,
    read_answer,
    require_ready,
)
from premblyd.features.worker.settings import WorkerHook
from premblyd.features.worker.workerprocess import Hearing, WorkerProcess
from premblyd.ground.telemetry import tell
from premblyd.queue.jobs import Result
from premblyd.run import process
from premblyd.run.process import MAX_OUTPUT_BYTES, Children, Output, how_it_ended
from premblyd.run.starting import TAKEN_OVER, LackError, LapsedError, Permit
from premblyd.store.states import AttemptOutcome, HaltReason

STOPPED = "the daemon was stopped"
UNREAD = "the worker process ended before it had read it"
_RESULTS = {  # of those without words, about which nothing was printed
    AnswerKind.OK: Result(outcome=AttemptOutcome.SUCCEEDED, output=""),
    AnswerKind.RETRY: Result(
        outcome=AttemptOutcome.FAILED, error="the worker answered `retry`", output=""
    ),
    AnswerKind.DEAD: Result(
        outcome=AttemptOutcome.FAILED, error="the worker answered `dead`", final=True, output=""
    ),
    AnswerKind.ABORT: Result(
        outcome=AttemptOutcome.INTERRUPTED, error="the worker answered `abort`", output=""
    ),
}


class Line:
    """A line for a worker process about a run, from when it waits for a process until it is
    answered."""

    def __init__(self, text: list[bytes], permit: Permit) -> None:
        """`text`: the line, without its number; emptied once it is written."""
        self.text = text
        self.permit = permit
        self.done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.output = Output()  # what was printed for it
        self._ends: AbstractContextManager[None] | None = None

    def may_start(self) -> bool:
        """Return whether its hook may start at this moment. If not, the run ends by that: its claim
        is to be proved first."""
        may_start = self.permit.holds()
        if not may_start:
            self.settle(LapsedError())
        return may_start

    def ends_by(self, process: WorkerProcess) -> None:
        """Have its process killed when its permit is revoked."""
        self._ends = self.permit.ends_by(process.kill, process.mark)
        self._ends.__enter__()

    def settle(self, result: Result | LapsedError | LackError) -> None:
        """End the run by `result`, or raise it where the run is waited for."""
        if self._ends is not None:
            self._ends.__exit__(None, None, None)
        if self.done.done():  # who waited for it was cancelled
            return
        if isinstance(result, Result):
            self.done.set_result(result)
        else:
            self.done.set_exception(result)

    def answer(self, answer: Answer) -> None:
        """End the run as the worker has answered."""
        result = _RESULTS[answer.kind]
        if answer.words or self.output.text():
            result = self.told(result, answer.words)
        if answer.after_s:
            result = dataclasses.replace(result, retry_after_s=answer.after_s)
        self.settle(result)

    def told(self, result: Result, words: str = "") -> Result:
        """Return `result` with what was printed for the line, and with the worker's words."""
        output = "\n".join(text for text in (self.output.text().rstrip("\n"), words) if text)
        is_long = self.output.truncated or len(output) > MAX_OUTPUT_BYTES
        return dataclasses.replace(
            result, output=output[:MAX_OUTPUT_BYTES], output_truncated=is_long
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a worker process was killed, and so how its run ends. `words`: what it wrote, if that is
    why. `not_ready`: it was never of use."""

    outcome: AttemptOutcome = AttemptOutcome.FAILED
    error: str
    words: str = ""
    not_ready: HaltReason | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a worker process ended. `not_ready`: why it never was of use, with that in words and what
    it printed; None: it was, or it had no time to be."""

    not_ready: HaltReason | None = None
    error: str = ""
    output: str = ""


def interrupted(error: str) -> Result:
    """Return how a run ends at no cost that is to begin again."""
    return Result(outcome=AttemptOutcome.INTERRUPTED, error=error)


class Deadline(NamedTuple):
    """What is to happen, and when, by the loop's time."""

    at: float
    act: Callable[[], None]


class Alarm:
    """Acts at the first of `deadlines`, which are asked for anew each time."""

    def __init__(self, deadlines: Callable[[], Iterable[Deadline]]) -> None:
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float | None = None) -> None:
        """Wake no later than the first is due: at `at`, where all others are as they were. Only one
        that came nearer moves the timer: that of a worker which answers moves away by each line."""
        due_at = at
        if due_at is None:
            due_at = min((deadline.at for deadline in self._deadlines()), default=None)
        if due_at is None or (self._timer is not None and self._timer.when() <= due_at):
            return
        self.cancel()
        self._timer = self._loop.call_at(due_at, self._wake)

    def cancel(self) -> None:
        """Wake no more, until it is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        now = self._loop.time()
        due = next((deadline for deadline in self._deadlines() if deadline.at <= now), None)
        if due is not None:
            due.act()
        self.set()


CLOSED_S = 1.0  # a process that ends closes its descriptors, and is gone a moment later
WEIGH_EVERY_S = 1.0
UNHEARD = " on descriptor 4 (it may be in a buffer: flush it)"


class Phase(StrEnum):
    """Where a worker process is between its start and its end."""

    STARTING = "starting"  # it has not said `ready`
    READY = "ready"
    ENDING = "ending"  # it gets no more lines
    ENDED = "ended"


class Owner(Protocol):
    """Whose worker process it is."""

    def is_ready(self) -> None:
        """It takes a line."""

    def answered(self, conversation: "Conversation", kind: AnswerKind) -> None:
        """It has answered its line for good, and may take another."""

    def ended(self, conversation: "Conversation", end: End) -> None:
        """It is gone, and its line is settled."""


class Conversation:
    """A worker process from its start to its end. All of it is for the loop's thread. Raise OSError
    or MemoryError when it can't be started."""

    def __init__(
        self, action: str, hook: WorkerHook, daemon: str, children: Children, owner: Owner
    ) -> None:
        """`daemon`: which one it is of, as PREMBLY_WORKER has it."""
        self.phase = Phase.STARTING
        self.line: Line | None = None  # that it has, and has not answered
        self._action, self._hook, self._owner = action, hook, owner
        self._loop = asyncio.get_running_loop()
        self._process = WorkerProcess(hook, daemon, children)
        self._start = Output()  # what was printed before the first line
        self._given = 0  # lines; so the number of the last one
        self._line_begins_at = 0  # in all that was written
        self._busy_since: float | None = None  # when the line's time began, once it says `busy`
        self._input = self._process.input
        self._input.listen(self._may_begin, self._is_free)
        self._is_unneeded = self._was_ready = self._has_answered = self._is_gone = False
        self._excuse: str | None = None  # why a line that it does not answer costs nothing
        self._fault: Fault | None = None
        self._pushes: deque[Callable[[], None]] = deque()  # what is still to end it
        self._push_at: float | None = None
        self._alarm = Alarm(self._deadlines)
        now = self._loop.time()
        self._began_at = self._silent_since = self._weighed_at = now
        self._loop.add_reader(self._process.pidfd, self.gone)
        self._hearing = Hearing(self._process, self)
        self._input.write(hello(action))
        self._alarm.set()

    @property
    def pidfd(self) -> int:
        """What is readable once the process has ended."""
        return self._process.pidfd

    @property
    def is_free(self) -> bool:
        """Whether it takes a line now."""
        return self.phase is Phase.READY and self.line is None and not self._input.is_waiting

    def give(self, line: Line) -> bool:
        """Write a line, at once or when the pipe has room; or settle it, where its hook may not
        start. False: the process reads nothing any more."""
        self._hearing.read_printed()
        text = numbered(self._given + 1, line.text[0])
        if not line.may_start():  # nothing stands between this and the write
            return True
        self._line_begins_at = self._input.written
        if not self._input.write(text):
            self._cut(3)
            return False
        self._given += 1
        self.line, self._busy_since = line, None
        if self._input.written > self._line_begins_at:  # else it may yet be taken back
            line.text.clear()
        self._silent_since = self._loop.time()
        self._alarm.set(self._silent_since + self._hook.timeout_ms / 1000)
        line.ends_by(self._process)
        if self._given == self._hook.max_runs:
            self.finish()
        return True

    def finish(self) -> None:
        """Give it no more lines, and end it in good order when it has answered."""
        self._is_unneeded = not self._given
        if self.phase in (Phase.STARTING, Phase.READY):
            self.phase = Phase.ENDING
        if self.line is None and self._push_at is None:
            self._input.close()
            self._push_by(
                functools.partial(self._process.signal, signal.SIGTERM),
                functools.partial(self._process.signal, signal.SIGKILL),
                self.gone,
            )

    def stop(self) -> None:
        """End it because the daemon stops: what it does not answer was interrupted."""
        if self.phase is Phase.ENDED:
            return
        self.phase, self._excuse = Phase.ENDING, STOPPED
        self._input.close()
        self._process.signal(signal.SIGTERM)
        self._push_by(functools.partial(self._process.signal, signal.SIGKILL), self.gone)

    def kill(self) -> None:
        """End it at once."""
        self._process.signal(signal.SIGKILL)

    def gone(self) -> None:
        """The process has ended, or can't be killed: hear what it wrote before, and then end."""
        if not self._is_gone:
            self._is_gone = True
            self.phase = Phase.ENDING  # it gets nothing for what it answered last
            self._loop.remove_reader(self._process.pidfd)
            self._hearing.hear_rest(self.end)

    def end(self) -> None:
        """Settle the line that the process has not answered, and give back what it took."""
        self._is_gone = True
        self._loop.remove_reader(self._process.pidfd)
        self._hearing.stop()
        self._hearing.read_printed()
        read_bytes = self._input.read_bytes
        code = self._process.reap()
        self.phase = Phase.ENDED
        end = self._end(code, read_bytes)
        self._fault = None  # large, maybe, and only the collector frees what is here
        self._alarm.cancel()
        self._owner.ended(self, end)

    def _end(self, code: int | None, read_bytes: int) -> End:
        """Settle the line that is unanswered."""
        line, self.line = self.line, None
        if excuse := self._excuse or (TAKEN_OVER if self._process.is_revoked else None):
            if line is not None:
                line.settle(line.told(interrupted(excuse)))
            return End()
        # What it has not begun to read can't be why it died. But why it is silent it may be.
        is_begun = line is not None and (
            self._fault is not None or self._line_begins_at < read_bytes
        )
        fault = self._fault or Fault(error=f"the worker process ended: {how_it_ended(code)}")
        not_ready = fault.not_ready
        if not (not_ready or self._has_answered or is_begun or self._is_unneeded):
            not_ready = HaltReason.ENDED
            if not self._was_ready:
                error = f"the worker process ended before its `ready 1`: {how_it_ended(code)}"
                fault = Fault(error=error)
        if not_ready is None and (self._fault or line or code):
            tell("worker.ended", action=self._action, reason=fault.error)
        if line is not None and is_begun:
            result = Result(outcome=fault.outcome, error=fault.error, exit_code=code)
            line.settle(line.told(result, fault.words))
        elif line is not None:
            line.settle(line.told(interrupted(UNREAD)))
        return End(not_ready=not_ready, error=fault.error, output=fault.words or self._start.text())

    # What is heard

    def take(self, line: bytes) -> bool:
        """Take a line that it has written. Return whether it settles something."""
        if self.phase is Phase.STARTING:
            return self._take_ready(line)
        if not self._given and self.phase is Phase.ENDING:
            return False  # it was too late with its `ready`
        try:
            answer = read_answer(line)
        except ProtocolError as error:
            self._break(str(error), line)
            return False
        if self.line is not None and answer.number == self._given:
            return self._take_answer(self.line, answer)
        if answer.number > self._given:
            self._break("it answers a number that was not given", line)
        return False

    def take_endless(self, text: bytes) -> None:
        """It writes a line that is too long."""
        self._break("its line does not end", text)

    def answers_end(self) -> None:
        """It answers no more."""
        self._cut(4)

    def _take_ready(self, line: bytes) -> bool:
        try:
            require_ready(line)
        except ProtocolError as error:
            self._break(str(error), line, HaltReason.OTHER_VERSION)
            return False
        self.phase, self._was_ready = Phase.READY, True
        self._began_at = self._silent_since = self._loop.time()
        self._alarm.set()
        self._owner.is_ready()
        return True

    def _take_answer(self, line: Line, answer: Answer) -> bool:
        if answer.kind is AnswerKind.BUSY:
            if self._busy_since is None:
                self._busy_since = self._silent_since
            self._silent_since = self._loop.time()
            self._alarm.set()
            return False
        self._hearing.read_printed()  # before it is another's
        self._silent_since = self._loop.time()
        self.line = None
        self._has_answered = True
        line.answer(answer)
        if answer.kind is AnswerKind.ABORT or self.phase is Phase.ENDING:
            self.finish()
        elif self._hook.idle_ms is not None:
            self._alarm.set(self._silent_since + self._hook.idle_ms / 1000)
        self._owner.answered(self, answer.kind)
        return True

    def _break(self, error: str, line: bytes, not_ready: HaltReason | None = None) -> None:
        """It wrote what is not the protocol's: nothing that it writes counts any more."""
        self._hearing.be_deaf()
        words = line[:MAX_OUTPUT_BYTES].decode("utf-8", "replace")
        error = f"the worker broke the protocol: {error}"
        self._kill(Fault(error=error, words=words, not_ready=not_ready))

    def _cut(self, descriptor: int) -> None:
        """It has closed one of its descriptors, most likely because it ends. What it reads no more
        it may still answer."""
        self.phase = Phase.ENDING
        if self._push_at is None and (descriptor == 4 or self.line is None):
            fault = Fault(error=f"the worker closed its descriptor {descriptor}")
            self._push_by(functools.partial(self._kill, fault), after_s=CLOSED_S)

    def keep(self, printed: bytes) -> bool:
        """Keep what was printed about its line, or before all. Return whether it is kept."""
        if self.line is None and self._given:
            return False
        output = self._start if self.line is None else self.line.output
        output.keep(printed)
        return not output.truncated

    # What is written

    def _may_begin(self) -> bool:
        """Return whether the line, which has waited for room in the pipe, may still be written;
        else take it back."""
        line = self.line
        if line is None:
            return True  # it was the greeting; or a worker that answers without reading
        if not line.may_start():
            self.line = None
            return False
        line.text.clear()
        return True

    def _is_free(self) -> None:
        """What had to wait is written, or taken back; or nobody reads any more, which the next line
        finds out."""
        if self.phase is Phase.ENDING:
            self.finish()
        self._owner.is_ready()

    # Its time

    def _deadlines(self) -> Iterator[Deadline]:
        """Yield what is to happen, and when."""
        hook = self._hook
        if self._is_gone:
            return
        if self._push_at is not None:
            yield Deadline(self._push_at, self._push)
        elif self.phase is Phase.STARTING:
            yield Deadline(self._began_at + hook.start_timeout_ms / 1000, self._is_late)
        else:
            if self.line is not None:
                if self._busy_since is not None:
                    yield Deadline(self._busy_since + hook.max_busy_ms / 1000, self._is_overtime)
                yield Deadline(self._silent_since + hook.timeout_ms / 1000, self._is_silent)
            elif hook.idle_ms is not None:
                yield Deadline(self._silent_since + hook.idle_ms / 1000, self.finish)
            if hook.max_age_ms is not None and self.phase is Phase.READY:
                yield Deadline(self._began_at + hook.max_age_ms / 1000, self.finish)
            if hook.max_memory_bytes is not None:
                yield Deadline(self._weighed_at + WEIGH_EVERY_S, self._weigh)

    def _is_late(self) -> None:
        error = f"no `ready 1` within `start_timeout`{UNHEARD}"
        self._kill(Fault(error=error, not_ready=HaltReason.NOT_READY))

    def _is_silent(self) -> None:
        error = f"no answer within {self._hook.timeout_ms / 1000:g} s"
        error += "" if self._has_answered else UNHEARD
        self._kill(Fault(outcome=AttemptOutcome.TIMED_OUT, error=error))

    def _is_overtime(self) -> None:
        error = f"still busy after {self._hook.max_busy_ms / 1000:g} s"
        self._kill(Fault(outcome=AttemptOutcome.TIMED_OUT, error=error))

    def _weigh(self) -> None:
        self._weighed_at = self._loop.time()
        most = self._hook.max_memory_bytes or 0
        resident = self._process.resident_bytes()
        if resident > 2 * most and self.line is not None:
            self._kill(Fault(error="the worker process has more than twice `max_memory`"))
        elif resident > most:
            self.finish()

    def _kill(self, fault: Fault) -> None:
        """Kill it for its fault."""
        self._fault = fault
        self.phase = Phase.ENDING
        self._process.signal(signal.SIGKILL)
        self._push_by(self.gone)

    def _push_by(self, *pushes: Callable[[], None], after_s: float | None = None) -> None:
        """Have it end by each of these, until it has."""
        self._pushes = deque(pushes)
        self._push_at = self._loop.time() + (process.KILL_AFTER_S if after_s is None else after_s)
        self._alarm.set()

    def _push(self) -> None:
        push = self._pushes.popleft()
        self._push_at = self._loop.time() + process.KILL_AFTER_S if self._pushes else None
        push()
