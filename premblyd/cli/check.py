"""premblyd init and check: a configuration file, written and looked through.

What `check` says of features they have in their shown.py, as functions: of the configuration what
applies (PROMISES, and in KEYS for programs) and what is probably not meant (WARNINGS); and of what
the record reminds (REMINDERS).
"""

import contextlib
import dataclasses
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from premblyd import feature, presence
from premblyd.cli import as_service, config_option, json_option
from premblyd.cli.printing import print_json, print_table
from premblyd.config.hooks import lacks_program
from premblyd.config.keys import InitOption
from premblyd.config.load import load_config
from premblyd.config.models import Action, Config
from premblyd.config.routing import Routing
from premblyd.config.values import Listen
from premblyd.feature import added
from premblyd.ground import times
from premblyd.ground.errors import CannotStartError, ConfigError, LacksRightsError, PremblydError
from premblyd.presence import Presence
from premblyd.receive import listening
from premblyd.record import troubles
from premblyd.record.told import Checked, Situation
from premblyd.store.connections import backend, connect_read_only

NEXT = """\
Wrote {path}. Before the first start:
- Put your Prembly key into the file {key}
  (paste it, Enter, Ctrl-D): install -D -m 0600 /dev/stdin {quoted_key}
- Without systemd, set `database` to a path that you may write, such as
  sqlite:///premblyd.db, which is beside the configuration.
- Say under `actions` what should happen.
Then:
  premblyd check --config {quoted}
  premblyd serve --config {quoted}
To use it for every command: export PREMBLYD_CONFIG={whole}"""

# What features add within the core's sample, and before which of its lines.
_ADDED = {"keys": "#     # attempts counts", "actions": "\n# Below is what few need"}
NOT_JUDGED = "`sudo premblyd check` also checks whether the service can start."
REMINDED_MS = 30 * times.DAY_MS  # what is older was lived with


def _options() -> Iterator[InitOption]:
    return added("settings", "INIT_OPTIONS")


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for each in _options():
        command = click.option(f"--{each.name}", is_flag=True, help=each.help)(command)
    return command


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@_with_options
def init(folder: Path, **chosen: bool) -> None:
    """Writes DIR/premblyd.yaml (default: here). An existing file is never overwritten."""
    path = folder / "premblyd.yaml"
    options = [each for each in _options() if chosen[each.name]]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for option in options:
            click.echo(option.make(folder))
        with path.open("x", encoding="utf-8") as file:
            path.chmod(0o640)  # keys may be put into it
            text = _sample()
            for line in (line for option in options for line in option.lines):
                text = text.replace(line, line.removeprefix("# "))
            file.write(text)
    except FileExistsError:
        if not folder.is_dir():
            raise PremblydError(f"{folder} is a file, not a folder.") from None
        told = f"{path} already exists; it was not changed."
        raise PremblydError(" ".join([told, *(each.by_hand for each in options)])) from None
    except PermissionError as error:
        raise LacksRightsError(f"Can't write {path}: {error.strerror}") from None
    except OSError as error:
        raise PremblydError(f"Can't write {path}: {error.strerror}") from None
    key = folder / "credentials" / "prembly-live-key"
    quoted = {"quoted": path, "quoted_key": key, "whole": path.absolute()}
    words = {name: shlex.quote(str(each)) for name, each in quoted.items()}
    click.echo(NEXT.format(path=path, key=key, **words))


def _sample() -> str:
    """Return the sample configuration: the core's, with what features add. In a feature's file a
    line says what follows: `## keys`, of an action; `## actions`; or `## sections`."""
    text = Path(__file__).with_name("sample.yaml").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {"keys": [], "actions": [], "sections": []}
    for each in feature.texts("sample.yaml"):
        for what, lines in re.findall(r"^## (\w+)\n((?:(?!## ).*\n)*)", each, re.MULTILINE):
            found[what].append(lines)
    for what, behind in _ADDED.items():
        text = text.replace(behind, "".join(found[what]) + behind)
    return "\n".join([text, *found["sections"]])


