"""The tests of `order` and `once` run on every engine."""

from tests.support.engines import place

__all__ = ["place"]
