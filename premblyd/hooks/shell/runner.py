"""Running shell and command hooks: a process of its own group, a bounded output, an end in time."""

import asyncio
import errno
import os

from premblyd.config.models import Action
from premblyd.hooks.lack import LackError, Patience, what_lacks
from premblyd.hooks.shell.environment import command_line, environment
from premblyd.hooks.shell.process import Watch, start
from premblyd.hooks.shell.threads import Threads
from premblyd.hooks.strays import Mark, Strays
from premblyd.logs import get_logger
from premblyd.store.jobs import Job, Result
from premblyd.store.models import AttemptOutcome

SWEEP_S = 1.0
_CANT_HEAL = (errno.ENOEXEC, errno.E2BIG)
log = get_logger()


class ShellRunner:
    """Runs shell and command hooks, each in a thread that waits for its process."""

    def __init__(self) -> None:
        self._threads = Threads("premblyd-hook")
        self._patience = Patience()
        self._running: set[Mark] = set()
        # Readable once the daemon stops: every waiting thread polls it.
        self._stop_reader, self._stop_writer = os.pipe()

    async def run(self, action: Action, job: Job) -> Result:
        """Run the hook once. Never raise for a hook that fails."""
        body = [job.event.body]
        job = job.without_body()  # the process will have it; nobody here needs it any longer
        return await self._patience.run(
            lambda: self._threads.run(lambda: self._run(action, job, body))
        )

    def interrupt(self) -> None:
        """End every running hook: SIGTERM now, SIGKILL 5 s later. They count as interrupted."""
        self._patience.end()
        os.write(self._stop_writer, b"x")

    async def sweep(self, strays: Strays) -> None:
        """Kill what ended hooks left behind, about once a second, for as long as it runs."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                killed = strays.sweep(set(self._running))
            except (OSError, MemoryError) as error:  # a strayed process is no reason to end
                log.warning("daemon.waits", part="sweep", lacks=what_lacks(error) or str(error))
                continue
            if killed:
                log.warning("hook.strays_killed", count=killed)

    def close(self) -> None:
        self._threads.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _run(self, action: Action, job: Job, body: list[bytes]) -> Result:
        mark = Mark(job.event.key, job.delivery_id, job.attempt)
        self._running.add(mark)
        try:
            return self._start(action, job, body)
        finally:
            self._running.discard(mark)

    def _start(self, action: Action, job: Job, body: list[bytes]) -> Result:
        """Start the process and wait for it. `body` is emptied as soon as the process has it."""
        try:
            process = start(command_line(action), environment(action, job, os.environ), body[0])
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return _failed("the command was not found or is not executable", final=True)
        except (OSError, MemoryError) as error:
            if what := what_lacks(error):
                raise LackError(what) from None
            number = error.errno if isinstance(error, OSError) else 0
            reason = os.strerror(number or 0)
            return _failed(f"the command did not start: {reason}", final=number in _CANT_HEAL)
        body.clear()
        with Watch(process, self._stop_reader) as watch:
            return watch.wait(action.timeout_ms / 1000, is_shell=action.shell is not None)


def _failed(error: str, *, final: bool) -> Result:
    return Result(outcome=AttemptOutcome.FAILED, error=error, final=final)
