"""What is kept is kept on every engine: these tests run on each, as the store's."""

from tests.store.conftest import place, server

__all__ = ["place", "server"]
