"""What a table is."""

from typing import ClassVar

from peewee import Model

from premblyd.model.columns import PLAIN, Id, Kept


class Table(Model):
    kept: ClassVar[Kept]  # its rows, and what its columns say nothing else of
    id = Id(PLAIN)

    class Meta:
        legacy_table_names = False


class RollUp(Model):
    """A table of counts, kept in the transactions that make what they count: see rollups.py."""

    kept = Kept.EVER

    class Meta:
        legacy_table_names = False
        without_rowid = True
