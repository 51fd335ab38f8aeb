"""Processes that tests look at from outside."""

import psutil

# Python that a daemon runs first, of which a test wants to see the files: as a plain user it may
# not, for the daemon hides from others of its user.
VISIBLE = "from premblyd.cli import serve\nserve.hide_this_process = lambda: None\n"


def runs(process: psutil.Process) -> bool:
    """Return whether it still runs: a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    return psutil.Process(pid).memory_info().rss // 1024


def alive(*words: str) -> list[psutil.Process]:
    """Return the processes that have one of `words` as an argument and are no zombies."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        arguments = process.info["cmdline"] or ()
        if process.info["status"] != psutil.STATUS_ZOMBIE and not set(words).isdisjoint(arguments):
            found.append(process)
    return found
