"""One verification under several names: an action with `confirm` and `once` runs once for it. What
Prembly's answers name counts, and nothing that a webhook says."""

import asyncio
import json
from contextlib import closing
from typing import Any

import pytest

from premblyd.features.asking import answers, confirm
from premblyd.features.asking.answers import Question
from premblyd.features.asking.settling import Answers, NewAnswer, add_answer
from premblyd.features.names.names import MAX_NAMES, learn_names
from premblyd.ground import times
from premblyd.ground.databases import DatabaseAddress
from premblyd.prembly import payload
from premblyd.prembly.events import STATUS, STORED_BY
from premblyd.prembly.payload import Outcome, Verdict
from premblyd.queue.inbox import NewDelivery
from premblyd.record import troubles
from premblyd.record.told import Situation
from premblyd.run import dispatcher
from premblyd.store.connections import connect_read_only
from tests.features.asking.questions import Confirming
from tests.support.database import by_hand, rows
from tests.support.dispatching import FakeRunner
from tests.support.jobs import action, job, told
from tests.support.prembly_api import PremblyApi
from tests.support.queue import claim_once, ids
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store, new_event

UUID = "0b7c9f1d-1111-4222-8333-44445555666a"
OTHER = "ver_document_w_face_0042"
SESSION = "sdk_session_0123456789"
DIGEST = payload.session_reference(SESSION)
ACTIVATE = action(
    "activate",
    confirm="true",
    once="reference",
    when="outcome == 'verified'",
    retry={"attempts": 3, "first_delay": "10ms"},
)
BY_UUID = Question(identifier=UUID, reference=UUID)
NAMES = "SELECT name, verification FROM verification_name ORDER BY id"
DELIVERIES = "SELECT state, ran_instead_id FROM delivery ORDER BY id"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(confirm, "_WAITS_S", (0.02,))
    monkeypatch.setattr(dispatcher, "POLL_S", 0.05)
    monkeypatch.setattr("premblyd.features.turns.once.MIN_HOLD_MS", 20)


def at_work(place: DatabaseAddress, api: PremblyApi, *actions: Any, **keys: Any) -> Confirming:
    return Confirming(place, *(actions or (ACTIVATE,)), prembly=api.settings(), **keys)


def answer_of(asked: str, **more: Any) -> NewAnswer:
    """Return Prembly's answer to the question for `asked`, which says VERIFIED."""
    webhook = new_event(b"yes", **of_prembly(reference=asked))
    return NewAnswer(webhook=webhook, deliveries=[NewDelivery("activate", 3)], asked=asked, **more)


def says(**names: str) -> bytes:
    """Return an answer that says VERIFIED, under these names."""
    return json.dumps({"data": {"verification_status": "VERIFIED", **names}}).encode()


async def add(at: Confirming, **names: str) -> None:
    """Store an event that says VERIFIED, under these names."""
    document = {"verification": {"status": "VERIFIED"}, **names}
    verdict = payload.recognise(document)
    fields = {name: getattr(verdict, name) for name in payload.Verdict.__slots__}
    await at.add("activate", body=json.dumps(document).encode(), **fields)


@pytest.mark.parametrize("is_session_first", [False, True])
async def test_a_hook_runs_once_for_a_reference_and_its_session(
    place: DatabaseAddress, api: PremblyApi, is_session_first: bool
) -> None:
    api.know(UUID, session_id=SESSION, body=says(reference=UUID, session_id=SESSION))
    names = [{"reference": UUID}, {"session_id": SESSION}]
    if is_session_first:
        names.reverse()
    async with at_work(place, api) as at:
        await add(at, **names[0])
        await at.until_states(succeeded=1)
        await add(at, **names[1])
        await at.until_states(succeeded=1, skipped=1)
        ((_, run),) = at.shell.runs
    assert rows(place, DELIVERIES) == [("succeeded", None), ("skipped", 1)]
    assert rows(place, "SELECT count(*) FROM attempt") == [(1,)], "the name is known by then"
    assert rows(place, NAMES) == [(UUID, UUID), (DIGEST, UUID)]
    assert SESSION not in str(rows(place, "SELECT * FROM verification_name"))
    assert rows(place, "SELECT once_key, confirmed_key FROM once_run WHERE delivery_id = 1") == [
        (told(run, "ONCE_KEY"),) * 2
    ]