@click.command()
@config_option
@click.option(
    "--quiet", is_flag=True, help="Print only problems (as a reload of the service does)."
)
@json_option
def check(config_path: Path, *, quiet: bool, as_json: bool) -> None:
    """Lists all problems at once, as FILE:LINE:COLUMN: MESSAGE. What a start needs, the database
    and the ports, is tried too.

    If a daemon runs, warnings say which changes of the configuration it does not use yet. Root
    checks the installed service's configuration as the service would read it now.
    """
    as_service.hand_over(config_path, sees_daemon=True)
    try:
        settings = load_config(config_path)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [dataclasses.asdict(problem) for problem in error.problems]
        print_json({"ok": False, "problems": problems})
        raise SystemExit(error.exit_code) from None
    if quiet and not as_service.may_judge(config_path):
        return
    daemon, line = _running(settings, config_path)
    inspected = backend(settings.database).inspect()
    gets_sockets = as_service.has_socket() or (daemon and daemon.has_passed_sockets)
    obstacles = [*inspected.obstacles]
    if not gets_sockets:
        obstacles += taken(settings.listen, daemon)
    if not as_service.may_judge(config_path):
        line, obstacles = f"{line}\n{NOT_JUDGED}", []
    told = [f"the daemon can't start: {obstacle}" for obstacle in obstacles]
    if quiet:
        for each in told:
            click.echo(each, err=True)
        raise SystemExit(CannotStartError.exit_code if told else 0)
    routes = _routes(settings)
    looked = Checked(
        settings=settings,
        path=config_path,
        taken=lambda where: taken(where, daemon),
    )
    warnings = [each for ask in added("shown", "WARNINGS") for each in ask(looked)]
    for action in settings.actions:
        warnings += lacks_program(f"action {action.name}", action.hook)
    if daemon is not None:
        warnings += daemon.differences(settings, config_path)
    warnings += [*inspected.warnings, *reminders(settings), *told]
    if as_json:
        names = ("pid", "version", "started_at_ms", "configuration", "database", "listen")
        print_json(
            {
                "ok": not told,
                "actions_by_response_code": dict(routes),
                "warnings": warnings,
                "database": list(inspected.facts),
                "daemon": daemon and {name: getattr(daemon, name) for name in names},
            }
            | {key: told for ask in added("shown", "KEYS") for key, told in ask(settings).items()}
        )
    else:
        _print(settings, config_path, routes, [*inspected.facts, line], warnings)
    if told:
        raise SystemExit(CannotStartError.exit_code)


def _print(
    settings: Config,
    config_path: Path,
    routes: Sequence[tuple[str, Sequence[str]]],
    facts: Sequence[str],
    warnings: Sequence[str],
) -> None:
    endpoints = ", ".join(
        f"{endpoint.name} ({', '.join(form.scheme for form in endpoint.forms)},"
        f" keys: {', '.join(endpoint.keys)})"
        for endpoint in settings.endpoints
    )
    click.echo(f"{config_path} is valid.")
    click.echo(f"Listens on {settings.listen}; endpoints: {endpoints}\n")
    rows = [(code, ", ".join(names) or "none: stored only") for code, names in routes]
    print_table(("code", "actions"), rows, empty="")
    if promises := [each for ask in added("shown", "PROMISES") for each in ask(settings)]:
        click.echo("\n" + "\n".join(promises))
    click.echo("\n" + "\n".join(facts))
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def taken(where: Listen, daemon: Presence | None) -> list[str]:
    """Return why nobody can listen there, if so, once the daemon that runs has ended."""
    if daemon is not None and daemon.frees(where):
        return []
    reason = listening.why_not(where)
    return [reason] if reason else []


def _routes(settings: Config) -> list[tuple[str, list[str]]]:
    """Return which actions each response code chooses; `types`, `when` and `confirm` are shown, not
    decided."""
    routing = Routing(settings.actions)

    def names(code: str | None) -> list[str]:
        return [f"{action.name}{_narrowed(action)}" for action in routing.actions_for_code(code)]

    routes = [(code, names(code)) for code in sorted(routing.named_codes)]
    return [*routes, ("any other", names("\0")), ("missing", names(None))]


def _narrowed(action: Action) -> str:
    """Return in brackets the conditions of an action other than its codes."""
    parts = [] if action.types == ("*",) else [f"types {', '.join(action.types)}"]
    if action.when:
        parts.append(f"when {action.when.text}")
    parts += [key.told for key in added("settings", "ACTION_KEYS") if key.told and key.of(action)]
    return f" ({'; '.join(parts)})" if parts else ""


def _running(settings: Config, config_path: Path) -> tuple[Presence | None, str]:
    """Return the daemon that runs on the configuration's database, and a line about it."""
    daemon = presence.find(settings.database, config_path)
    if daemon is None:
        return None, f"No daemon runs on {settings.database}."
    since, addresses = times.for_people(daemon.started_at_ms), ", ".join(daemon.listen)
    return (
        daemon,
        f"A daemon runs on it: pid {daemon.pid}, version {daemon.version}, since {since} UTC,"
        f" listens on {addresses}.",
    )


def reminders(settings: Config) -> Iterator[str]:
    """Yield what the record of `settings` reminds of; nothing where it can't be read."""
    with (
        contextlib.suppress(PremblydError),  # no database yet, or none that this user may read
        contextlib.closing(connect_read_only(settings.database)) as database,
    ):
        at_ms = database.now_ms()
        situation = Situation(record=database, now_ms=at_ms, for_ms=REMINDED_MS, settings=settings)
        for item in troubles.reminders(situation):
            yield f"{item.text} {item.remedy} `{item.command}`"
        for ask in added("shown", "REMINDERS"):
            yield from ask(situation)
