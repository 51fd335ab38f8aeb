"""premblyd person hold and release: legal holds, which exempt a person from deletion."""

from pathlib import Path
from typing import Any

import click

from premblyd.cli.caller import actor
from premblyd.cli.common import (
    PRIVATE,
    ROW_ID,
    Typed,
    database_of,
    open_to_change,
    open_to_read,
    record_options,
    reference_option,
    user_ref_option,
)
from premblyd.cli.printing import Column, print_listed, print_told
from premblyd.config.values import When
from premblyd.features.keeping import holds, listing
from premblyd.features.keeping.holds import Subject
from premblyd.features.keeping.settings import period_ms
from premblyd.ground import times
from premblyd.ground.errors import NotFoundError
from premblyd.ground.words import counted


def _ended_ms(row: Any) -> int | None:
    """Return when a hold ended: by somebody, or by its own time."""
    return row.ended_at_ms or (None if row.is_in_force else row.until_ms)


HOLDS = (
    Column("id", kind="whole"),
    Column("user ref", "user_ref"),
    Column("reference"),
    Column("since (UTC)", "since_ms", kind="time"),
    Column("until (UTC)", "until_ms", kind="time"),
    Column("who", "actor"),
    Column("reason"),
    Column("ended (UTC)", _ended_ms, kind="time"),
    Column("ended by", "ended_by"),
)


def _until(text: str) -> When:
    try:
        return When(text, ago_ms=-period_ms(text))
    except ValueError:
        return When(text, at_ms=times.from_iso(text))


UNTIL = Typed("TIME", _until, "neither a date such as 2030-01-31 nor a duration such as 90d or 2y")


@click.command()
@user_ref_option
@reference_option
@click.option("--until", type=UNTIL, help="When it ends: 2030-01-31, or 90d or 2y from now.")
@click.option("--reason", type=PRIVATE, help="Why. It is deleted when the hold ends.")
@click.option("--yes", is_flag=True, help="Place it even if no event has this name yet.")
@click.option("--list", "lists", is_flag=True, help="List the active holds.")
@click.option("--all", "ended", is_flag=True, help="With --list: also list holds that have ended.")
@record_options
def hold(
    config_path: Path,
    *,
    user_ref: str | None,
    reference: str | None,
    until: When | None,
    reason: str | None,
    yes: bool,
    lists: bool,
    ended: bool,
    database: str | None,
    as_json: bool,
) -> None:
    """Neither `retention` nor `person erase` deletes what is on hold. A person may have
    several holds: each ends by `person release`, or at its --until.

    Other users of this machine can read arguments. With `-` the value is read from standard input:
    `premblyd person hold --user-ref - --reason - < FILE`.
    """
    subject = _subject(user_ref, reference)
    if lists and not (subject is None and until is None and reason is None):
        raise click.UsageError("--list can't be combined with other options.")
    if ended and not lists:
        raise click.UsageError("--all needs --list.")
    if lists:
        record = open_to_read(database_of(config_path, database))
        rows = listing.holds(record, record.now_ms(), ended=ended)
        empty = "No holds." if ended else "No active holds."
        print_listed(HOLDS, rows, empty=empty, as_json=as_json)
        return
    if subject is None:
        raise click.UsageError("Say who or what: --user-ref U or --reference R.")
    record = open_to_change(database_of(config_path, database))
    now_ms = record.now_ms()
    until_ms = until and until.by(now_ms)
    if until_ms is not None and until_ms <= now_ms:
        raise click.UsageError(f"--until {until} is past.")
    events = listing.count_of(record, subject)
    if not events and not yes:
        name = "reference" if subject.user_ref is None else "user_ref"
        raise NotFoundError(
            f"No event has this {name}, so no hold was placed. Check the spelling, or add --yes to"
            " hold future events."
        )
    about: dict[str, Any] = {"until_ms": until_ms, "reason": reason}
    number = record.transact(holds.place(subject, actor=actor(), now_ms=now_ms, **about))
    end = f"{times.for_people(until_ms)} UTC" if until_ms else f"`premblyd person release {number}`"
    words = (
        f"Hold {number}: exempt from deletion until {end}.\n"
        f"It covers {counted(events, 'event')}, and future ones."
    )
    exact = {"hold_id": number, "until_ms": until_ms, "events": events}
    print_told(exact, words, as_json=as_json)


@click.command()
@click.argument("hold", required=False, type=ROW_ID, metavar="[HOLD]")
@user_ref_option
@reference_option
@record_options
def release(
    config_path: Path,
    *,
    hold: int | None,
    user_ref: str | None,
    reference: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Ends this hold, or all holds on --user-ref or --reference: `person hold --list`
    lists them."""
    subject = _subject(user_ref, reference)
    which = subject if hold is None else hold
    if which is None or None not in (hold, subject):
        raise click.UsageError("Say which: its number, or --user-ref or --reference.")
    record = open_to_change(database_of(config_path, database))
    ended = record.transact(holds.end(which, actor=actor(), now_ms=record.now_ms()))
    if not ended:
        name = "on it" if hold is None else hold
        raise NotFoundError(
            f"There is no active hold {name}: `premblyd person hold --list` lists them."
        )
    names = ", ".join(str(number) for number in ended)
    print_told({"hold_ids": ended}, f"Ended hold {names}.", as_json=as_json)


def _subject(user_ref: str | None, reference: str | None) -> Subject | None:
    if user_ref is not None and reference is not None:
        raise click.UsageError("Give --user-ref or --reference, not both.")
    is_any = user_ref is not None or reference is not None
    return Subject(user_ref=user_ref, reference=reference) if is_any else None
