"""Running shell and command hooks: a process of its own group, a bounded output, an end in time."""

import errno
import os
import shlex
from collections.abc import Mapping

from premblyd.config.hooks import CommandHook, ShellHook
from premblyd.config.models import Config, Endpoint
from premblyd.model.states import AttemptOutcome
from premblyd.queue.jobs import Result
from premblyd.run.children import Children, mark_of
from premblyd.run.invocation import Invocation
from premblyd.run.lack import LackError, Patience, what_is_lacking
from premblyd.run.permit import Permit
from premblyd.run.preview import Preview, masked
from premblyd.run.shell.environment import command_line, environment
from premblyd.run.shell.process import ExitWatch, start
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

    async def run(self, hook: ShellHook | CommandHook, invocation: Invocation) -> Result:
        """Run the hook once. Never raise for a hook that fails."""
        about, permit = invocation.environment, invocation.permit
        body = [invocation.body]
        del invocation  # the process gets the body; nothing here needs it any longer
        return await permit.run(
            lambda: self._patience.run(
                lambda: self._threads.run(lambda: self._run(hook, about, body, permit))
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
    def preview(
        hook: ShellHook | CommandHook, invocation: Invocation, endpoint: Endpoint
    ) -> Preview:
        """Return the exact command and environment, with secrets masked."""
        command = command_line(hook)
        variables = environment(masked(hook), invocation.environment, os.environ)
        size = len(invocation.body)
        return Preview(
            facts={"command": command, "environment": variables, "stdin_bytes": size},
            lines=[
                shlex.join(command),
                *(f"{name}={value}" for name, value in variables.items()),
                f"standard input: the body, {size} bytes",
            ],
        )

    def _run(
        self,
        hook: ShellHook | CommandHook,
        about: Mapping[str, object],
        body: list[bytes],
        permit: Permit,
    ) -> Result:
        """Start the process and wait for it. `body` is emptied as soon as the process has it."""
        variables = environment(hook, about, os.environ)
        mark = mark_of(variables)
        with self._children.known(mark):
            try:
                process = start(command_line(hook), variables, body[0], permit.require)
            except (OSError, MemoryError) as error:
                return _not_started(error)
            body.clear()
            with (
                self._children.known(process.pid),
                ExitWatch(process, self._stop_reader) as watch,
                permit.ends_by(watch.kill, mark),
            ):
                return watch.wait(hook.timeout_ms / 1000, is_shell=isinstance(hook, ShellHook))


def _not_started(error: OSError | MemoryError) -> Result:
    """Return how a run ends whose process could not be started. Raise LackError when that is
    because the machine lacks something."""
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
        return _failed("the command was not found or is not executable", final=True)
    if what := what_is_lacking(error):
        raise LackError(what) from None
    number = error.errno if isinstance(error, OSError) else 0
    reason = os.strerror(number or 0)
    return _failed(f"the command did not start: {reason}", final=number in _LASTING)


def _failed(error: str, *, final: bool) -> Result:
    return Result(outcome=AttemptOutcome.FAILED, error=error, final=final)
