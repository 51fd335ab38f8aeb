"""Somebody who has the console open all the time, and Prometheus beside: they load its pages and
metrics."""

import contextlib
import subprocess
import threading
from collections import Counter
from http.client import HTTPException

from tests.support.commands import run_process
from tests.support.console import Browser, browser
from tests.support.daemon import Premblyd

PAGES = ("/metrics", "/", "/events", "/deliveries", "/dead", "/metrics", "/actions", "/events.json")
PAUSE_S = 0.5
# What comes of looking while it is killed, or starts.
AWAY = (OSError, HTTPException, ValueError, AssertionError, subprocess.TimeoutExpired)


class Dashboard:
    """A thread that looks until told to stop, also through restarts of the daemon."""

    def __init__(self, daemon: Premblyd) -> None:
        self._daemon = daemon
        self._over = threading.Event()
        self._browser: Browser | None = None
        self._thread = threading.Thread(target=self._keep_on, daemon=True)
        self.seen: Counter[str] = Counter()
        self.problems: list[str] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Look at no more."""
        self._over.set()
        self._thread.join()

    def _keep_on(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(*AWAY):
                self._load(self._signed_in())
            self._over.wait(PAUSE_S)

    def _load(self, own: Browser) -> None:
        for path in PAGES:
            page = own.get(path)
            self.seen[f"{path.partition('.')[0]} {page.status}"] += 1
            if page.status == 303:
                self._browser = None
                return
            if page.status not in (200, 503):  # 503: it is too busy for a page now
                self.problems.append(f"page {path} answered {page.status}")
            if self._over.wait(PAUSE_S):
                return

    def _signed_in(self) -> Browser:
        """Return a browser on the daemon that runs now. Raise one of AWAY when none does."""
        own, now = self._browser, browser(self._daemon)
        if own is None or own.address != now.address:
            link = run_process("console", "--config", self._daemon.config).out.strip()
            if now.sign_in(link).status != 303:
                raise ConnectionError("it takes no link now")
            self._browser = own = now
        return own
