"""The schema of the core and all features."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.ground.errors import (
    SchemaError,
)
from premblyd.ground.privacy import Shape
from premblyd.store import schema
from premblyd.store.columns import PERSONAL, SECRET, Holds, columns
from premblyd.store.schema import TABLES
from premblyd.store.sqlite import opening


def test_the_printed_schema_is_the_one_that_the_models_make() -> None:
    """`python -m premblyd.store.schema` prints it anew."""
    assert Path(schema.__file__).with_suffix(".sql").read_text() == schema.script()


def test_every_column_says_what_it_holds_and_private_ones_are_masked() -> None:
    """None can be added without saying so."""
    for table in TABLES:
        for column in columns(table):
            assert column.holds in Holds, f"{table.__name__}.{column.name}"
            if column.holds is SECRET:
                assert column.shown is Shape.MASKED
    private = {
        f"{table.__name__}.{column.name}"
        for table in TABLES
        for column in columns(table)
        if column.holds is PERSONAL and column.shown is Shape.PLAIN
    }
    assert private == {  # whom people who run premblyd must see
        "Event.remote_ip",
        "Rejection.remote_ip",
        "OperatorAction.actor",
        "OperatorAction.note",
        "ConsoleToken.actor",
        "ConsoleToken.remote_ip",
        *("Hold.actor", "Hold.reason", "Hold.ended_by"),
        *("Erasure.actor", "Erasure.reason", "Pause.reason"),
    }


def test_what_a_feature_lacks_is_made_and_what_one_has_that_is_gone_stays(path: Path) -> None:
    with closing(opening.connect(path)) as other:
        other.execute_sql("DROP TABLE pause")
        other.execute_sql("UPDATE schema_part SET feature = 'gone' WHERE feature = 'pause'")
    opening.require_usable(path)
    with pytest.raises(SchemaError, match=r"lacks the tables of pause\. The daemon makes them"):
        opening.connect_read_only(path)
    assert not opening.prepare(path)
    with closing(opening.connect_read_only(path)) as made:
        assert made.table_exists("pause")
        names = {name for (name,) in made.execute_sql("SELECT feature FROM schema_part")}
    assert names == {"gone", *schema.parts()} - {""}


@pytest.mark.parametrize(
    "opener", [opening.prepare, opening.connect_read_only, opening.require_usable]
)
def test_a_features_schema_of_another_build_is_refused(path: Path, opener: Any) -> None:
    with closing(opening.connect(path)) as other:
        other.execute_sql("UPDATE schema_part SET digest = 'other'")
    with pytest.raises(SchemaError, match="made by another build of premblyd"):
        opener(path)
