"""premblyd replay and cancel: queue deliveries again, or dismiss them."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click

from premblyd.cli import caller, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import ROW_ID, database_of, open_to_change, row_id, settings_if_valid
from premblyd.cli.lists import chosen_by, filter_options
from premblyd.cli.printing import (
    clean,
    print_json,
    print_sentence,
    print_table,
    print_told,
    progress,
)
from premblyd.config.load import load_config
from premblyd.feature import added
from premblyd.ground.errors import NotFoundError, PremblydError
from premblyd.ground.words import counted
from premblyd.record import operating, replays, unknown
from premblyd.record.filters import DeliveryFilter
from premblyd.record.operating import CANCELLED, ONLY_SOME, Operator
from premblyd.record.replays import RAN_BEFORE, Plan
from premblyd.record.told import Told
from premblyd.store.engine import Database

ASK_ABOVE = 20
DRY_RUN_LINES = 50
LISTED = ("id", "event_id", "action", "state")  # of a delivery, by a dry run
NARROWING = ("action", "type", "since_ms", "until_ms", "error", "event_id", "contradicted")
# By their names in a plan.
LEFT_ALONE = {
    "unfinished": "they are pending or running: {}.",
    "waiting": "each waits for another (order): {}.",
}
F = TypeVar("F", bound=Callable[..., Any])


def _veto_options(command: F) -> F:
    """Add the options that take what a replay leaves out without them."""
    for veto in replays.vetoes():
        if veto.option:
            command = click.option(f"--{veto.name}", is_flag=True, help=veto.option)(command)
    return command


@click.command()
@click.argument("event", required=False)
@click.option("--event", "event_option", metavar="EVENT", help="The same as EVENT.")
@click.option("--delivery", "delivery_id", type=ROW_ID, help="Replay this delivery.")
@click.option("--dead", "is_dead", is_flag=True, help="Replay every dead delivery.")
@click.option("--pending", "is_pending", is_flag=True, help="Retry pending deliveries now.")
@filter_options(DeliveryFilter, "action", "type", "since_ms", "until_ms", "error")
@click.option(
    "--new",
    "is_new",
    is_flag=True,
    help="Create deliveries of --action for events that have none.",
)
@_veto_options
@click.option("--dry-run", is_flag=True, help="List what would be queued; queue nothing.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@config_option
@json_option
def replay(
    config_path: Path,
    *,
    event: str | None,
    event_option: str | None,
    dry_run: bool,
    yes: bool,
    is_dead: bool,
    is_pending: bool,
    is_new: bool,
    as_json: bool,
    **selection: Any,
) -> None:
    """Say which deliveries in one of these ways:

    \b
    - EVENT, a number or a key: all finished ones of it, succeeded ones too.
    - --delivery ID: this one.
    - --dead: all that are dead; with EVENT, those of it.
    - --pending: all that wait for their next attempt: it is made now.
    - --action A with --since T: all finished ones of A for events since T.

    --action, --type, --since, --until and --error narrow what these choose.

    A replayed delivery gets all its attempts again, and its hook the same webhook-id as before.
    With --pending only the attempts that are left.

    Events that Prembly contradicted are replayed only with --contradicted. Never replayed: events
    of an erased person, and hooks that need a body which `retention` has deleted.

    An action that is newer than the events has no deliveries yet. Name it with --action, and EVENT
    or --since: each event that matches its response codes, `types` and `when` gets a delivery. If
    some of the events have one already, add --new.
    """
    allowed = {veto.name for veto in replays.vetoes() if selection.pop(veto.name, False)}
    flags = {"is_dead": is_dead, "is_pending": is_pending, "is_new": is_new}
    _check_use((event, event_option), **flags, **selection)
    settings = load_config(config_path, look_up_secrets=False)
    database = open_to_change(settings.database)
    selection["event_id"] = event or event_option
    selection["state"] = "pending" if is_pending else "dead" if is_dead else None
    chosen = _chosen(database, selection)
    request = replays.Request(chosen=chosen, is_new=is_new, allowed=allowed)
    plan = replays.plan(database, settings, request, database.now_ms())
    for tell in added("shown", "OF_REPLAY"):
        for sentence in tell(plan.counts, settings):
            click.echo(sentence, err=True)
    if dry_run:
        _print_plan(plan, as_json)
        return
    _ask(f"Queue {counted(len(plan), 'delivery', 'deliveries')}?", len(plan), yes=yes)
    operator = Operator(actor=actor())
    if len(plan) > 1:
        about = counted(len(plan), "delivery", "deliveries")
        operator = database.transact(operator.many(about, database.now_ms()))
    changes = replays.changes(plan, operator, settings, database.now_ms())
    batches = operating.transact_all(database, changes)
    queued = _count(batches, len(plan), ("queueing", "queued"), silent=as_json)
    tellers = added("shown", "OF_QUEUED") if queued else ()
    told: list[Told] = [tell(database, plan.counts.keys()) for tell in tellers]
    values = {name: value for each in told for name, value in each.values.items()}
    _report(plan, "Queued", queued, exact={"queued": queued, **values} if as_json else None)
    for sentence in () if as_json else chain(*(each.sentences for each in told)):
        print_sentence(sentence)
    is_single = chosen.delivery_id is not None
    never = {veto.name for veto in replays.vetoes() if not veto.option}
    is_refused = chosen.event_id is not None and never & plan.left_out.keys()
    if not queued and (is_single or is_refused):
        raise SystemExit(1)


def _chosen(database: Database, selection: dict[str, Any]) -> DeliveryFilter:
    """Return which deliveries are asked for. Raise NotFoundError for an event that is not there,
    with a hint where the number is a delivery's."""
    try:
        return chosen_by(DeliveryFilter, database, selection)
    except NotFoundError as error:
        number = row_id(selection["event_id"])
        if number is None:
            raise
        with contextlib.suppress(NotFoundError):
            event_id = replays.find_delivery(database, number).event_id
            error.args = (
                f"{error} If you mean delivery {number} (event {event_id}): `premblyd replay"
                f" --delivery {number}`.",
            )
        raise


