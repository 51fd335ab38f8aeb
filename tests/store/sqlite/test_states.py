"""What may happen to a delivery is one table, and all that happens is in it."""

from premblyd.model.states import STEPS, State
from premblyd.queue.jobs import Job
from premblyd.record.operating import Operator
from tests.support.jobs import ending
from tests.support.queue import FAILED, INTERRUPTED, SUCCEEDED, claim, claim_once, finish, recover
from tests.support.store import NOW_MS, Store

NOTED = """CREATE TRIGGER noted AFTER UPDATE OF state ON delivery WHEN OLD.state <> NEW.state
    BEGIN INSERT INTO step VALUES (OLD.state, NEW.state); END"""


def test_every_change_of_a_state_is_in_the_table_and_nothing_in_it_is_invented(
    store: Store,
) -> None:
    """The database notes each change while all happens that can."""
    store.by_hand("CREATE TABLE step (before TEXT, after TEXT)")
    store.by_hand(NOTED)
    added = 0

    def add(reference: str = "ref-1") -> None:
        nonlocal added
        added += 1
        store.add("crm", body=b"%d" % added, reference=reference)

    def job() -> Job:
        add()
        return claim(store, crm=1).jobs[0]

    def end(state: State) -> None:
        ended = job()
        store.wait(store.queue.finish(ended, INTERRUPTED, ending(ended, state, NOW_MS)))

    def replay() -> None:
        changes = Operator(actor="ada").replay({added: 3}, NOW_MS)
        assert [store.wait(store.writer.call(each)) for each in changes] == [1]
        assert cancel()

    def cancel() -> bool:
        return store.wait(store.writer.call(Operator(actor="ada").cancel(added, NOW_MS)))

    finish(store, job(), SUCCEEDED)
    replay()
    for state in (State.SKIPPED, State.CANCELLED, State.DEAD):
        end(state)
        replay()
    end(State.DEAD)
    assert cancel()
    finish(store, job(), FAILED, NOW_MS)
    assert cancel()
    add()
    claim(store)  # its action is in the configuration no more
    job()
    claim(store, 1 << 50)
    for _ in range(2):
        add("ref-2")
    finish(store, claim_once(store, slots=1).jobs[0], SUCCEEDED)
    claim_once(store)
    job()
    recover(store, NOW_MS)
    told = {(before, step.then) for step in STEPS for before in step.states if before != step.then}
    assert set(store.rows("SELECT before, after FROM step")) == told
