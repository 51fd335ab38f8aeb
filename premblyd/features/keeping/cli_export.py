"""premblyd person export: writes everything stored about a person into a ZIP."""

from collections.abc import Sequence
from pathlib import Path

import click

from premblyd.cli.caller import actor
from premblyd.cli.common import PRIVATE, database_of, open_to_change, open_to_read, record_options
from premblyd.cli.printing import print_json
from premblyd.features.keeping import personzip
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.personzip import Holdings
from premblyd.ground.errors import PremblydError
from premblyd.ground.newfile import new_file, require_new
from premblyd.ground.words import counted

UNRECORDED = "Nothing is exported, because the export could not be recorded."
MOST_NAMED = 20


@click.command()
@click.option("--user-ref", metavar="U", type=PRIVATE, help="The person with this user_ref.")
@click.option(
    "--reference", metavar="R", type=PRIVATE, help="The person that this reference is about."
)
@click.option("--to", "target", type=click.Path(path_type=Path), help="The new ZIP file.")
@record_options
def export(
    config_path: Path,
    *,
    user_ref: str | None,
    reference: str | None,
    target: Path | None,
    database: str | None,
    as_json: bool,
) -> None:
    """The ZIP has a page to read, the same as JSON, every body and every photo. The export is
    recorded.

    Only you can read the file; it is not encrypted. With `--user-ref -` the value is read from
    standard input: other users of this machine can read arguments.
    """
    if (user_ref is None) == (reference is None):
        raise click.UsageError("Say who: --user-ref U or --reference R.")
    if target is None:
        raise click.UsageError("Say where: --to FILE.")
    place = database_of(config_path, database)
    named = Named.user(user_ref) if user_ref is not None else Named.reference(reference or "")
    require_new(target)
    record = open_to_read(place)
    held = personzip.find(record, named, user_ref or reference or "", record.now_ms())
    try:
        about = f"a person: {counted(len(held.removed_parts), 'event')}"
        recorded = personzip.record_export(open_to_change(place), actor(), held.event_ids, about)
    except PremblydError as error:
        error.args = (f"{UNRECORDED} {error}",)
        raise
    with new_file(target) as out:
        personzip.write(out, record, held, recorded, actor())
    _warn(held)
    if as_json:
        print_json(
            {
                "events": len(held.removed_parts),
                "others": held.others,
                "doubtful_ids": list(held.doubtful_ids),
                "nameless_ids": list(held.nameless_ids),
                "file": str(target),
                "bytes": target.stat().st_size,
            }
        )


def _warn(held: Holdings) -> None:
    notes = ["It names who looked, and has the output of hooks: read it before you hand it out."]
    if held.holds:
        holds = counted(len(held.holds), "legal hold")
        notes.append(f"It mentions {holds}, and the reason: may the person know that?")
    if held.others:
        others = counted(held.others, "event")
        notes.append(f"Not in it: {others} of somebody else, under the same references.")
    if held.doubtful_ids:
        doubtful = counted(len(held.doubtful_ids), "event")
        notes.append(
            f"Not in it: {doubtful} without a user_ref, under references that somebody else has"
            f" too. Check whose they are with `premblyd show`: {_numbers(held.doubtful_ids)}."
        )
    if held.nameless_ids:
        nameless = counted(len(held.nameless_ids), "event")
        notes.append(
            f"{nameless} in it without a user_ref, found by reference alone: a forged webhook may"
            " have put that reference beside this user_ref. Check with `premblyd show`:"
            f" {_numbers(held.nameless_ids)}."
        )
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _numbers(ids: Sequence[int]) -> str:
    more = ", …" if len(ids) > MOST_NAMED else ""
    return ", ".join(map(str, ids[:MOST_NAMED])) + more
