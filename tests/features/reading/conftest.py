"""The readers' tests run on every engine."""

from tests.support.engines import place

__all__ = ["place"]
