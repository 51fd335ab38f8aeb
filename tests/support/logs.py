"""What is logged, kept instead of printed; and logging as it was before a test set it up."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog.testing
from structlog.typing import EventDict


@contextmanager
def logged() -> Iterator[list[EventDict]]:
    """Yield the list of what is logged meanwhile."""
    with structlog.testing.capture_logs() as lines:
        yield lines


FOREIGN = ("tornado.access", "tornado.application", "tornado.application", "peewee", "asyncio")


@contextmanager
def logging_as_before() -> Iterator[None]:
    """Undo afterwards what a command did to the logging of this process."""
    loggers = [logging.getLogger(name) for name in ("", *FOREIGN)]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers
    structlog.reset_defaults()
