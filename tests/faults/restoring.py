"""`record restore` is killed while it works, and copies of plain and encrypted records are cut and
flipped.

    python -m tests.faults.restoring --kills 100 --flips 200 --cuts 40

After each kill there is one whole record: the old one, or that of the copy without who was erased
since. The same command again puts it in. What is flipped or cut is refused, and changes nothing.
"""

import os
import random
import shutil
from collections import Counter
from pathlib import Path

from premblyd.features.backup.copying import parse
from premblyd.ground.errors import CannotStartError
from premblyd.store.connections import backend
from premblyd.store.sqlite.files import NEW, REPLACING, beside
from tests.faults import campaigns
from tests.faults.daemon import folder, table
from tests.faults.kills import Kills
from tests.support.commands import run
from tests.support.copies import change, configured, copied, erase, erased, place_of, put, rows
from tests.support.forking import Forked
from tests.support.postgresql import FOLDER

SINCE = "SELECT count(*) FROM event WHERE detail = 'since'"
ERASED = 2  # an event, after the copy


class Campaign:
    """A record, its copy, and somebody erased since, in a folder."""

    def __init__(self, at: Path, rng: random.Random, *, is_encrypted: bool) -> None:
        self.figures: Counter[str] = Counter()
        self._rng = rng
        self._kills = Kills(rng, self.figures)
        self._work = at / "work"
        self._copies = at / "copies"
        self._copies.mkdir(0o700)
        self._config = configured(at / "here", is_encrypted=is_encrypted)
        self._copy = copied(self._config, self._copies)
        change(self._config, "UPDATE event SET detail = 'since'")
        erase(self._config, ERASED)

    def kill(self, *, is_readable: bool) -> list[str]:
        """Kill a restore, and have the next one end it; return what was broken."""
        config = self._fresh()
        database = config.with_name("premblyd.db")
        if not is_readable:
            put(config, database)
        arguments = ("record", "restore", self._copies, "--yes", "--config", config)
        with open(os.devnull, "wb") as out:
            self._kills.kill("restore", lambda **more: Forked(arguments, stdout=out, **more))
        problems = self._of_start(config) if is_readable else []
        self.figures["finished by the next"] += beside(database, REPLACING).exists()
        ran = run(*arguments)
        if ran.code or rows(config, SINCE) != [(0,)] or erased(config) != [ERASED]:
            problems.append(f"the next one: {ran}")
        if beside(database, NEW).exists() or beside(database, REPLACING).exists():
            problems.append("it left something")
        return problems

    def _of_start(self, config: Path) -> list[str]:
        try:
            with backend(place_of(config)).hold():
                pass
        except CannotStartError as error:
            return [f"no daemon can start: {error}"]
        whole = rows(config, "PRAGMA integrity_check")
        self.figures["the old record" if rows(config, SINCE)[0][0] else "the new record"] += 1
        is_well = whole == [("ok",)] and erased(config) == [ERASED]
        return [] if is_well else [f"{whole}, erased {erased(config)}"]

    def harm(self, *, is_cut: bool) -> list[str]:
        """Have a harmed copy refused; return what was broken."""
        content = bytearray(self._copy.read_bytes())
        at = self._rng.randrange(len(content))
        if is_cut:
            del content[at:]
        else:
            content[at] ^= 1 << self._rng.randrange(8)
        harmed = self._copies.parent / self._copy.name
        harmed.write_bytes(content)
        assert parse(harmed.name)
        ran = run("record", "restore", harmed, "--yes", "--config", self._config)
        self.figures["cut, refused" if is_cut else "flipped, refused"] += ran.code == 1
        is_well = ran.code == 1 and rows(self._config, SINCE)[0][0]
        return [] if is_well else [f"byte {at}: {ran}"]

    def _fresh(self) -> Path:
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.copytree(self._config.parent, self._work)
        return self._work / self._config.name


def main() -> None:
    asked = campaigns.arguments(__doc__, kills=100, flips=200, cuts=40, seed=campaigns.ANY)
    problems: list[str] = []
    with folder() as shared:
        os.environ[FOLDER] = str(shared)  # where a record is made, once
        for is_encrypted in (False, True):
            (at := shared / f"{is_encrypted}").mkdir()
            campaign = Campaign(at, random.Random(asked.seed), is_encrypted=is_encrypted)
            for number in range(asked.kills // 2):
                problems += campaign.kill(is_readable=number % 4 != 0)
            for number in range(asked.flips + asked.cuts):
                problems += campaign.harm(is_cut=number >= asked.flips)
            table({"encrypted": is_encrypted, "seed": asked.seed, **campaign.figures})
    campaigns.end(problems)


if __name__ == "__main__":
    main()