def _check_use(events: tuple[str | None, str | None], **selection: Any) -> None:
    has = {name for name, value in selection.items() if value not in (None, False)}
    named = sum(event is not None for event in events) + ("delivery_id" in has)
    by_action = {"action", "since_ms"} <= has
    if not (named or by_action or has & {"is_dead", "is_pending"}):
        raise click.UsageError(
            "Say what to replay: EVENT, --delivery ID, --dead, --pending, or --action with --since."
        )
    if named > 1:
        raise click.UsageError("Name one event or one delivery: --event is the same as EVENT.")
    if {"is_dead", "is_pending"} <= has or {"is_dead", "delivery_id"} <= has:
        raise click.UsageError("--dead can't be combined with --pending or --delivery.")
    is_for_events = any(events) or "since_ms" in has
    are_there = {"delivery_id", "is_dead", "is_pending", "type", "until_ms", "error"}
    if "is_new" in has and (has & are_there or not ("action" in has and is_for_events)):
        raise click.UsageError("--new needs --action, and EVENT or --since.")


def _ask(question: str, count: int, *, yes: bool) -> None:
    """Ask before something is done to many deliveries, where somebody can answer."""
    if count > ASK_ABOVE and not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)


def _count(batches: Iterator[int], total: int, words: tuple[str, str], *, silent: bool) -> int:
    """Let every batch be done, and return of how many deliveries that is true. `words`: what is
    done to them, and has been."""
    doing, done = words
    changed = 0
    with progress(silent=silent) as shown:
        task = shown.add_task(doing, total=total)
        try:
            for count in batches:
                changed += count
                shown.advance(task, count)
        except KeyboardInterrupt:
            raise PremblydError(f"Interrupted: {done} {changed} of {total}.") from None
    return changed


def _left_alone(plan: Plan) -> dict[str, Any]:
    """Return what of the selection is not touched, and what is and will be skipped, as JSON tells
    it."""
    left: dict[str, Any] = {
        "unfinished": plan.unfinished,
        "without_action": dict(plan.without_action),
        **{name: count for name in LEFT_ALONE if (count := getattr(plan, name))},
        **plan.left_out,
    }
    if plan.action:
        left["not_for"] = dict(plan.not_for)
    if plan.skipped_again:
        names = ("id", "ran_instead_id")
        left["skipped_again"] = [
            {name: getattr(each, name) for name in names} for each in plan.skipped_again
        ]
    return left


def _report(plan: Plan, words: str, count: int, *, exact: dict[str, Any] | None) -> None:
    """Print what is queued and what is not; for programs `exact` and all that."""
    if exact is not None:
        print_json({**exact, **_left_alone(plan)})
        return
    click.echo(f"{words} {counted(count, 'delivery', 'deliveries')}.")
    _print_left_alone(plan)
    _print_skipped_again(plan)


def _print_skipped_again(plan: Plan) -> None:
    for delivery in plan.skipped_again[:DRY_RUN_LINES]:
        other = delivery.ran_instead_id
        if other is None:
            click.echo(f"Delivery {delivery.id} will be skipped again: {RAN_BEFORE}.")
            continue
        again = caller.command_as_called(f"premblyd replay --delivery {other}")
        click.echo(
            f"Delivery {delivery.id} will be skipped again: delivery {other} has succeeded for the"
            f" same reference and outcome. To run that one again: {again}"
        )
    if (more := len(plan.skipped_again) - DRY_RUN_LINES) > 0:
        click.echo(f"… and {more} more will be skipped again; --json lists all.")


