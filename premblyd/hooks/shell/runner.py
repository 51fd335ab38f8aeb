"""Shell and command hooks: a process of its own group, a bounded output, an end in time."""

import asyncio
import errno
import os
from collections.abc import Mapping

from premblyd.config.models import Action
from premblyd.hooks.lack import LackError, Patience, what_lacks
from premblyd.hooks.shell.process import Watch, start
from premblyd.hooks.shell.threads import Threads
from premblyd.hooks.strays import Mark, Strays
from premblyd.logs import get_logger
from premblyd.store.jobs import Job, Result
from premblyd.store.models import AttemptOutcome

SWEEP_S = 1.0
MAX_VALUE_BYTES = 4 << 10
INHERITED = ("PATH", "HOME", "LANG", "TZ")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CANT_HEAL = (errno.ENOEXEC, errno.E2BIG)
log = get_logger()


def command_line(action: Action) -> list[str]:
    """Return the argument list of a shell or command action: nothing of the event is in it."""
    return ["/bin/sh", "-c", action.shell] if action.shell else list(action.command or ())


def environment(action: Action, job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the hook's whole environment: a few of the daemon's variables, the event's identity
    and the action's own. Names are never taken from the event (httpoxy)."""
    verdict = job.event.verdict
    identity = {
        "PREMBLY_EVENT": job.event.id,
        "PREMBLY_EVENT_KEY": job.event.key,
        "PREMBLY_DELIVERY": job.delivery_id,
        "PREMBLY_ATTEMPT": job.attempt,
        "PREMBLY_ENDPOINT": job.event.endpoint,
        "PREMBLY_KIND": verdict.kind,
        "PREMBLY_RESPONSE_CODE": verdict.response_code,
        "PREMBLY_STATUS": verdict.status,
        "PREMBLY_OUTCOME": verdict.outcome,
        "PREMBLY_REFERENCE": verdict.reference,
        "PREMBLY_USER_REF": verdict.user_ref,
        "PREMBLY_FACE_MATCH": verdict.face_match,
        "PREMBLY_FACE_CONFIDENCE": verdict.face_confidence,
    }
    return {
        "PATH": DEFAULT_PATH,
        **{name: environ[name] for name in INHERITED if name in environ},
        **{name: _value(given) for name, given in identity.items()},
        **{name: secret.reveal() for name, secret in action.env.items()},
    }


def _value(given: object) -> str:
    """Return a value as a variable holds it; empty when it has a NUL or is over 4 KiB."""
    if given is None:
        return ""
    text = ("true" if given else "false") if isinstance(given, bool) else str(given)
    return "" if "\0" in text or len(text.encode()) > MAX_VALUE_BYTES else text


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
