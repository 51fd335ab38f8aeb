"""How all but the daemon's own writer and readers reach the database: commands, lists and checks.

The one place that names the engine to them. Another engine is another choice made here.
"""

from peewee import Database

from premblyd.store.sqlite.failures import translated
from premblyd.store.sqlite.opening import connect_operator, connect_read_only
from premblyd.store.sqlite.transaction import transact

__all__ = ["Database", "connect_operator", "connect_read_only", "transact", "translated"]
