"""Shell and command hooks: a process of its own group, a bounded output, an end in time."""

import asyncio
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from premblyd.config import Action
from premblyd.hooks.process import Watch, in_memory
from premblyd.hooks.strays import Mark, Strays
from premblyd.logs import get_logger
from premblyd.store.jobs import Job, Result
from premblyd.store.models import AttemptOutcome

SWEEP_S = 1.0
MAX_VALUE_BYTES = 4 << 10
MAX_THREADS = 1024  # config.concurrency's bound
INHERITED = ("PATH", "HOME", "LANG", "TZ")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
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
    """Runs shell and command hooks, each in a thread that waits for its process.

    subprocess in threads starts four times as many processes a second as asyncio's.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="premblyd-hook")
        self._running: set[Mark] = set()
        self._ran = False
        # Readable once the daemon stops: every waiting thread polls it.
        self._stop_reader, self._stop_writer = os.pipe()

    async def run(self, action: Action, job: Job) -> Result:
        """Run the hook once. Never raise for a hook that fails."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, action, job)

    def interrupt(self) -> None:
        """End every running hook: SIGTERM now, SIGKILL 5 s later. They count as interrupted."""
        os.write(self._stop_writer, b"x")

    async def sweep(self, strays: Strays) -> None:
        """Kill what ended hooks left behind, about once a second, for as long as it runs."""
        while True:
            await asyncio.sleep(SWEEP_S)
            if self._ran:
                self._ran = bool(self._running)
                if killed := strays.sweep(set(self._running)):
                    self._ran = True  # their own children are ours next
                    log.warning("hook.strays_killed", count=killed)

    def close(self) -> None:
        self._pool.shutdown()
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def _run(self, action: Action, job: Job) -> Result:
        mark = Mark(job.event.key, job.delivery_id, job.attempt)
        self._running.add(mark)
        self._ran = True
        try:
            return self._start(action, job)
        finally:
            self._running.discard(mark)

    def _start(self, action: Action, job: Job) -> Result:
        stdin = in_memory(job.event.body)
        try:
            process = subprocess.Popen(
                command_line(action),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment(action, job, os.environ),
                cwd="/",
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return _failed("the command was not found or is not executable", final=True)
        except OSError as error:
            # ENOEXEC and E2BIG can't heal; EAGAIN and ENOMEM do.
            final = error.strerror in {"Exec format error", "Argument list too long"}
            return _failed(f"the command did not start: {error.strerror}", final=final)
        finally:
            os.close(stdin)
        with Watch(process, self._stop_reader) as watch:
            return watch.wait(action.timeout_ms / 1000, is_shell=action.shell is not None)


def _failed(error: str, *, final: bool) -> Result:
    return Result(outcome=AttemptOutcome.FAILED, error=error, final=final)
