"""Running shell and command hooks: a process of its own group, a bounded output, an end in time."""

import errno
import os
import shlex

from premblyd.config.hooks import CommandHook, ShellHook
from premblyd.config.models import Config, Endpoint
from premblyd.model.states import AttemptOutcome
from premblyd.queue.jobs import Job, Result
from premblyd.run.children import Children
from premblyd.run.lack import LackError, Patience, what_is_lacking
from premblyd.run.permit import FREE, Permit
from premblyd.run.preview import Preview, masked
from premblyd.run.shell.environment import command_line, environment
from premblyd.run.shell.process import Watch, start
from premblyd.run.shell.threads import Threads

_LASTING = (errno.ENOEXEC, errno.E2BIG)  # trying again does not mend these


class ShellRunner:
    """Runs shell and command hooks, each in a thread that waits for its process."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._threads = Threads("premblyd-hook")
        self._patience = Patience()
        # Readable once the daemon stops: every waiting thread polls it.
        self._stop_reader, self._stop_writer = os.pipe()

    def configure(self, settings: Config) -> None:
        """Nothing of the settings matters here: a thread is made when a hook needs one."""

    async def run(self, hook: ShellHook | CommandHook, job: Job, permit: Permit = FREE) -> Result:
        """Run the hook once. Never raise for a hook that fails."""
        body = [job.event.body]
        job = job.without_body()  # the process gets it; nothing here needs it any longer
        return await permit.run(
            lambda: self._patience.run(
                lambda: self._threads.run(lambda: self._run(hook, job, body, permit))
            )
        )

    def interrupt(self) -> None:
        """End every running hook: SIGTERM now, SIGKILL 5 s later. They count as interrupted."""
        self._patience.end()
        os.write(self._stop_writer, b"x")

    def close(self) -> None:
        self._threads.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    @staticmethod
    def preview(hook: ShellHook | CommandHook, job: Job, endpoint: Endpoint) -> Preview:
        """Return the exact command and environment, with secrets masked."""
        command = command_line(hook)
        variables = environment(masked(hook), job, os.environ)
        size = len(job.event.body)
        return Preview(
            facts={"command": command, "environment": variables, "stdin_bytes": size},
            lines=[
                shlex.join(command),
                *(f"{name}={value}" for name, value in variables.items()),
                f"standard input: the body, {size} bytes",
            ],
        )

    def _run(
        self, hook: ShellHook | CommandHook, job: Job, body: list[bytes], permit: Permit
    ) -> Result:
        """Start the process and wait for it. `body` is emptied as soon as the process has it."""
        try:
            process = start(
                command_line(hook), environment(hook, job, os.environ), body[0], permit.require
            )
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return _failed("the command was not found or is not executable", final=True)
        except (OSError, MemoryError) as error:
            if what := what_is_lacking(error):
                raise LackError(what) from None
            number = error.errno if isinstance(error, OSError) else 0
            reason = os.strerror(number or 0)
            return _failed(f"the command did not start: {reason}", final=number in _LASTING)
        body.clear()
        with (
            self._children.known(process.pid),
            Watch(process, self._stop_reader) as watch,
            permit.ends_by(watch.kill),
        ):
            return watch.wait(hook.timeout_ms / 1000, is_shell=isinstance(hook, ShellHook))


def _failed(error: str, *, final: bool) -> Result:
    return Result(outcome=AttemptOutcome.FAILED, error=error, final=final)
