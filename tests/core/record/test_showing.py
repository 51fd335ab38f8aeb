"""What is shown of an event: of its detail, too."""

import json

from premblyd.record import events
from premblyd.store.engine import Database
from tests.support.store import Store


def test_a_name_of_the_body_or_of_a_hidden_column_is_in_no_detail(
    store: Store, record: Database
) -> None:
    for number, (detail, shown) in enumerate(
        [
            ("the record of amina was not found", "the record of ••• was not found"),
            ("the record of AMINA was not found", "the record of ••• was not found"),
            ("not found: yus", "not found: •••"),  # where it was cut
            ("the record was not found", "the record was not found"),
            ("not found: zainab", "not found: •••"),  # a column hides it
        ]
    ):
        body = json.dumps({"n": number, "data": {"name": "Amina Yusuf"}}).encode()
        added = store.add(body=body, detail=detail, reference="ref-2", user_ref="Zainab B")
        found = events.find_event(record, str(added.event_id))
        assert events.masked(record, found).columns["detail"] == shown