async def test_of_two_that_are_confirmed_at_the_same_time_one_waits_for_the_other(
    place: DatabaseAddress, api: PremblyApi
) -> None:
    answer = says(reference=UUID, verification_id=OTHER)
    api.know(UUID, body=answer)
    api.know(OTHER, body=answer)
    runner = FakeRunner()
    held = runner.hold("activate")
    async with at_work(place, api, runner=runner) as at:
        await asyncio.gather(add(at, reference=UUID), add(at, reference=OTHER))
        await at.until(lambda: runner.runs)
        await at.until_states(running=1, pending=1)
        held.set()
        await at.until_states(succeeded=1, skipped=1)
        assert len(runner.runs) == 1


async def test_when_the_first_fails_the_other_runs(place: DatabaseAddress, api: PremblyApi) -> None:
    answer = says(reference=UUID, verification_id=OTHER)
    for name in (UUID, OTHER):
        api.know(name, body=answer)
    async with at_work(place, api) as at:
        await add(at, reference=UUID)
        await at.until_states(succeeded=1)
        by_hand(place, "UPDATE delivery SET state = 'dead'")
        await add(at, reference=OTHER)
        await at.until_states(dead=1, succeeded=1)
        first, second = (run.id for _, run in at.shell.runs)
    assert first == second, "so a receiver knows it again"


async def test_a_webhook_links_nothing(place: DatabaseAddress, api: PremblyApi) -> None:
    """Anybody may put a session beside a reference."""
    api.know(UUID, body=says(reference=UUID))
    api.know(OTHER, session_id=SESSION, body=says(reference=OTHER, session_id=SESSION))
    async with at_work(place, api) as at:
        await add(at, reference=UUID, session_id=SESSION)
        await at.until_states(succeeded=1)
        await add(at, reference=OTHER)
        await at.until_states(succeeded=2)
    assert rows(place, NAMES) == [(OTHER, OTHER), (DIGEST, OTHER)]


def of_prembly(**names: str) -> dict[str, Any]:
    """Return the changes to an event that make it an answer that is silent about the face."""
    return {"verified_by": STORED_BY, "type": STATUS, "doubt": "", "face_match": None, **names}


