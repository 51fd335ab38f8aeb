"""What is logged, kept instead of printed; and logging as it was before a test set it up."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import structlog.testing
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.typing import EventDict

Lines = list[EventDict]


def log_plainly() -> None:
    """Print what is logged as structlog does by default, but tracebacks as Python's are: the rich
    ones, with all variables, take a fifth of a second each."""
    structlog.reset_defaults()
    *others, _ = structlog.get_config()["processors"]
    renderer = ConsoleRenderer(colors=False, exception_formatter=plain_traceback)
    structlog.configure(processors=[*others, renderer])


@contextmanager
def logged() -> Iterator[Lines]:
    """Yield the list of what is logged meanwhile."""
    with structlog.testing.capture_logs() as lines:
        yield lines


FOREIGN = ("tornado.access", "tornado.application", "tornado.general", "peewee", "asyncio")


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Undo afterwards what a command did to the logging of this process: others would log nothing
    that is less than critical."""
    loggers = [logging.getLogger(name) for name in ("", *FOREIGN)]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    own = structlog.get_config()
    try:
        yield
    finally:
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers = handlers
        structlog.configure(**own)
