"""Shell and command hooks: what a process is started with, and the runner that starts it, waits for
it in a thread and stops it in time. process.py has the process itself."""

import asyncio
import contextlib
import errno
import functools
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from premblyd.config.hooks import DEFAULT_PATH, CommandHook, ProcessHook, ShellHook
from premblyd.config.models import Config
from premblyd.queue.jobs import Result
from premblyd.run.kinds import Invocation
from premblyd.run.process import Children, Process, mark_of
from premblyd.run.starting import LackError, Patience, Permit, what_is_lacking
from premblyd.store.states import AttemptOutcome

T = TypeVar("T")
_Work = tuple["asyncio.Future[Any]", Callable[[], Any]]
MAX_VALUE_BYTES = 4 << 10
INHERITED = ("PATH", "HOME", "LANG", "TZ")
_LASTING = (errno.ENOEXEC, errno.E2BIG)  # trying again does not mend these


def command_line(hook: ShellHook | CommandHook) -> list[str]:
    """Return the hook's argument list: nothing of the event is in it."""
    return ["/bin/sh", "-c", hook.shell] if isinstance(hook, ShellHook) else list(hook.command)


def environment(
    hook: ProcessHook, about: Mapping[str, object], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the hook's whole environment: a few of the daemon's variables, those `about` the event
    and its own. Names are never taken from the event (httpoxy)."""
    return {
        "PATH": DEFAULT_PATH,
        **{name: environ[name] for name in INHERITED if name in environ},
        **{name: _text(value) for name, value in about.items()},
        **{name: secret.reveal() for name, secret in hook.env.items()},
    }


def _text(value: object) -> str:
    """Return a value as a variable holds it; empty when it has a NUL or is over 4 KiB."""
    if value is None:
        return ""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return "" if "\0" in text or len(text.encode()) > MAX_VALUE_BYTES else text


class ShellRunner:
    """Runs shell and command hooks, each in a thread that waits for its process."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._environ = dict(os.environ)  # a plain dict, in which a name is looked up far sooner
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
        return await self._patience.run(
            permit, lambda: self._threads.run(lambda: self._run(hook, about, body, permit))
        )

    def interrupt(self) -> None:
        """End every running hook: SIGTERM now, SIGKILL 5 s later. They count as interrupted."""
        self._patience.end()
        os.write(self._stop_writer, b"x")

    def close(self) -> None:
        self._threads.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _run(
        self,
        hook: ShellHook | CommandHook,
        about: Mapping[str, object],
        body: list[bytes],
        permit: Permit,
    ) -> Result:
        """Start the process and wait for it. `body` is emptied as soon as the process has it."""
        variables = environment(hook, about, self._environ)
        mark = mark_of(variables)
        with self._children.known(mark):
            try:
                process = Process(
                    command_line(hook),
                    variables,
                    body[0],
                    require=permit.require,
                    stop=self._stop_reader,
                )
            except (OSError, MemoryError) as error:
                return not_started(error)
            body.clear()
            with self._children.known(process.pid), process, permit.ends_by(process.kill, mark):
                return process.wait(hook.timeout_ms / 1000, is_shell=isinstance(hook, ShellHook))


def not_started(error: OSError | MemoryError) -> Result:
    """Return how a run ends whose process could not be started. Raise LackError when that is
    because the machine lacks something."""
    if what := what_is_lacking(error):
        raise LackError(what) from None
    number = getattr(error, "errno", None) or 0
    reason, final = f"the command did not start: {os.strerror(number)}", number in _LASTING
    if isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError):
        reason, final = "the command was not found or is not executable", True
    return Result(outcome=AttemptOutcome.FAILED, error=reason, final=final)


class Threads:
    """As many threads as there are things to run at once; they are kept for later ones.

    Not ThreadPoolExecutor: it takes the work first, and when it can make no thread for it, it
    raises, keeps the work, and runs it some time later.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._free = 0
        self._all: list[threading.Thread] = []
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread and return what it returns. Raise LackError when no thread can
        be made: then it is not run."""
        if self._free:
            self._free -= 1
        else:
            self._add()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._work.put((done, work))
        try:
            return await done
        finally:
            self._free += 1

    def close(self) -> None:
        """End all threads, when what they run has ended."""
        for _ in self._all:
            self._work.put(None)
        for thread in self._all:
            thread.join()

    def _add(self) -> None:
        thread = threading.Thread(target=self._serve, name=self._name)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            raise LackError("threads") from None
        self._all.append(thread)

    def _serve(self) -> None:
        settle: Callable[[], None]
        while entry := self._work.get():
            done, work = entry
            if not done.cancelled():
                try:
                    settle = functools.partial(done.set_result, work())
                # Whatever it is, it is raised where the result is waited for.
                except Exception as error:  # noqa: BLE001
                    settle = functools.partial(done.set_exception, error)
                with contextlib.suppress(RuntimeError):  # the loop is closed; nobody waits any more
                    done.get_loop().call_soon_threadsafe(_unless_cancelled, done, settle)
                del settle
            del entry, done, work  # else what they hold stays in memory until more work comes


def _unless_cancelled(done: "asyncio.Future[T]", settle: Callable[[], None]) -> None:
    if not done.done():
        settle()
