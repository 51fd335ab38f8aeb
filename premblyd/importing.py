"""Importing a library without another one that it takes along where that is installed."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def without(library: str) -> Iterator[None]:
    """Have what is imported in this context find no `library`, unless it is there already."""
    modules: dict[str, Any] = sys.modules
    if library in modules:
        yield
        return
    modules[library] = None  # Python's own way to say that there is none
    try:
        yield
    finally:
        del modules[library]
