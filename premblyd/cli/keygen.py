"""premblyd keygen"""

from pathlib import Path

import click

from premblyd import vault
from premblyd.cli import json_option
from premblyd.cli.printing import print_told
from premblyd.newfile import new_file


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@json_option
def keygen(file: Path | None, *, as_json: bool) -> None:
    """FILE is made for its owner alone, and never in the place of another: whoever loses a data key
    loses all that is sealed by it. So keep a copy of it where no copy of the database is.

    Without FILE the key is printed.
    """
    text = vault.generate()
    data_key = vault.DataKey.read(text).id
    if file is None:
        print_told({"data_key": data_key, "key": text}, text, as_json=as_json)
        return
    with new_file(file) as new:
        new.write(f"{text}\n".encode())
    words = f"Made {file}: data key {data_key}. Keep a copy of it elsewhere."
    print_told({"data_key": data_key, "file": str(file)}, words, as_json=as_json)
