"""premblyd explain, premblyd try and premblyd rehearse"""

import asyncio
import dataclasses
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import starmap
from pathlib import Path
from typing import IO, Any

import click

from premblyd.cli import as_service, config_option, json_option
from premblyd.cli.common import WHEN, database_of, open_to_read, record_options
from premblyd.cli.printing import (
    Column,
    bold,
    clean,
    print_json,
    print_rows,
    print_sentence,
    progress,
)
from premblyd.config.hooks import Hook
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.config.values import When
from premblyd.features.tryout import explaining
from premblyd.features.tryout.cli_send import sender_options
from premblyd.features.tryout.explaining import Explanation, named
from premblyd.features.tryout.rehearsal import Compared, Difference
from premblyd.features.tryout.rehearsal import rehearse as play
from premblyd.ground import logs, times
from premblyd.ground.system import hide_this_process
from premblyd.ground.words import counted, number
from premblyd.queue.jobs import Result
from premblyd.run.kinds import Invocation, Runners
from premblyd.run.process import Children


@click.command()
@click.argument("file", type=click.File("rb"))
@sender_options
@config_option
@json_option
def explain(
    config_path: Path,
    *,
    file: IO[bytes],
    endpoint_name: str | None,
    key_name: str | None,
    as_json: bool,
) -> None:
    """FILE holds a webhook's body; - is standard input. Nothing is started, sent or stored.

    Secrets are masked; the numbers of the event and delivery are 0 here.
    """
    settings = load_config(config_path, look_up_secrets=False)
    webhook = explaining.webhook_of(
        settings, file.read(), times.now_ms(), endpoint_name=endpoint_name, key_name=key_name
    )
    shown = explaining.explain(settings, webhook)
    if as_json:
        print_json(shown.as_json())
    else:
        _print(shown)


def _print(shown: Explanation) -> None:
    click.echo(f"{bold('Verdict')} (endpoint {shown.endpoint})")
    for name, value in shown.verdict.items():
        empty = "missing" if name == "response_code" else "-"
        click.echo(f"  {name:<20} {empty if value in (None, '') else clean(value)}")
    if not shown.runs:
        click.echo("\nNo action: the event would be stored, and nothing would run.")
    for action, facts in shown.runs.items():
        click.echo(f"\n{bold(action)}")
        for line in _lines(facts):
            click.echo(f"  {clean(line)}")
    if shown.runs_not:
        click.echo(f"\n{bold('Would not run')}")
    for action, reason in shown.runs_not.items():
        click.echo(f"  {action}: {clean(reason)}")


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """Yield what a hook would do, for people."""
    for name, value in facts.items():
        match value:
            case dict():
                yield from (f"{key}={each}" for key, each in value.items())
            case list():
                yield f"{name}:"
                yield from (f"  {each}" for each in value)
            case _:
                yield from f"{name}: {value}".splitlines()


@click.command("try")
@click.argument("action")
@click.argument("file", type=click.File("rb"))
@sender_options
@config_option
@json_option
def try_(
    config_path: Path,
    *,
    action: str,
    file: IO[bytes],
    endpoint_name: str | None,
    key_name: str | None,
    as_json: bool,
) -> None:
    """Runs the hook of ACTION once, for the webhook body in FILE (- is standard input). It really
    runs: as you, or for root as the service would run it. Prembly is not asked, even with
    `confirm`. Nothing is stored, and nothing is retried.

    Exit status 0: it succeeded. 1: it failed.
    """
    # Not as root: as the service runs it, with its keys and its sandbox.
    as_service.hand_over(config_path, file)
    hide_this_process()
    logs.configure("auto", "critical")  # this command says itself what became of it
    settings = load_config(config_path)
    now_ms = times.now_ms()
    own = named("action", action, {each.name: each for each in settings.actions})
    webhook = explaining.webhook_of(
        settings, file.read(), now_ms, endpoint_name=endpoint_name, key_name=key_name
    )
    if (why_not := Routing(settings.actions).why_not(own, webhook)) is not None:
        click.echo(f"note: the daemon would not run it for this: {why_not}", err=True)
    result = asyncio.run(_run(settings, own.hook, explaining.invocation_of(own, webhook)))
    _print_result(action, result, times.now_ms() - now_ms, as_json=as_json)
    raise SystemExit(0 if result.outcome == "succeeded" else 1)


async def _run(settings: Config, hook: Hook, invocation: Invocation) -> Result:
    runners = Runners(Children())
    try:
        runners.configure(settings)
        return await runners.run(hook, invocation)
    finally:
        runners.interrupt()  # at Ctrl-C: what still runs is ended, and not waited for
        runners.close()


