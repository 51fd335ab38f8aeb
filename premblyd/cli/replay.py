"""premblyd replay and cancel: queue deliveries again, or dismiss them."""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click

from premblyd.cli import config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import ROW_ID, database_of, open_to_change, settings_if_valid
from premblyd.cli.lists import chosen_by, filter_options
from premblyd.cli.printing import print_json, print_sentence, print_table, print_told, progress
from premblyd.config.load import load_config
from premblyd.feature import added
from premblyd.ground.errors import PremblydError
from premblyd.ground.words import counted
from premblyd.record import operating, replays
from premblyd.record.filters import DeliveryFilter
from premblyd.record.operating import CANCELLED, ONLY_SOME, Operator
from premblyd.record.replays import Plan
from premblyd.record.told import Told
from premblyd.store.engine import Database

ASK_ABOVE = 20
DRY_RUN_LINES = 50
NARROWING = ("action", "type", "since_ms", "until_ms", "error")
F = TypeVar("F", bound=Callable[..., Any])


def _veto_options(command: F) -> F:
    """Add the options that take what a replay leaves out without them."""
    for veto in replays.vetoes():
        if veto.option:
            command = click.option(f"--{veto.name}", is_flag=True, help=veto.option)(command)
    return command


@click.command()
@click.argument("event", required=False)
@click.option("--delivery", "delivery_id", type=ROW_ID, help="Replay this delivery.")
@click.option("--dead", "is_dead", is_flag=True, help="Replay every dead delivery.")
@click.option("--pending", "is_pending", is_flag=True, help="Retry pending deliveries now.")
@filter_options(DeliveryFilter, *NARROWING)
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
    - --new with --action A, and EVENT or --since T: for an action that is newer than the events.
      Each that matches it and has no delivery of it gets one.

    --action, --type, --since, --until and --error narrow what these choose.

    A replayed delivery gets all its attempts again, and its hook the same webhook-id as before.
    With --pending only the attempts that are left. What must not run again is left alone, and
    printed with the reason.
    """
    allowed = {veto.name for veto in replays.vetoes() if selection.pop(veto.name, False)}
    action, delivery_id, since = (selection[each] for each in ("action", "delivery_id", "since_ms"))
    is_single = event is not None or delivery_id is not None
    if not (is_single or is_dead or is_pending or (action and since)):
        raise click.UsageError(
            "Say what to replay: EVENT, --delivery ID, --dead, --pending, or --action with --since."
        )
    if is_dead + is_pending + is_new + (delivery_id is not None) > 1 or (event and delivery_id):
        raise click.UsageError(
            "EVENT and --delivery, or --delivery, --dead, --pending and --new don't go together."
        )
    narrows = any(selection[each] for each in ("type", "until_ms", "error"))
    if is_new and (narrows or not (action and (event or since))):
        raise click.UsageError("--new needs --action, and EVENT or --since, and nothing else.")
    settings = load_config(config_path, look_up_secrets=False)
    database = open_to_change(settings.database)
    selection["event_id"] = event
    selection["state"] = "pending" if is_pending else "dead" if is_dead else None
    chosen = chosen_by(DeliveryFilter, database, selection)
    request = replays.Request(chosen=chosen, is_new=is_new, allowed=allowed)
    plan = replays.plan(database, settings, request)
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
    _report(plan, "Queued", queued, {"queued": queued, **values} if as_json else None)
    for sentence in () if as_json else chain(*(each.sentences for each in told)):
        print_sentence(sentence)
    if is_single and not queued:
        raise SystemExit(1)


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


def _report(plan: Plan, words: str, count: int, exact: dict[str, Any] | None) -> None:
    """Print what is queued and what is left alone: for programs `exact` and that."""
    if exact is not None:
        print_json({**exact, "left_alone": plan.left})
        return
    click.echo(f"{words} {counted(count, 'delivery', 'deliveries')}.")
    for why, left in plan.left.items():
        print_sentence(f"Left alone: {left:,}, because {why}.")


def _print_plan(plan: Plan, as_json: bool) -> None:
    rows = [dataclasses.asdict(found) for found in (*plan.finished, *plan.pending)]
    if plan.action:
        new = {"id": None, "action": plan.action.name, "state": "new"}
        rows += [new | {"event_id": event_id} for event_id in plan.new_for]
    _report(plan, "Would queue", len(plan), {"would_queue": rows} if as_json else None)
    if rows and not as_json:
        names = ("id", "event_id", "action", "state")
        listed = [[row[name] for name in names] for row in rows[:DRY_RUN_LINES]]
        print_table(names, listed, empty="")
    if len(rows) > DRY_RUN_LINES and not as_json:
        click.echo(f"… and {len(rows) - DRY_RUN_LINES} more; --json lists all.")


@click.command()
@click.option("--delivery", "delivery_id", type=ROW_ID, help="Cancel this delivery.")
@click.option("--dead", "is_dead", is_flag=True, help="Cancel every dead delivery.")
@filter_options(DeliveryFilter, *NARROWING)
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
@config_option
@json_option
def cancel(
    config_path: Path,
    *,
    delivery_id: int | None,
    is_dead: bool,
    yes: bool,
    as_json: bool,
    **selection: Any,
) -> None:
    """--delivery: a pending or dead one. A delivery whose hook is running can't be cancelled.

    --dead: the dead ones that will not be retried, as `premblyd deliveries --state dead` lists
    them; --action, --type, --since, --until and --error narrow them. `status` stops listing them,
    and what waits behind them runs. They stay on record.

    `replay` puts a cancelled one back.
    """
    if (delivery_id is None) is not is_dead:
        raise click.UsageError("Say what to cancel: --delivery ID, or --dead.")
    if delivery_id is not None and any(selection.values()):
        raise click.UsageError("--delivery can't be combined with the others: they narrow --dead.")
    database = open_to_change(database_of(config_path))
    if delivery_id is None:
        if selection["action"]:
            settings = settings_if_valid(config_path)
            replays.require_action(database, settings, selection["action"])
        chosen = chosen_by(DeliveryFilter, database, {**selection, "state": "dead"})
        _cancel_dead(database, chosen, yes=yes, as_json=as_json)
        return
    if database.transact(Operator(actor=actor()).cancel(delivery_id, database.now_ms())):
        print_told({"cancelled": 1}, f"Cancelled delivery {delivery_id}.", as_json=as_json)
        return
    found = replays.find_delivery(database, delivery_id)
    raise PremblydError(f"Delivery {delivery_id}: {found.state}; {ONLY_SOME}.")


def _cancel_dead(database: Database, chosen: DeliveryFilter, *, yes: bool, as_json: bool) -> None:
    found = replays.find_deliveries(database, chosen)
    about = counted(len(found), "dead delivery", "dead deliveries")
    _ask(f"Cancel {about}? `replay` puts them back.", len(found), yes=yes)
    operator = Operator(actor=actor())
    if len(found) > 1:
        operator = database.transact(operator.many(about, database.now_ms(), CANCELLED))
    changes = operator.cancel_dead([each.id for each in found], database.now_ms())
    batches = operating.transact_all(database, changes)
    cancelled = _count(batches, len(found), ("cancelling", "cancelled"), silent=as_json)
    words = f"Cancelled {counted(cancelled, 'dead delivery', 'dead deliveries')}."
    print_told({"cancelled": cancelled}, words, as_json=as_json)
