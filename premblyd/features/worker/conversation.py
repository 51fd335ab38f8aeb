"""The conversation with a worker process, from `ready` to the end: it gets a line, its answer
counts, timeouts are kept. worker.py chooses which process gets a line."""

import asyncio
import dataclasses
import functools
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Protocol

from premblyd.features.worker.protocol import (
    MAX_LINE_BYTES,
    Answer,
    AnswerKind,
    ProtocolError,
    hello,
    numbered,
    read_answer,
    require_ready,
)
from premblyd.features.worker.settings import WorkerHook
from premblyd.features.worker.workerprocess import WorkerProcess, read_now
from premblyd.ground.telemetry import tell
from premblyd.queue.jobs import Result
from premblyd.run import process
from premblyd.run.process import MAX_OUTPUT_BYTES, Children, Output, how_it_ended
from premblyd.run.starting import TAKEN_OVER, LackError, LapsedError, Permit
from premblyd.store.states import AttemptOutcome

STOPPED = "the daemon was stopped"
UNREAD = "the worker process ended before it had read it"
UNHEARD = " on descriptor 4 (it may be in a buffer: flush it)"
CLOSED_S = 1.0  # a process that ends closes its descriptors, and is gone a moment later
FLOOD_PAUSE_S = 0.05  # after each read of what is dropped: a flood must not take the loop


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
        is_ok = answer.kind is AnswerKind.OK
        result = Result(
            outcome=AttemptOutcome.SUCCEEDED if is_ok else AttemptOutcome.FAILED,
            error=None if is_ok else f"the worker answered `{answer.kind}`",
            final=answer.kind is AnswerKind.DEAD,
            retry_after_s=answer.after_s,
        )
        self.settle(self.told(result, answer.words))

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
    why."""

    outcome: AttemptOutcome = AttemptOutcome.FAILED
    error: str
    words: str = ""


def interrupted(error: str) -> Result:
    """Return how a run ends at no cost that is to begin again."""
    return Result(outcome=AttemptOutcome.INTERRUPTED, error=error)


class Phase(StrEnum):
    """Where a worker process is between its start and its end."""

    STARTING = "starting"  # it has not said `ready`
    READY = "ready"
    ENDING = "ending"  # it gets no more lines
    ENDED = "ended"


class Owner(Protocol):
    """Whose worker process it is."""

    def is_free(self) -> None:
        """It takes a line."""

    def ended(self, conversation: "Conversation", failure: Result | None) -> None:
        """It is gone, and its line is settled. `failure`: it was never of use, and had no line: so
        ends a run that has waited for it."""


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
        self._input = self._process.input
        self._printed = Output()  # before the first line
        self._partial = b""  # of a line that it writes
        self._given = 0  # lines; so the number of the last one
        self._line_begins_at = 0  # in all that was written
        self._was_ready = self._has_answered = self._is_unneeded = False
        self._excuse: str | None = None  # why a line that it does not answer costs nothing
        self._fault: Fault | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._process.pidfd, self.gone)
        self._loop.add_reader(self._process.answers, self._hear)
        self._loop.add_reader(self._process.printed, self._take_printed)
        self._input.write(hello(action))
        self._after(hook.start_timeout_ms / 1000, self._is_late)

    @property
    def pidfd(self) -> int:
        """What is readable once the process has ended."""
        return self._process.pidfd

    @property
    def is_free(self) -> bool:
        """Whether it takes a line now."""
        return self.phase is Phase.READY and self.line is None

    def give(self, line: Line) -> bool:
        """Write a line; or settle it, where its hook may not start. False: the process reads
        nothing any more."""
        self._keep_printed()
        text = numbered(self._given + 1, line.text[0])
        if not line.may_start():  # nothing stands between this and the write
            return True
        self._line_begins_at = self._input.written
        if not self._input.write(text):
            self._cut(3)
            return False
        line.text.clear()
        self._given += 1
        self.line = line
        line.ends_by(self._process)
        self._after(self._hook.timeout_ms / 1000, self._is_silent)
        return True

    def finish(self) -> None:
        """Give it no more lines, and end it in good order when it has answered."""
        self._is_unneeded = True
        if self.phase in (Phase.STARTING, Phase.READY):
            self.phase = Phase.ENDING
        if self.line is None and self._input.is_open:
            self._input.close()
            self._end_by(signal.SIGTERM, signal.SIGKILL)

    def stop(self) -> None:
        """End it because the daemon stops: what it does not answer was interrupted."""
        if self.phase is Phase.ENDED:
            return
        self.phase, self._excuse = Phase.ENDING, STOPPED
        self._input.close()
        self._process.signal(signal.SIGTERM)
        self._end_by(signal.SIGKILL)

    def kill(self) -> None:
        """End it at once."""
        self._process.signal(signal.SIGKILL)

    def gone(self) -> None:
        """The process has ended, or can't be killed: hear what it wrote before, settle the line
        that it has not answered, and give back what it took."""
        self.phase = Phase.ENDING  # it gets nothing for what it answers now
        self._hear()
        self._keep_printed()
        for descriptor in (self._process.pidfd, self._process.answers, self._process.printed):
            self._loop.remove_reader(descriptor)
        read_bytes = self._input.read_bytes
        code = self._process.reap()
        self.phase = Phase.ENDED
        self._after(None)
        failure = self._settle(code, is_begun=self._line_begins_at < read_bytes)
        self._owner.ended(self, failure)

    def _settle(self, code: int | None, *, is_begun: bool) -> Result | None:
        """Settle the line that is unanswered. Return how a run ends that has waited for a process
        which was never of use."""
        line, self.line = self.line, None
        if excuse := self._excuse or (TAKEN_OVER if self._process.is_revoked else None):
            if line is not None:
                line.settle(line.told(interrupted(excuse)))
            return None
        ended = "the worker process ended: "
        if not self._was_ready:
            ended = "the worker process ended before its `ready 1`: "
        fault = self._fault or Fault(error=ended + how_it_ended(code))
        if self._fault or line or (code and not self._is_unneeded):
            tell("worker.ended", action=self._action, reason=fault.error)
        failed = Result(outcome=fault.outcome, error=fault.error, exit_code=code)
        if line is None:
            printed = fault.words or self._printed.text()
            return None if self._has_answered else dataclasses.replace(failed, output=printed)
        # What it has not begun to read can't be why it died. But why it is silent it may be.
        if self._fault or is_begun or not self._has_answered:
            line.settle(line.told(failed, fault.words))
        else:
            line.settle(line.told(interrupted(UNREAD)))
        return None

    # What is heard

    def _hear(self) -> None:
        """Take what the process has written: answers, and first that it is ready."""
        chunk = read_now(self._process.answers)
        if chunk == b"":
            self._loop.remove_reader(self._process.answers)
            self._cut(4)
        *lines, self._partial = (self._partial + (chunk or b"")).split(b"\n")
        for line in lines:
            if self._fault is None:  # else nothing that it writes counts any more
                self._take(line)
        if len(self._partial) > MAX_LINE_BYTES:
            self._break("its line does not end", self._partial)

    def _take(self, line: bytes) -> None:
        try:
            if self._was_ready:
                self._take_answer(read_answer(line))
            else:
                require_ready(line)
                self._is_ready()
        except ProtocolError as error:
            self._break(str(error), line)

    def _is_ready(self) -> None:
        self._was_ready = True
        if self.phase is Phase.STARTING:
            self.phase = Phase.READY
            self._after(None)
            self._owner.is_free()

    def _take_answer(self, answer: Answer) -> None:
        line = self.line
        if line is None or answer.number != self._given:
            raise ProtocolError("it answers a number that it does not have")
        self._keep_printed()  # before it is another's
        self.line = None
        self._has_answered = True
        line.answer(answer)
        if self._input.is_waiting:
            self._kill(Fault(error="the worker answered before it had read its line"))
        elif self.phase is Phase.READY:
            self._after(None)
            self._owner.is_free()
        elif self._is_unneeded:
            self.finish()

    def _break(self, error: str, line: bytes) -> None:
        """It wrote what is not the protocol's."""
        self._loop.remove_reader(self._process.answers)
        self._partial = b""
        words = line[:MAX_OUTPUT_BYTES].decode("utf-8", "replace")
        self._kill(Fault(error=f"the worker broke the protocol: {error}", words=words))

    def _cut(self, descriptor: int) -> None:
        """It has closed one of its descriptors, most likely because it ends."""
        if self.phase in (Phase.STARTING, Phase.READY):
            self.phase = Phase.ENDING
            fault = Fault(error=f"the worker closed its descriptor {descriptor}")
            self._after(CLOSED_S, functools.partial(self._kill, fault))

    def _take_printed(self) -> None:
        """Keep what the process prints, and read slowly what is not kept."""
        chunk = read_now(self._process.printed)
        if chunk == b"":
            self._loop.remove_reader(self._process.printed)
        elif chunk and not self._keep(chunk):
            self._loop.remove_reader(self._process.printed)
            self._loop.call_later(FLOOD_PAUSE_S, self._read_on)

    def _read_on(self) -> None:
        if self.phase is not Phase.ENDED:
            self._loop.add_reader(self._process.printed, self._take_printed)

    def _keep_printed(self) -> None:
        """Keep what was printed until now, because the lines change whose it can be."""
        if chunk := read_now(self._process.printed):
            self._keep(chunk)

    def _keep(self, printed: bytes) -> bool:
        """Keep what was printed about its line, or before all. Return whether it is kept."""
        if self.line is None and self._given:
            return False
        output = self._printed if self.line is None else self.line.output
        output.keep(printed)
        return not output.truncated

    # Its time

    def _after(self, seconds: float | None, act: Callable[[], None] = lambda: None) -> None:
        """Act after so long, instead of what was to be done; None: do nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, act)

    def _is_late(self) -> None:
        self._kill(Fault(error=f"no `ready 1` within `start_timeout`{UNHEARD}"))

    def _is_silent(self) -> None:
        error = f"no answer within {self._hook.timeout_ms / 1000:g} s"
        error += "" if self._has_answered else UNHEARD
        self._kill(Fault(outcome=AttemptOutcome.TIMED_OUT, error=error))

    def _kill(self, fault: Fault) -> None:
        """Kill it for its fault."""
        self._fault = fault
        self.phase = Phase.ENDING
        self._process.signal(signal.SIGKILL)
        self._end_by()

    def _end_by(self, *signals: signal.Signals) -> None:
        """Have it end by each of these, until it has; if none helps, go on without it."""
        self._after(process.KILL_AFTER_S, functools.partial(self._push, *signals))

    def _push(self, *signals: signal.Signals) -> None:
        if not signals:
            self.gone()
            return
        self._process.signal(signals[0])
        self._end_by(*signals[1:])
