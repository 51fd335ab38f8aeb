"""`record encrypt` is killed while it encrypts a record, and while it changes the key.

    python -m tests.faults.encrypting --kills 100

After each kill there is one whole record with all its rows, by one of its keys. The same command
finishes, and leaves nothing.
"""

import json
import os
import random
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path

from premblyd.features.encryption import keys as keyfiles
from premblyd.features.encryption.cli import opening_key
from premblyd.ground import databases
from premblyd.ground.databases import is_plain
from premblyd.store.sqlite import connecting
from premblyd.store.sqlite.files import NEW, beside
from tests.faults import campaigns
from tests.faults.daemon import folder, table
from tests.faults.kills import Kills
from tests.support.commands import run
from tests.support.copies import configured
from tests.support.forking import Forked
from tests.support.postgresql import FOLDER

COUNT = "SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM delivery)"
OTHER = "ab" * 32


class Campaign:
    """A record to be encrypted, or to get another key, in a folder."""

    def __init__(self, at: Path, rng: random.Random, *, is_encrypted: bool) -> None:
        self.figures: Counter[str] = Counter()
        self._kills = Kills(rng, self.figures)
        self._work = at / "work"
        self._is_encrypted = is_encrypted
        self._next = at / "next.key"
        self._next.write_text(OTHER)
        self._config = configured(at / "here", is_encrypted=is_encrypted)
        if not is_encrypted:
            key = run("init", "--encryption", self._config.parent)
            assert key.code == 1, key
            settings = json.loads(self._config.read_text())
            settings["encryption"] = {"key": {"file": "database.key"}}
            self._config.write_text(json.dumps(settings))
        self._count = self._whole(self._config)

    def kill(self) -> list[str]:
        """Kill the command, and have the next one end its work; return what was broken."""
        shutil.rmtree(self._work, ignore_errors=True)
        shutil.copytree(self._config.parent, self._work)
        config = self._work / self._config.name
        option = ("--new-key", self._next) if self._is_encrypted else ()
        arguments = ("record", "encrypt", *option, "--config", config)
        with open(os.devnull, "wb") as out:
            self._kills.kill("encrypt", lambda **more: Forked(arguments, stdout=out, **more))
        key = config.with_name("database.key")
        self.figures["changing"] += databases.next_key(key).exists()
        self.figures["plain"] += is_plain(config.with_name("premblyd.db")) is True
        problems = [] if self._whole(config) == self._count else ["it is not whole"]
        ran = run("record", "encrypt", *option, "--config", config)
        if ran.code or self._whole(config) != self._count:
            problems.append(f"the next one: {ran}")
        if (
            self._is_encrypted != (keyfiles.read_key(key) == OTHER)
            or databases.next_key(key).exists()
        ):
            problems.append("it has another key")
        if beside(config.with_name("premblyd.db"), NEW).exists():
            problems.append("it left something")
        return problems

    @staticmethod
    def _whole(config: Path) -> object:
        """Return how much is in the record, by the key that opens it; None if it is damaged."""
        path = config.with_name("premblyd.db")
        keys = None if is_plain(path) else [opening_key(path, config.with_name("database.key"))]
        with closing(connecting.connect(f"{path.as_uri()}?mode=rw", keys)) as database:
            if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return None
            return database.execute(COUNT).fetchall()


def main() -> None:
    asked = campaigns.arguments(__doc__, kills=100, seed=campaigns.ANY)
    problems: list[str] = []
    with folder() as shared:
        os.environ[FOLDER] = str(shared)  # where a record is made, once
        for is_encrypted in (False, True):
            (at := shared / f"{is_encrypted}").mkdir()
            campaign = Campaign(at, random.Random(asked.seed), is_encrypted=is_encrypted)
            for _ in range(asked.kills):
                problems += campaign.kill()
            table({"changes the key": is_encrypted, "seed": asked.seed, **campaign.figures})
    campaigns.end(problems)


if __name__ == "__main__":
    main()
