"""What is shown of an event: of its detail, too."""

import json

import pytest

from premblyd.engines.engine import Database
from premblyd.record import events
from tests.support.store import Store

BODY = json.dumps({"data": {"name": "Amina Yusuf"}}).encode()


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("the record of amina was not found", "the record of ••• was not found"),
        ("the record of AMINA was not found", "the record of ••• was not found"),
        ("not found: yus", "not found: •••"),  # where it was cut
        ("the record was not found", "the record was not found"),
        ("not found: zainab", "not found: •••"),  # a column hides it
    ],
)
def test_a_name_of_the_body_or_of_a_hidden_column_is_in_no_detail(
    store: Store, record: Database, detail: str, shown: str
) -> None:
    store.add("crm", body=BODY, detail=detail, reference="ref-2", user_ref="Zainab B")
    assert events.masked(record, events.find_event(record, "2")).columns["detail"] == shown
