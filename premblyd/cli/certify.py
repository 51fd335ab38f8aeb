"""premblyd certify: the certificate of completeness of a day, made, kept and printed."""

import asyncio
import sys
from pathlib import Path
from typing import NamedTuple

import click

from premblyd import times, words
from premblyd.cli import as_service, config_option, json_option
from premblyd.cli.caller import actor
from premblyd.cli.common import Typed, database_of, open_to_change
from premblyd.cli.printing import (
    Column,
    bold,
    print_sentence,
    print_table,
    progress,
    showing,
)
from premblyd.config.load import load_config
from premblyd.config.models import Config
from premblyd.engines.engine import Database
from premblyd.errors import NotAllowedToAskError
from premblyd.logs import output
from premblyd.record.certificates import making, page, stored
from premblyd.record.certificates.certificate import Certificate, CertificateDigests
from premblyd.record.certificates.stored import StoredCertificate
from premblyd.record.certificates.summary import TITLE, facts
from premblyd.record.operating import Operator
from premblyd.times import DAY_MS, Clock

LOOKED_FOR = ("In log", "In record", "Missing", "Unsettled", "Events")


class Day(NamedTuple):
    """A day of UTC that somebody typed, by its beginning."""

    ms: int

    def __str__(self) -> str:
        return times.day(self.ms)


def _day(text: str) -> Day:
    try:
        at_ms = times.from_iso(text) if len(text) == len("2026-01-31") else -1
    except (ValueError, OverflowError):
        at_ms = -1
    if at_ms < 0 or at_ms % DAY_MS:
        raise ValueError("no day such as 2026-01-31")
    return Day(at_ms)


@click.command()
@click.option(
    "--day", "day", type=Typed("D", _day), help="2026-01-31, in UTC (default: yesterday)."
)
@click.option("--html", "as_html", is_flag=True, help="Print it as a page to print: > FILE.")
@click.option(
    "--auditor-key",
    is_flag=True,
    help="Make none: print the key of the digests. It is recorded that you took it.",
)
@config_option
@json_option
def certify(
    config_path: Path, *, day: Day | None, as_html: bool, auditor_key: bool, as_json: bool
) -> None:
    """Prembly's log of a day of UTC is read and compared with the record: what is missing, is not
    settled, was acted upon, was not confirmed, was erased. References are in it as keyed digests.
    What it says in numbers is kept, and the console shows it.

    It is complete only if the log was read to its end, the day is over, `retention` has removed
    nothing of it, and nothing is missing or unsettled. Else it says why not. Of a day of which the
    log has nothing there is nothing to compare.

    Exit status 1: it is not complete. 75: Prembly could not be reached. 78: it refuses the API key.
    """
    if as_json + as_html + auditor_key > 1 or (auditor_key and day is not None):
        raise click.UsageError("--json, --html and --auditor-key go one at a time.")
    if auditor_key:
        _print_key(open_to_change(database_of(config_path)))
        return
    as_service.hand_over(config_path)
    settings = load_config(config_path, look_up_secrets=True)
    if settings.prembly is None or settings.prembly.api_key is None:
        raise NotAllowedToAskError(None)
    database = open_to_change(settings.database)
    clock = database.clock()
    certificate, own = made(
        settings, database, _chosen(day, clock.now_ms()), clock, silent=as_json or as_html
    )
    if as_json:
        for line in certificate.as_json(own):
            sys.stdout.buffer.write(line)
    elif as_html:
        for piece in page.pieces(certificate, own):
            click.echo(piece, nl=False)
    else:
        _report(certificate, own)
    if certificate.stopped_by is not None:
        raise certificate.stopped_by
    if certificate.summary.reasons:
        raise SystemExit(1)


def made(
    settings: Config, database: Database, day_ms: int, clock: Clock, *, silent: bool
) -> tuple[Certificate, StoredCertificate]:
    """Make the certificate of a day, and keep it."""
    output.configure("auto", "critical")  # what went wrong is told in this command's words
    with progress(silent=silent) as shown:
        making_it = making.make(settings, database, day_ms, clock=clock, show=showing(shown))
        certificate = asyncio.run(making_it)
    return certificate, stored.store(database, certificate.summary, actor())


def _chosen(day: Day | None, now_ms: int) -> int:
    today_ms = now_ms // DAY_MS * DAY_MS
    if day is not None and day.ms > today_ms:
        raise click.UsageError("--day is still to come.")
    return today_ms - DAY_MS if day is None else day.ms


def _print_key(database: Database) -> None:
    digests = CertificateDigests.of(database)
    about = "the key of the digests in certificates"
    database.transact(Operator(actor=actor()).export(about, database.now_ms()))
    click.echo(digests.key.hex())


def _report(certificate: Certificate, own: StoredCertificate) -> None:
    summary = certificate.summary
    click.echo(bold(f"{TITLE}, {summary.day}"))
    print_sentence(page.made(summary, own))
    print_sentence(summary.statement)
    for each in summary.reasons:
        print_sentence(f"- {each.words}")
    if {"missing", "unsettled"} & {each.reason for each in summary.reasons}:
        until = times.day(summary.until_ms)
        asking = f"premblyd reconcile --since {summary.day} --until {until} --store"
        print_sentence(f"`{asking}` asks Prembly for it. Then certify again.")
    for fact in facts(summary):
        print_sentence(fact)
    for title, heads, rows in page.tables(summary):
        click.echo(f"\n{title}:")
        # What is none of all has no column, save what everybody looks for.
        shown = [
            place
            for place in range(len(heads))
            if place == 0 or heads[place] in LOOKED_FOR or any(row[place] for row in rows)
        ]
        columns = [Column(name=heads[place], kind="whole", rank=place) for place in shown]
        cells = [[_cell(row[place]) for place in shown] for row in rows]
        print_table(columns, cells, empty="None.")
    click.echo("\n--json has a digest of each verification; --html is a page to print.")


def _cell(value: object) -> str:
    return value if isinstance(value, str) else words.number(value)
