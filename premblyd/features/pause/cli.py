"""premblyd pause and premblyd resume"""

import contextlib
from pathlib import Path

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import Typed, database_of, open_to_change
from premblyd.cli.printing import print_json, print_sentence, print_told
from premblyd.config.load import load_config
from premblyd.config.values import When
from premblyd.features.pause import pauses, shown
from premblyd.features.reading.standing import Standing, standings
from premblyd.ground.errors import ConfigError, NotFoundError
from premblyd.ground.words import counted
from premblyd.store.engine import Database

_UNTIL_WORDS = (
    "neither a time such as 2026-01-31T06:00 nor a duration such as 30m, 2h or 7d (at most 366d)"
)


@click.command()
@click.argument("action")
@click.option(
    "--until",
    type=Typed("TIME", pauses.read_until, _UNTIL_WORDS),
    help="Resume by itself then: 2026-01-31T06:00 (UTC), or after a duration such as 2h or 7d.",
)
@click.option(
    "--reason",
    metavar="TEXT",
    help=f"Why, in up to {pauses.MAX_REASON} characters. Name nobody: others read it.",
)
@config_option
@json_option
def pause(
    config_path: Path, *, action: str, until: When | None, reason: str | None, as_json: bool
) -> None:
    """No hook of ACTION starts on any host until `resume`, or until TIME, even after a restart.
    Waiting deliveries use up no attempts and keep their places. Hooks that are running finish.

    To change TIME or the reason, pause it again.
    """
    reason = pauses.checked_reason(reason)
    record = open_to_change(database_of(config_path))
    # In an incident the file may have mistakes: `status` lists a pause of what is not there.
    with contextlib.suppress(ConfigError):
        pauses.require_known(record, load_config(config_path, look_up_secrets=False), action)
    now_ms = record.now_ms()
    until_ms = pauses.until_ms(until, now_ms)
    record.transact(pauses.pause(actor(), action, now_ms, until_ms, reason))
    found, paused = _standing(record, action), shown.in_force(record, now_ms).get(action)
    words = (
        f"{action} has been {shown.sentence(paused)}." if paused else "The pause has already ended."
    )
    ends = "" if until else f" `premblyd resume {action}` starts it again."
    words += f"\n{counted(found.waiting, 'delivery', 'deliveries')} waiting;"
    words += f" {found.running:,} running{' (not stopped)' if found.running else ''}.{ends}"
    if as_json:
        print_json({"paused": paused, "waiting": found.waiting, "running": found.running})
        return
    for line in words.splitlines():
        print_sentence(line)


@click.command()
@click.argument("action")
@config_option
@json_option
def resume(config_path: Path, *, action: str, as_json: bool) -> None:
    """The waiting hooks of ACTION run, in order. The daemon notices within a second."""
    record = open_to_change(database_of(config_path))
    if not record.transact(pauses.resume(actor(), action, record.now_ms())):
        raise NotFoundError(f"{action} is not paused: `premblyd status` lists what is.")
    found = _standing(record, action)
    words = f"{action} is resumed: {counted(found.waiting, 'delivery', 'deliveries')} waiting."
    print_told({"resumed": action, "waiting": found.waiting}, words, as_json=as_json)


def _standing(record: Database, action: str) -> Standing:
    return standings(record, record.now_ms(), [action])[0]
