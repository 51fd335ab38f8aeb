"""A worker process's line, from waiting for a process to its answer."""

import asyncio
import dataclasses
from contextlib import AbstractContextManager

from premblyd.features.worker.protocol import Answer, AnswerKind
from premblyd.features.worker.workerprocess import WorkerProcess
from premblyd.queue.jobs import Result
from premblyd.run.process import MAX_OUTPUT_BYTES, Output
from premblyd.run.starting import LackError, LapsedError, Permit
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
    """What a worker process is told of a run, from when it waits for a process until it is
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
