"""premblyd init"""

import shlex
from pathlib import Path

import click

from premblyd.cli import program
from premblyd.errors import LacksRightsError, PremblydError

TEMPLATE = Path(__file__).parent / "premblyd.yaml"
NEXT = """\
Wrote {path}. Before the first start:
- Put your Prembly key into the file {key}
- Without systemd, set `database` to a path that you may write, such as
  sqlite:///premblyd.db, which is beside the configuration.
- Say under `actions` what shall happen.
Then:
  {premblyd} check --config {quoted}
  {premblyd} serve --config {quoted}"""


@click.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Writes DIR/premblyd.yaml (default: here) and never overwrites one."""
    path = folder / "premblyd.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            path.chmod(0o640)  # keys may be put into it
            file.write(TEMPLATE.read_text(encoding="utf-8"))
    except FileExistsError:
        if not folder.is_dir():
            raise PremblydError(f"{folder} is a file, and no folder.") from None
        raise PremblydError(f"{path} exists already; it was left as it is.") from None
    except PermissionError as error:
        raise LacksRightsError(f"Can't write {path}: {error.strerror}") from None
    except OSError as error:
        raise PremblydError(f"Can't write {path}: {error.strerror}") from None
    key = folder / "credentials" / "prembly-live-key"
    quoted = shlex.quote(str(path))
    click.echo(NEXT.format(path=path, quoted=quoted, key=key, premblyd=program.name()))