def _print_result(name: str, result: Result, took_ms: int, *, as_json: bool) -> None:
    if as_json:
        shown = dataclasses.asdict(result)
        names = "outcome exit_code http_status error output output_truncated".split()
        print_json({"name": name, **{each: shown[each] for each in names}, "duration_ms": took_ms})
        return
    error = f": {result.error}" if result.error else ""
    answer = f" (HTTP {result.http_status})" if result.http_status and not error else ""
    click.echo(clean(f"{name} {result.outcome} after {took_ms} ms{error}{answer}"))
    for line in (result.output or "").splitlines():
        click.echo(f"  | {clean(line)}")
    if result.output_truncated:
        click.echo("  | … the rest was not kept")


DEFAULT = When.read("30d")
DIFFERS = 3
MOST_SHOWN = 8  # numbers of a figure
MOST_FIGURES = 1000  # who sends webhooks may make up types and codes
WORDS = {
    Difference.NONE: "same",
    Difference.MORE: "more",
    Difference.FEWER: "fewer",
    Difference.UNSAID: "can't say",
}


def _column(of: Difference, words: str) -> Column:
    return Column(words, lambda row: number(row[1][of]), kind="whole")


COLUMNS = (Column("action", lambda row: row[0]), *starmap(_column, WORDS.items()))


@click.command()
@click.argument("new", metavar="NEW.yaml", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--since",
    type=WHEN,
    default=DEFAULT.text,
    show_default=True,
    help="The events from then on: 2026-01-31, 12h, 30d.",
)
@record_options
def rehearse(
    config_path: Path, *, new: Path, since: When, database: str | None, as_json: bool
) -> None:
    """Shows for which events more or fewer actions would have been chosen with NEW.yaml. Nothing is
    run, sent or stored, and no hook's secret is read.

    It compares with the recorded deliveries. "Can't say": the event's body is gone, and `when`
    looks at it.

    Exit status 0: nothing differs. 3: something differs, or can't be said. 78: NEW.yaml has
    mistakes.
    """
    settings = load_config(new, look_up_secrets=False)
    record = open_to_read(database_of(config_path, database))
    since_ms = since.by(record.now_ms())
    figures = _Figures()
    with progress(silent=as_json) as bar:
        task = bar.add_task("Rehearsing", total=None)
        for compared in play(record, settings, since_ms):
            figures.add(compared)
            bar.update(task, completed=figures.events)
    if as_json:
        print_json({"new": str(new), "since_ms": since_ms, **figures.as_json()})
    else:
        _print_rehearsal(figures, new, since_ms, settings)
    raise SystemExit(DIFFERS if figures.ids else 0)


class _Figures:
    """What a rehearsal yields: how many events, how often each difference, and for each one and
    reason the events."""

    def __init__(self) -> None:
        self.events = 0
        self.by_action: dict[str, Counter[Difference]] = {}
        self.ids: dict[tuple[str, Difference, str], array[int]] = {}

    def add(self, compared: Sequence[Compared]) -> None:
        self.events += 1
        for each in compared:
            self.by_action.setdefault(each.action, Counter())[each.difference] += 1
            if each.difference is not Difference.NONE:
                of = (each.action, each.difference, each.why)
                if of not in self.ids and len(self.ids) >= MOST_FIGURES:
                    of = (each.action, each.difference, "")
                self.ids.setdefault(of, array("Q")).append(each.event_id)

    def as_json(self) -> dict[str, Any]:
        return {
            "events": self.events,
            "actions": [
                {"action": name, **{each.value: counts[each] for each in Difference}}
                for name, counts in self.by_action.items()
            ],
            "differences": [
                {"action": action, "difference": of, "why": why, "event_ids": ids.tolist()}
                for (action, of, why), ids in self.ids.items()
            ],
        }


def _print_rehearsal(figures: _Figures, new: Path, since_ms: int, settings: Config) -> None:
    since = times.for_people(since_ms)[:-3]
    told = f"{counted(figures.events, 'event')} since {since} UTC, with {clean(new.name)}:"
    click.echo(f"{bold(told)}\n")
    configured = [action.name for action in settings.actions]
    names = dict.fromkeys([*configured, *sorted(figures.by_action)])
    rows = [(name, figures.by_action.get(name, Counter())) for name in names]
    print_rows(COLUMNS, rows, empty="No action is configured, and none has run.")
    for name in names:
        own = [(of, ids) for of, ids in figures.ids.items() if of[0] == name]
        if own:
            click.echo(f"\n{bold(clean(name))}")
        for (_, difference, why), ids in own:
            more = len(ids) - MOST_SHOWN
            shown = ", ".join(map(str, ids[:MOST_SHOWN])) + (
                f" and {more} more" if more > 0 else ""
            )
            because = f": {clean(why)}" if why else ""
            print_sentence(f"{number(len(ids))} {WORDS[difference]}{because}; events {shown}")
    click.echo("\nNothing was run, sent or stored.")
