"""Starting a process by posix_spawn(3), as glibc and musl have it.

Not by subprocess: its child resets all signals while it shares the daemon's memory. glibc 2.41
takes a lock there for SIGABRT, so when the daemon is killed just then, the child may wait for that
lock for ever, busily, holding what it inherited. posix_spawn's child takes no lock.

Not by os.posix_spawn: it can neither change the folder nor, before 3.13, close what was inherited,
and it lets no other thread run until the child has become its program. At 32 hooks at a time that
is 1,000 to 2,200 starts a second; this is 3,000 to 3,600, as many as subprocess, at half its cost.
"""

import contextlib
import ctypes
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80  # spawn.h
# Python ignores the first two. A shell that starts the daemon in the background, or by nohup, has
# it ignore the others, and what is ignored is inherited.
_MAY_BE_IGNORED = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTERM,
)
# Before the daemon allows itself more files. Programs that take the limit for a number of files to
# close, or to make room for, would take seconds and gigabytes for a million.
_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)
_ROOM = ctypes.c_long * 128  # more than any libc's structures need: 336 and 80 bytes
_libc = ctypes.CDLL(None)


def spawn(
    arguments: list[str],
    environ: Mapping[str, str],
    *,
    streams: Sequence[int],
    folder: str,
    require: Callable[[], None] = lambda: None,
) -> int:
    """Start a process in a session of its own, and return its number. It has `streams` as its
    descriptors 0, 1, 2 and so on, none of which is higher than it is here, and no others. Its
    program is looked for in the PATH of `environ`. Raise OSError when it can't start, and what
    `require` raises, when all is prepared.
    """
    argument_list = _strings(map(os.fsencode, arguments))
    variables = _strings(os.fsencode(f"{name}={value}") for name, value in environ.items())
    actions = _ROOM()
    pid = ctypes.c_int()
    _check(_libc.posix_spawn_file_actions_init(actions))
    try:
        for stream, descriptor in enumerate(streams):
            _check(_libc.posix_spawn_file_actions_adddup2(actions, descriptor, stream))
        if hasattr(_libc, "posix_spawn_file_actions_addclosefrom_np"):  # not musl
            _check(_libc.posix_spawn_file_actions_addclosefrom_np(actions, len(streams)))
        _check(_libc.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(folder)))
        failures = []
        number = ctypes.byref(pid)
        for path in map(os.fsencode, _candidates(arguments[0], environ, folder)):
            require()  # nothing stands between this and the start
            failure = _libc.posix_spawn(
                number, path, actions, _attributes, argument_list, variables
            )
            if not failure:
                _limit_files(pid.value)
                return pid.value
            failures.append(failure)
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)
    # As execvp(3): of the files that were there, the first that could not be run tells why.
    there = [failure for failure in failures if failure not in (errno.ENOENT, errno.ENOTDIR)]
    first = next(iter(there or failures), errno.ENOENT)
    raise OSError(first, os.strerror(first))


def _limit_files(pid: int) -> None:
    """Give a process that has just begun the limit of files that this one was started with:
    posix_spawn itself has no way to."""
    soft, _ = _FILES
    now, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != now:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # ended, or setuid
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _candidates(name: str, environ: Mapping[str, str], folder: str) -> list[str]:
    """Return the paths at which the program may be."""
    if os.path.dirname(name):
        return [name]
    paths = [os.path.join(folder, place, name) for place in os.get_exec_path(environ)]
    return [path for path in paths if os.path.lexists(path)]  # each failed start costs a clone


def _strings(values: Iterable[bytes]) -> "ctypes.Array[ctypes.c_char_p]":
    """Return C's array of strings, which NULL ends."""
    kept = list(values)
    if any(b"\0" in value for value in kept):
        raise ValueError("an argument or a variable has a NUL")
    return (ctypes.c_char_p * (len(kept) + 1))(*kept, None)


def _check(number: int) -> None:
    if number:
        raise OSError(number, os.strerror(number))


def _make_attributes() -> "ctypes.Array[ctypes.c_long]":
    """Return what every process starts with: its own session, no signal blocked or ignored."""
    attributes, blocked, by_default = _ROOM(), _ROOM(), _ROOM()
    _check(_libc.posix_spawnattr_init(attributes))
    _libc.sigemptyset(blocked)
    _libc.sigemptyset(by_default)
    for number in _MAY_BE_IGNORED:
        _libc.sigaddset(by_default, int(number))
    _check(_libc.posix_spawnattr_setsigmask(attributes, blocked))
    _check(_libc.posix_spawnattr_setsigdefault(attributes, by_default))
    flags = ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID)
    _check(_libc.posix_spawnattr_setflags(attributes, flags))
    return attributes


_attributes = _make_attributes()