async def test_a_stored_answer_is_ruled_again_by_names_learnt_after_its_claim(
    place: DatabaseAddress, api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the record is looked at for a no, another name's hook is confirmed, and runs."""
    api.know(UUID, body=says(reference=OTHER, verification_id=UUID))
    looking, go_on, others = asyncio.Event(), asyncio.Event(), Answers.others

    async def slowly(self: Answers, *asked: Any) -> list[Verdict]:
        found = await others(self, *asked)
        looking.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(Answers, "others", slowly)
    async with at_work(place, api) as at:
        await at.add("activate", **of_prembly(reference=OTHER))
        await looking.wait()
        await add(at, reference=UUID)
        await at.until_states(running=1, succeeded=1)
        go_on.set()
        await at.until_states(skipped=1, succeeded=1)
        assert [told(run, "DELIVERY") for _, run in at.shell.runs] == [2]
    assert rows(place, DELIVERIES) == [("skipped", 2), ("succeeded", None)]


async def test_a_hook_runs_once_where_the_event_states_no_outcome_and_the_answer_does(
    place: DatabaseAddress, api: PremblyApi
) -> None:
    api.know(UUID, body=says(reference=UUID))
    once = action("activate", confirm="true", once="reference")
    silent: dict[str, Any] = {"reference": UUID, "outcome": Outcome.UNKNOWN}
    async with at_work(place, api, once) as at:
        for number in range(2):
            await at.add("activate", body=b"%d" % number, verification_status=None, **silent)
            await at.until_states(succeeded=1, **{"skipped": 1} if number else {})
        await add(at, reference=UUID)
        await at.until_states(succeeded=1, skipped=2)
        assert len(at.shell.runs) == 1


def test_what_can_be_no_name_of_one_verification_alone_links_nothing() -> None:
    by_session = Question(identifier=SESSION, reference=None)

    def names(asked: Question, **named: str) -> tuple[str, ...]:
        stated = answers.read(says(**named))
        assert stated
        return answers.all_names(asked, stated)

    for other in ("N/A", "order-00017", "unknown-id"):
        assert names(BY_UUID, reference=UUID.upper(), verification_id=other) == (UUID,)
    assert names(by_session, reference=UUID) == (DIGEST,)
    assert names(by_session, reference=UUID, session_id=SESSION) == (UUID, DIGEST)
    assert names(by_session, session_id=SESSION) == (DIGEST,)
    assert names(BY_UUID) == (UUID,)  # with `names_reference: false`


def test_only_what_the_same_object_of_an_answer_has_is_a_name_of_the_same() -> None:
    def names(document: dict[str, Any]) -> tuple[str, ...]:
        stated = answers.read(json.dumps(document).encode())
        assert stated
        return answers.all_names(BY_UUID, stated)

    both = {"reference": UUID, "reference_id": OTHER, "session_id": SESSION}
    for whole in (both, {"data": both}, {"response": both}):
        assert names(whole) == (UUID, OTHER, DIGEST)
    webhook = {"verification": {"reference": UUID}, "session_id": SESSION}
    assert names(webhook) == names({"data": webhook}) == (UUID, DIGEST)
    for beside in (
        {"data": {"reference": UUID, "session": {"session_id": SESSION, "reference": OTHER}}},
        {"data": {"reference": UUID, "data": {"reference": OTHER}}},
        {"data": {"reference": UUID, "widget_info": {"session_id": SESSION}}},
        {"reference_id": OTHER, "session_id": SESSION, "data": {"reference": UUID}},
    ):
        assert names(beside) == (UUID,)


U1, U2 = UUID, "11111111-1111-4111-8111-111111111111"
V1, V2 = "ver_document_0001", "ver_document_0002"
S1, S2 = payload.session_reference("s-1"), payload.session_reference("s-2")
# What answers name, one after the other, as `all_names` has it; to which verifications the names
# belong then, and which of them a second one claims.
Learnt = tuple[list[tuple[str, ...]], list[set[str]], set[str]]
LEARNT: dict[str, Learnt] = {
    "one name": ([(U1,)], [], set()),
    "all kinds": ([(U1, V1, S1)], [{U1, V1, S1}], set()),
    "one after the other": ([(U1, S1), (U1, V1)], [{U1, V1, S1}], set()),
    "of the other name": ([(V1, S1), (U1, V1, S1)], [{V1, S1, U1}], set()),
    "of each, then of both": ([(U1, S1), (V1, S2), (U1, V1)], [{U1, V1, S1, S2}], set()),
    "two sessions of one": ([(U1, S1), (U1, S2)], [{U1, S1, S2}], set()),
    "two UUIDs in an answer": ([(U1, U2, S1)], [{U1, S1}], set()),
    "two UUIDs share a session": ([(U1, S1), (U2, S1)], [{U1, S1}], {S1}),
    "they share it when it is asked for": ([(U1, S1), (U2, S1), (U1, S1)], [{U1, S1}], {S1}),
    "two UUIDs share a ver_": ([(U1, V1), (U2, V1)], [{U1, V1}], {V1}),
    "two ver_ share a UUID": ([(V1, U1), (V2, U1)], [{V1, U1}], {U1}),
    "a UUID has a second ver_": ([(U1, V1), (U1, V2), (V2, U1)], [{U1, V1}], {V2, U1}),
    "a UUID and a ver_ share a session": ([(U1, S1), (V1, S1)], [{U1, S1}], {S1}),
    "and the second has another": (
        [(U1, S1), (V1, S1), (V1, S2)],
        [{U1, S1}, {V1, S2}],
        {S1},
    ),
}


@for_each("case", LEARNT)
def test_two_names_are_one_verification_only_by_an_answer_about_the_one(
    store: Store, case: str
) -> None:
    said, verifications, claimed = LEARNT[case]
    store.by_hand("DELETE FROM verification_name")
    for names in said:
        learnt = store.call(lambda t, n=names: learn_names(t, n, NOW_MS))  # type: ignore[misc]
        own = next((each for each in verifications if names[0] in each), {names[0]})
        assert names[0] in learnt
        assert set(learnt) <= own
    found: dict[str, set[str]] = {}
    for name, verification in store.rows(NAMES):
        found.setdefault(verification, set()).add(name)
    assert list(found.values()) == verifications
    noted = "SELECT name FROM verification_name WHERE claimed_at_ms IS NOT NULL"
    assert {name for (name,) in store.rows(noted)} == claimed & set().union(*verifications)


def test_the_first_name_stays_first_and_a_verification_has_no_end_of_names(store: Store) -> None:
    def learn(*names: str) -> tuple[str, ...]:
        return store.call(lambda t: learn_names(t, names, NOW_MS))

    assert learn(V1) == (V1,)
    assert learn(V1, S1) == (V1, S1)
    assert learn(U1, V1) == (V1, *sorted((S1, U1)))
    many = [payload.session_reference(f"m-{number}") for number in range(MAX_NAMES)]
    assert len(learn(U1, *many)) == MAX_NAMES
    assert learn(U1)[0] == V1


@pytest.mark.parametrize("name", ["session_id", "reference_id"])
async def test_hooks_run_for_two_verifications_that_share_an_id(
    place: DatabaseAddress, api: PremblyApi, name: str
) -> None:
    """And that they do is trouble."""
    shared = {"session_id": SESSION, "reference_id": OTHER}[name]
    for reference in (U1, U2):
        api.know(reference, body=says(reference=reference, **{name: shared}))
    async with at_work(place, api) as at:
        await add(at, reference=U1)
        await at.until_states(succeeded=1)
        await add(at, reference=U2)
        await at.until_states(succeeded=2)
    kept = DIGEST if name == "session_id" else OTHER
    assert rows(place, NAMES) == [(U1, U1), (kept, U1)]
    with closing(connect_read_only(place)) as record:
        now_ms = times.now_ms()
        [item] = troubles.items(Situation(record=record, now_ms=now_ms), kinds=["shared"])
        later = Situation(record=record, now_ms=now_ms + 2 * times.DAY_MS)
        assert troubles.items(later, kinds=["shared"]) == []
    assert (item.count, item.text.startswith("1 id is in Prembly's answers about two")) == (1, True)


def test_an_answer_is_stored_though_what_shares_its_session_is_settled(store: Store) -> None:
    learn(store, U1, S1)
    store.add(body=b"the first one's", reference=U1)
    store.add(body=b"its no", reference=U1, **NO)
    others: list[Verdict] = []

    def is_for(name: str, found: Any) -> bool:
        others.extend(found)
        return True

    new = answer_of(U2, is_for=is_for, names=(U2, S1))
    assert store.wait(Answers(store.writer).add(new, None)).is_new
    assert (store.rows(DELIVERIES), others) == ([("pending", None)], [])


def test_what_prembly_was_asked_for_links_too_and_claims_know_it(store: Store) -> None:
    """Also for actions without `confirm`."""
    answer = new_event(reference=DIGEST, type="prembly.status", verified_by="prembly-api")
    deliveries = [NewDelivery("crm", 3)]
    new = NewAnswer(webhook=answer, deliveries=deliveries, asked=DIGEST, names=(OTHER, DIGEST))
    store.call(lambda transaction: add_answer(transaction, new))
    store.add("crm", body=b"2", reference=OTHER)
    (job,) = claim_once(store).jobs
    assert job.delivery_id == 1
    keys = store.rows("SELECT delivery_id, once_key FROM once_run")
    assert keys == [(1, job.idempotency_key)]
    over = "state = 'succeeded', due_at_ms = NULL, finished_at_ms = 1"
    store.by_hand(f"UPDATE delivery SET {over} WHERE id = 1")
    assert ids(claim_once(store, NOW_MS + 60_000)) == []
    assert store.rows(DELIVERIES)[1] == ("skipped", 1)


NO: dict[str, Any] = {"outcome": Outcome.UNKNOWN, "face_match": False, "doubt": "face"}


def learn(store: Store, *names: str) -> None:
    store.call(lambda transaction: learn_names(transaction, names, NOW_MS))


def test_an_answer_is_not_stored_beside_what_settled_it_under_another_name(store: Store) -> None:
    """The answer names the other, which an earlier one has linked with the session."""
    learn(store, OTHER, DIGEST)
    no = store.add(body=b"no", reference=DIGEST, **NO)
    added = store.wait(Answers(store.writer).add(answer_of(UUID, names=(UUID, OTHER)), None))
    assert (added.event_id, added.is_new) == (no.event_id, False)
    assert store.rows(DELIVERIES) == []


def test_an_answers_silence_overrides_no_no_under_another_name(store: Store) -> None:
    """Of an event that leaves the outcome open, which settles nothing; and of one that came later,
    when its action's turn has come."""
    open_ = NO | {"outcome": Outcome.PENDING, "doubt": "", "response_code": None}
    store.add(body=b"open", reference=DIGEST, **open_)
    found: list[Verdict] = []

    def is_for(name: str, others: Any) -> bool:
        found.extend(others)
        return False

    new = answer_of(UUID, is_for=is_for, names=(UUID, DIGEST))
    assert store.wait(Answers(store.writer).add(new, None)).is_new
    assert [(each.outcome, each.face_match) for each in found] == [(Outcome.PENDING, False)]
    assert store.rows(DELIVERIES) == []
    learn(store, UUID, OTHER)
    store.add(body=b"later", reference=OTHER, **NO)
    others = store.wait(Answers(store.writer).others(job(b"yes", reference=UUID).event))
    assert {each.outcome for each in others} == {Outcome.PENDING, Outcome.UNKNOWN}