def _print_left_alone(plan: Plan) -> None:
    left = {words: count for name, words in LEFT_ALONE.items() if (count := getattr(plan, name))}
    for veto in replays.vetoes():
        if count := plan.left_out.get(veto.name):
            left[veto.left] = count
    if not (plan or left or plan.without_action or plan.not_for):
        click.echo("Nothing matches.")
    for words, count in left.items():
        print_sentence(f"Not replayed, because {words.format(count)}")
    for name, count in plan.without_action.items():
        click.echo(f"Not replayed, because the configuration has no action {name}: {count}.")
    for reason, count in plan.not_for.items():
        click.echo(f"Not for {counted(count, 'event')}: {clean(reason)}")


def _print_plan(plan: Plan, as_json: bool) -> None:
    rows = [dataclasses.asdict(found) for found in (*plan.finished, *plan.pending)]
    if plan.action:
        new = {"id": None, "action": plan.action.name, "state": "new", "ran_instead_id": None}
        rows = [new | {"event_id": event_id} for event_id in plan.new_for]
    exact = {"would_queue": rows} if as_json else None
    _report(plan, "Would queue", len(plan), exact=exact)
    if as_json:
        return
    _print_some(rows)


def _print_some(rows: Sequence[dict[str, Any]]) -> None:
    """Print the first rows of a dry run as a table."""
    listed = [[row[name] for name in LISTED] for row in rows[:DRY_RUN_LINES]]
    if listed:
        print_table(("id", "event", "action", "state"), listed, empty="")
    if len(rows) > DRY_RUN_LINES:
        click.echo(f"… and {len(rows) - DRY_RUN_LINES} more; --json lists all.")


@click.command()
@click.option("--delivery", "delivery_id", type=ROW_ID, help="Cancel this delivery.")
@click.option("--dead", "is_dead", is_flag=True, help="Cancel every dead delivery.")
@filter_options(DeliveryFilter, *NARROWING)
@click.option("--dry-run", is_flag=True, help="List what would be cancelled; cancel nothing.")
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@config_option
@json_option
def cancel(
    config_path: Path,
    *,
    delivery_id: int | None,
    is_dead: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **selection: Any,
) -> None:
    """--delivery: a pending or dead one. A delivery whose hook is running can't be cancelled.

    --dead: the dead ones that will not be retried; --action, --type, --since, --until, --error,
    --event and --contradicted narrow them. `status` stops listing them, and deliveries that wait
    behind them (`order`, with `then: wait`) run. They stay on record.

    `replay` puts a cancelled one back.
    """
    if (delivery_id is None) is not is_dead:
        raise click.UsageError("Say what to cancel: --delivery ID, or --dead.")
    if delivery_id is not None and (dry_run or any(selection.values())):
        raise click.UsageError("--delivery can't be combined with the others: they narrow --dead.")
    database = open_to_change(database_of(config_path))
    if delivery_id is None:
        action, settings = selection["action"], settings_if_valid(config_path)
        if action and (words := unknown.action(database, settings, action)):
            raise PremblydError(words)
        chosen = chosen_by(DeliveryFilter, database, {**selection, "state": "dead"})
        _cancel_dead(database, chosen, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    if database.transact(Operator(actor=actor()).cancel(delivery_id, database.now_ms())):
        print_told({"cancelled": 1}, f"Cancelled delivery {delivery_id}.", as_json=as_json)
        return
    found = replays.find_delivery(database, delivery_id)
    verb = "has" if found.state == "succeeded" else "is"
    raise PremblydError(f"Delivery {delivery_id} {verb} {found.state}; {ONLY_SOME}.")


def _cancel_dead(
    database: Database, chosen: DeliveryFilter, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    found = replays.find_deliveries(database, chosen)
    about = counted(len(found), "dead delivery", "dead deliveries")
    if dry_run:
        rows = [{name: getattr(each, name) for name in LISTED} for each in found]
        print_told({"would_cancel": rows}, f"Would cancel {about}.", as_json=as_json)
        if not as_json:
            _print_some(rows)
        return
    _ask(f"Cancel {about}? `replay` puts them back.", len(found), yes=yes)
    operator = Operator(actor=actor())
    if len(found) > 1:
        operator = database.transact(operator.many(about, database.now_ms(), CANCELLED))
    changes = operator.cancel_dead([each.id for each in found], database.now_ms())
    batches = operating.transact_all(database, changes)
    cancelled = _count(batches, len(found), ("cancelling", "cancelled"), silent=as_json)
    words = f"Cancelled {counted(cancelled, 'dead delivery', 'dead deliveries')}."
    print_told({"cancelled": cancelled}, words, as_json=as_json)
