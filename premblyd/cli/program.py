"""What the person who runs a command calls this program: in messages that say what to type."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

NAME = "premblyd"


def as_called(text: str) -> str:
    """Return a text with its `premblyd …` as this person types them."""
    called = name()
    return text if called == NAME else text.replace(f"`{NAME} ", f"`{called} ")


def command_as_called(command: str) -> str:
    """Return a command line, perhaps with `sudo`, as this person types it."""
    return re.sub(rf"(^|; |sudo ){NAME} ", rf"\g<1>{name()} ", command)


def name() -> str:
    """Return `premblyd`, or the path by which this process was started where that name alone would
    start another program or none: a virtual environment's, say."""
    started = sys.argv[0]
    if os.sep not in started or Path(started).name != NAME:  # python -m premblyd
        return NAME
    found = shutil.which(NAME)
    is_it = found is not None and os.path.realpath(found) == os.path.realpath(started)
    return NAME if is_it else shlex.quote(started)
