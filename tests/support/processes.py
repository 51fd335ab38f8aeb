"""Processes that tests look at from outside."""

import psutil


def runs(process: psutil.Process) -> bool:
    """Return whether it still runs: a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    return psutil.Process(pid).memory_info().rss // 1024


def alive(word: str) -> list[psutil.Process]:
    """Return the processes that have `word` as an argument and are no zombies."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if word in (process.info["cmdline"] or ()) and process.info["status"] != "zombie":
            found.append(process)
    return found
