"""What all stand on: time, words, errors, JSON, privacy, the log, HTTP, files."""

import sys
from typing import cast

# structlog loads rich when it finds it, for tracebacks that no log of ours has: 3 MB of memory.
_found_none = sys.modules.setdefault("rich", cast("object", None)) is None  # type: ignore[arg-type]
import structlog  # noqa: E402, F401

if _found_none:
    del sys.modules["rich"]
