"""Processes of premblyd that are forked from one that has imported all of it.

To start Python and import premblyd takes half a second of the processor, ten times what most tests
ask of the process. A forked one is a process of its own all the same: with its own arguments,
environment, folder and descriptors, and the whole of `python -m premblyd`. What the kernel tells
of it (`/proc/…/cmdline`, `environ`) is its parent's, and it imports nothing. Tests of that, and of
what Python or the loader read at their start (LD_PRELOAD), start one in earnest: by `subprocess` or
`is_executed=True`.
"""

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

SHARED = "PREMBLYD_TEST_FORKING"  # a variable: where the process listens that forks for the session
MAX_ASKED_BYTES = 1 << 17
MAX_DESCRIPTORS = 16
_AWAY = 100  # where descriptors are put that must not stand in another's way


class Forked:
    """A process of premblyd with these arguments, in this process's folder, and otherwise what
    Popen is. `before` is Python that it runs first."""

    def __init__(
        self,
        arguments: Sequence[object],
        *,
        environ: Mapping[str, str] | None = None,
        before: str = "",
        stdin: int | IO[Any] = 0,
        stdout: int | IO[Any] = 1,
        stderr: int | IO[Any] = 2,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.returncode: int | None = None
        typed = [str(argument) for argument in arguments]
        asked: dict[str, Any] = {"arguments": typed, "before": before}
        asked["environ"] = dict(os.environ if environ is None else environ)
        asked |= {"folder": os.getcwd(), "descriptors": [0, 1, 2, *pass_fds]}
        with contextlib.ExitStack() as given:
            self.stdout, out = _pipe(stdout, given)
            self.stderr, error = _pipe(stderr, given)
            told, telling = _pipe(subprocess.PIPE, given)
            assert told is not None
            self._told = told
            source = stdin if isinstance(stdin, int) else stdin.fileno()
            descriptors = [telling, source, out, error, *pass_fds]
            socket.send_fds(_server(), [json.dumps(asked).encode()], descriptors)
        self.pid = int(self._told.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:  # it may wait for ever for what the test would have done
            self.kill()
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()

    def poll(self) -> int | None:
        """Return its exit status if it has ended, as a negative number the signal that ended it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status. Raise TimeoutExpired when it has not ended by then."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("premblyd", timeout or 0)
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # its end is not told yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _pipe(wanted: int | IO[Any], given: contextlib.ExitStack) -> tuple[IO[bytes] | None, int]:
    """Return our end, if a pipe is wanted, and the descriptor for the process."""
    if wanted != subprocess.PIPE:
        return None, wanted if isinstance(wanted, int) else wanted.fileno()
    reading, writing = os.pipe()
    given.callback(os.close, writing)
    return os.fdopen(reading, "rb", buffering=0), writing


@functools.cache
def _server() -> socket.socket:
    """Return the connection to the process from which this one's are forked."""
    if SHARED not in os.environ:
        return _start_server()
    shared = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    shared.connect(os.environ[SHARED])
    return shared


def share_server(folder: Path) -> None:
    """Start the process from which all processes of this session have theirs forked: each of
    xdist's workers would else have one of its own, which imports premblyd for more than a second of
    the processor."""
    os.environ[SHARED] = str(folder / "forking")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(os.environ[SHARED])
        listening.listen()
        _start_server(listening.fileno())


def _start_server(*listening: int) -> socket.socket:
    """Start the process that forks, and return a connection to it. It ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        asked = [its.fileno(), *listening]
        command = [sys.executable, "-m", __name__, *map(str, asked)]
        process = subprocess.Popen(command, pass_fds=asked, cwd=Path(__file__).parents[2])

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def import_all() -> None:
    import premblyd

    for module in pkgutil.walk_packages(premblyd.__path__, "premblyd."):
        if not module.name.endswith(".__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)
    from pydantic import BaseModel

    models = [BaseModel]
    for model in models:  # what else the first use of each model does
        models += model.__subclasses__()
        if model.__module__.startswith("premblyd."):
            model.model_rebuild()


def _serve(first: socket.socket, *others: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each message and tell what becomes of it, until no more come from the
    first. Of the others each takes connections. In such a process, return what it is to be."""
    asked = [first, *others]
    telling: dict[int, int] = {}  # by a process's number: the descriptor that tells of it
    woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waking)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # written there too
    while True:
        heard: list[Any] = [*asked, woken]
        ready, _, _ = select.select(heard, [], [])
        if woken in ready:
            os.read(woken, MAX_ASKED_BYTES)
            _tell_ends(telling)
            continue
        if ready[0] in others:
            asked.append(ready[0].accept()[0])
            continue
        message, descriptors, _, _ = socket.recv_fds(ready[0], MAX_ASKED_BYTES, MAX_DESCRIPTORS)
        if not message:
            if ready[0] is first:
                return None
            asked.remove(ready[0])
            ready[0].close()
            continue
        told, *given = descriptors
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in asked:
                each.close()
            for descriptor in (woken, waking, told, *telling.values()):
                os.close(descriptor)
            return _keep(json.loads(message), given)
        telling[pid] = told
        for descriptor in given:
            os.close(descriptor)
        with contextlib.suppress(BrokenPipeError):  # who asked has died: others ask too
            os.write(told, b"%d\n" % pid)


def _tell_ends(telling: dict[int, int]) -> None:
    """Tell of the processes that have ended how they did."""
    while telling:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        told = telling.pop(pid)
        with contextlib.suppress(BrokenPipeError):
            os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(told)


def _keep(asked: dict[str, Any], given: list[int]) -> dict[str, Any]:
    """Have the descriptors that were given where they are asked for, and return `asked`."""
    away = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _AWAY) for descriptor in given]
    for descriptor in given:
        os.close(descriptor)
    for number, descriptor in zip(asked["descriptors"], away, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    return asked


def _stream(number: int, *, is_unbuffered: bool) -> IO[str]:
    """Return a standard stream as Python makes it at its start."""
    if number == 0:
        return open(number, closefd=False)
    binary = open(number, "wb", 0 if is_unbuffered else -1, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(
        binary, line_buffering=number == 2 or os.isatty(number), write_through=is_unbuffered
    )


def _become(asked: dict[str, Any]) -> None:
    """Be the premblyd that was asked for."""
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["folder"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _stream(number, is_unbuffered=bool(os.environ.get("PYTHONUNBUFFERED")))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.argv[1:] = asked["arguments"]
    exec(asked["before"], vars(sys.modules["__main__"]))
    try:
        runpy.run_module("premblyd", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        # As Python ends, but with its memory as it is: to free it takes 40 ms, for as it is shared,
        # each page is copied before.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(end.code)
        raise


if __name__ == "__main__":
    import_all()
    gc.collect()
    gc.freeze()  # a process that looks for cycles would else write on, and so copy, all of it
    if (wanted := _serve(*(socket.socket(fileno=int(each)) for each in sys.argv[1:]))) is not None:
        _become(wanted)
