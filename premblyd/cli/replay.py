"""premblyd replay"""

from collections import Counter
from pathlib import Path

import click

from premblyd.cli.common import When, actor, config_option, json_option, now_ms, until_end
from premblyd.cli.printing import console, counted, print_json
from premblyd.errors import PremblydError


@click.command()
@click.argument("event", required=False)
@click.option("--delivery", "delivery_id", type=int, metavar="ID", help="This delivery.")
@click.option("--dead", is_flag=True, help="Every dead delivery.")
@click.option("--action", help="Only deliveries of this action.")
@click.option("--since", "since_ms", type=When(), help="Only of events received since.")
@config_option
@json_option
def replay(
    config_path: Path,
    *,
    event: str | None,
    delivery_id: int | None,
    dead: bool,
    action: str | None,
    since_ms: int | None,
    as_json: bool,
) -> None:
    """EVENT (a number or a key) means all finished deliveries of that event, also those that
    succeeded. So do --action and --since together, of that action since that time. --action and
    --since alone only narrow EVENT and --dead.

    A replayed delivery gets a fresh budget of attempts, and its hook the same webhook-id as before.
    """
    from rich.progress import Progress

    from premblyd import config
    from premblyd.store import audit, database
    from premblyd.store.models import FINISHED
    from premblyd.store.operator import Operator, ReplayFilter

    named = sum((event is not None, delivery_id is not None, dead))
    if named > 1 or (not named and (action is None or since_ms is None)):
        raise click.UsageError(
            "Say what to replay: EVENT, --delivery ID, --dead, or --action with --since."
        )
    settings = config.load(config_path, look_up_secrets=False)
    writing = until_end(database.connect_operator(settings.database_path))
    event_id = None
    if event is not None:
        found = audit.find_event(writing, event)
        if found is None:
            raise PremblydError(f"There is no event {event}. `premblyd events` lists them.")
        event_id = found["id"]
    operator = Operator(writing, actor())
    wanted = operator.find(
        ReplayFilter(
            event_id=event_id,
            delivery_id=delivery_id,
            dead_only=dead,
            action=action,
            since_ms=since_ms,
        )
    )
    if delivery_id is not None and not wanted:
        raise PremblydError(f"There is no delivery {delivery_id}.")
    attempts = {one.name: one.retry.attempts for one in settings.actions}
    finished = [row for row in wanted if row[2] in FINISHED]
    ids = {number: attempts[name] for number, name, _ in finished if name in attempts}
    queued = 0
    out = console(stderr=True)
    silent = as_json or not out.is_terminal
    with Progress(console=out, disable=silent, transient=True) as progress:
        task = progress.add_task("queueing", total=len(ids))
        for count in operator.replay(list(ids), ids, now_ms()):
            queued += count
            progress.advance(task, count)
    gone = Counter(name for _, name, _ in finished if name not in attempts)
    if as_json:
        unfinished = len(wanted) - len(finished)
        print_json({"queued": queued, "unfinished": unfinished, "without_action": dict(gone)})
    else:
        click.echo(f"Queued {counted(queued, 'delivery', 'deliveries')}.")
        if unfinished := len(wanted) - len(finished):
            click.echo(f"Left alone, because pending or running: {unfinished}.")
        for name, count in gone.items():
            click.echo(f"Left alone, because the configuration has no action {name}: {count}.")
    if delivery_id is not None and not queued:
        raise SystemExit(1)
