"""What holds of `once`, of `order` and of what is awaited where names are in clear holds where they
are sealed: the same tests, on a store that seals them."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from premblyd.databases import DatabaseAddress
from premblyd.engines.connections import connect_read_only
from premblyd.record import queries
from premblyd.vault import DataKey, Vault
from premblyd.verifications.pseudonyms import is_pseudonym
from tests.store import test_awaited as awaited
from tests.store import test_hosts_arrive as arriving
from tests.store import test_hosts_order as ordering
from tests.store import test_once_model as once_model
from tests.store import test_order_model as order_model
from tests.store.conftest import hosts
from tests.support.sealing import KEY
from tests.support.store import Store, store_at

__all__ = ["hosts"]


NAMES = Vault(DataKey.read(KEY), seals_names=True)


@pytest.fixture
def store(place: DatabaseAddress, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that seals names. Its rows have them, as who has the key sees them."""
    with store_at(place, NAMES) as store, closing(connect_read_only(place, NAMES)) as reading:
        stored = store.rows

        def rows(sql: str, *values: Any) -> list[tuple[Any, ...]]:
            found = stored(sql, *values)
            sealed = {each for row in found for each in row if is_pseudonym(each)}
            known = queries.originals(reading, sealed) if sealed else {}
            return [tuple(known.get(each, each) for each in row) for row in found]

        monkeypatch.setattr(store, "rows", rows)
        yield store


test_once = once_model.test_any_schedule_goes_as_the_model_says
test_order = order_model.test_any_schedule_goes_as_the_model_says
test_lines_at_once = ordering.test_hosts_that_add_to_the_same_lines_at_once_keep_one_order
test_ends_at_once = (
    ordering.test_when_two_beside_each_other_end_at_once_the_third_does_not_wait_for_ever
)
test_settled_at_once = (
    arriving.test_a_pending_and_its_result_that_come_to_two_hosts_at_once_are_settled
)
test_awaited_at_once = (
    arriving.test_a_verification_that_two_hosts_find_pending_at_once_is_awaited_once
)
test_answered_at_once = arriving.test_an_answer_that_all_hosts_get_at_once_is_one_event
test_awaited_once = awaited.test_a_verification_is_awaited_once
test_settled_in_any_order = awaited.test_a_webhook_settles_it_in_whichever_order_they_come
test_settled_late = (
    awaited.test_what_was_given_up_is_awaited_when_it_comes_again_and_settled_by_a_late_webhook
)
test_forged = awaited.test_what_a_forged_event_settled_is_awaited_again
test_other_reference = awaited.test_an_answer_with_another_reference_than_asked_ends_the_waiting_too
test_answers_race = awaited.test_answers_that_race_are_stored_once
test_missed = awaited.test_many_that_were_missed_are_begun_in_portions
