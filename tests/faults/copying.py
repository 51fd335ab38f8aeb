"""The campaign of copies: `record backup` is killed at any moment, again and again, under load.

    python -m tests.faults.copying --cycles 150 [--seed N]

Clients send signed webhooks all the while. What has a copy's name is whole after each kill, and has
every event that was acknowledged before; what a kill leaves is gone after the next that ends.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from premblyd.features.backup.copying import CopyName, copies_in
from premblyd.ground.databases import DatabaseAddress, EncryptedFile
from tests.faults import campaigns, crash, promises
from tests.faults.crash import body_of
from tests.faults.daemon import folder
from tests.faults.kills import Kills
from tests.support.forking import Forked

KEPT = 3
ENDS_EVERY = 5  # cycles in which a backup may end
SMALL = "from premblyd.features.backup import copying; copying.PAGES = 16\n"  # so that it is slow


class Campaign(crash.Campaign):
    """Cycles of load, a backup that is killed, and checks: the daemon works on."""

    def __init__(self, at: Path, seed: int, place: DatabaseAddress | None = None) -> None:
        super().__init__(at, seed, place=place)
        self._folder = at / "copies"
        self._folder.mkdir(0o700)
        self._kills = Kills(random.Random(seed), self.figures)
        self._cycle = 0

    def harm(self) -> None:
        self._cycle += 1
        with self.book.lock:
            acknowledged = dict(self.book.events)
        known = set(copies_in(self._folder))
        if self._cycle % ENDS_EVERY:
            self._kills.kill("backup", self._start)
        elif code := self._start(before="", pass_fds=()).wait():
            self.book.problems.append(f"a backup ended with {code}")
        found = copies_in(self._folder)
        for copy in set(found) - known:
            self.figures["copies that were looked through"] += 1
            self._look_through(copy, acknowledged)
        if self._cycle % ENDS_EVERY == 0:
            left = {*os.listdir(self._folder)} - {*map(str, found), "erased.jsonl"}
            self.book.problems += [f"{name} was left" for name in left]
            if len(found) != min(KEPT, len(known) + 1):
                self.book.problems.append(f"{len(found)} copies are kept")

    def _look_through(self, copy: CopyName, acknowledged: dict[str, int]) -> None:
        """A copy is whole, and has what was acknowledged before the backup began."""
        place, file = self.victim.place, self._folder / str(copy)
        copied = replace(place, path=file) if isinstance(place, EncryptedFile) else file
        wrong = promises.kept(copied, list(acknowledged.items()), body_of)
        if acknowledged and copy.event_id < max(acknowledged.values()):
            wrong.append("its name is older than what it should have")
        self.book.problems += [f"{copy}: {each}" for each in wrong]

    def _start(self, *, before: str, pass_fds: Sequence[int]) -> Forked:
        words: list[Any] = ["record", "backup", self._folder, "--keep", KEPT]
        words += ["--config", self.victim.config]
        with open(os.devnull, "wb") as nowhere:
            return Forked(words, stdout=nowhere, before=SMALL + before, pass_fds=pass_fds)


def main() -> None:
    campaigns.main(
        __doc__,
        lambda opened, asked: Campaign(opened.enter_context(folder()), asked.seed),
        cycles=150,
        say_every=25,
    )


if __name__ == "__main__":
    main()
