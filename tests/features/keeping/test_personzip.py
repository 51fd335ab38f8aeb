"""What is held of a person, taken out whole."""

import base64
import html
import io
import json
import re
import tracemalloc
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.asking.tables import Awaited, Confirmation, Inquiry
from premblyd.features.keeping import personzip
from premblyd.features.keeping.persons import Named
from premblyd.features.keeping.personzip import WITHHELD, ChangedMeanwhileError, SeveralPeopleError
from premblyd.ground.errors import NotFoundError
from premblyd.store import tables
from premblyd.store.columns import PERSONAL, SECRET, Table, columns
from premblyd.store.connections import connect_operator, connect_read_only
from tests.features.keeping.test_persons import arrive
from tests.features.names.linked import name_one
from tests.support.chromium import file_opened, needs_chromium
from tests.support.rows import for_each
from tests.support.store import NOW_MS, Store

ADA = Named.user("ada")


def taken(store: Store, named: Named = ADA) -> zipfile.ZipFile:
    """Return the ZIP of a person."""
    out = io.BytesIO()
    reading, operating = connect_read_only(store.place), connect_operator(store.place)
    with closing(reading) as database, closing(operating) as operator:
        found = personzip.find(database, named, named.name, database.now_ms())
        about = f"a person: {len(found.removed_parts)} events"
        personzip.record_export(operator, "dpo", found.event_ids, about)
        personzip.write(out, database, found, "dpo")
    return zipfile.ZipFile(out)


def record_of(file: zipfile.ZipFile) -> Any:
    return json.loads(file.read("record.json"))


def page_of(file: zipfile.ZipFile) -> str:
    return file.read("page.html").decode()


def fill(store: Store, event_id: int) -> None:
    """Have everything happen to an event that leaves a row."""
    ((delivery,),) = store.rows("SELECT id FROM delivery WHERE event_id = ?", event_id)
    for sql in (
        "confirmation (delivery_id, at_ms, answer_digest, facts)"
        f" VALUES ({delivery}, 1, 'of it', '{{\"a\": \"facts\"}}')",
        "attempt (delivery_id, number, worker, action_digest, started_at_ms, finished_at_ms,"
        " outcome, error, output, claim_token)"
        f" VALUES ({delivery}, 1, 'w', 'd', 1, 2, 'failed', 'no', 'out', '')",
        "inquiry (at_ms, purpose, event_id, reference, result, duration_ms, error)"
        f" VALUES (1, 'confirm', {event_id}, 'ref-1', 'refused', 8, 'no')",
        "inquiry (at_ms, purpose, reference, result, duration_ms)"
        " VALUES (1, 'reconcile', 'ref-1', 'not_found', 8)",
        "awaited (endpoint, reference, event_id, state, due_at_ms, created_at_ms)"
        f" VALUES ('prembly', 'ref-1', {event_id}, 'waiting', 1, 1)",
        "operator_action (at_ms, actor, action, event_id, note)"
        f" VALUES (1, 'alice', 'reveal', {event_id}, 'a note')",
        "operator_action (at_ms, actor, action, delivery_id, note)"
        f" VALUES (1, 'alice', 'replay', {delivery}, 'a note')",
        "hold (user_ref, since_ms, actor, reason) VALUES ('ada', 1, 'bob', 'a claim')",
    ):
        store.by_hand(f"INSERT INTO {sql}")
    store.call(lambda one: name_one(one, ["ref-1", "ver_A_1"], NOW_MS))


def test_all_that_is_held_of_a_person_is_in_it_but_the_token(store: Store) -> None:
    """And what programs read has these names."""
    fill(store, arrive(store, user_ref="ada", reference="ref-1", session_id="of-ada"))
    file = taken(store)
    assert not [name for name in file.namelist() if b"hush" in file.read(name)]
    found = record_of(file)
    assert list(found) == [
        *("format", "made_at_ms", "made_by", "version", "found_by", "name", "withheld"),
        *("nameless_ids", "not_included", "holds", "inquiries", "events"),
    ]
    assert found["format"] == "premblyd-person/1"
    (event,) = found["events"]
    (delivery,) = event["deliveries"]
    rows: dict[type[Table], dict[str, Any]] = {
        tables.Event: event,
        tables.Delivery: delivery,
        tables.Attempt: delivery["attempts"][0],
        Inquiry: event["inquiries"][0],
        Awaited: event["awaited"][0],
        Confirmation: event["confirmations"][0],
        tables.OperatorAction: event["operator_actions"][0],
    }
    for table, row in rows.items():
        private = {each.column_name for each in columns(table) if each.holds in (PERSONAL, SECRET)}
        assert private - row.keys() - {"body", "reference_key"} <= set(WITHHELD), table
    assert delivery["attempts"][0]["output"] == "out"
    assert [each["action"] for each in event["operator_actions"]] == ["reveal", "replay", "export"]
    assert [each["reason"] for each in found["holds"]] == ["a claim"]
    assert [each["purpose"] for each in found["inquiries"]] == ["reconcile"]


def test_a_body_is_there_as_it_came(store: Store) -> None:
    odd = b"\xff\x00\r\n<script>"
    numbers = [arrive(store, user_ref="ada"), arrive(store, odd, user_ref="ada", kind="raw")]
    file = taken(store)
    assert file.read(f"bodies/{numbers[1]}.bin") == odd
    assert file.read(f"bodies/{numbers[0]}.json") == b'{"number": 1}'
    bodies = [f"bodies/{numbers[0]}.json", f"bodies/{numbers[1]}.bin"]
    assert file.namelist() == ["record.json", *bodies, "page.html"]
    assert {each.external_attr >> 16 for each in file.infolist()} == {0o600}


def test_what_names_somebody_else_is_counted_and_not_in_it(store: Store) -> None:
    """What names nobody is the person's where nobody else is: somebody may have put a stranger's
    reference beside this user_ref."""
    own = arrive(store, user_ref="ada", reference="ref-1")
    arrive(store, b'{"of": "eve-lovelace"}', user_ref="eve", reference="ref-1")
    arrive(store, b'{"of": "eve-or-ada"}', reference="ref-1")
    numbers = [own, arrive(store, user_ref="ada", reference="ref-2")]
    numbers.append(arrive(store, reference="ref-2"))
    file = taken(store)
    found, page = record_of(file), page_of(file)
    assert [event["id"] for event in found["events"]] == numbers
    assert found["nameless_ids"] == numbers[2:]
    assert found["not_included"] == 2
    assert not [name for name in file.namelist() if b"eve-" in file.read(name)]
    assert "2 messages of somebody else, or without anybody's name" in page
    assert "1 message without anybody's name" in page
    taken_out = "SELECT event_id FROM operator_action WHERE event_id IS NOT NULL ORDER BY event_id"
    assert store.rows(taken_out) == [(number,) for number in numbers]
    with pytest.raises(NotFoundError) as caught:
        taken(store, Named.user("kim-nobody"))
    assert "kim" not in str(caught.value)


def test_a_reference_of_several_people_is_refused(store: Store) -> None:
    for name in ("ada", "eve"):
        arrive(store, user_ref=name, reference="ref-1")
    with pytest.raises(SeveralPeopleError, match="name 2 people"):
        taken(store, Named.reference("ref-1"))
    assert store.rows("SELECT id FROM operator_action") == []


def test_who_takes_it_out_is_on_record_for_each_event(store: Store) -> None:
    numbers = [arrive(store, user_ref="ada") for _ in range(3)]
    taken(store)
    said = "SELECT actor, action, event_id, note, part_of_id FROM operator_action ORDER BY id"
    ((whole,),) = store.rows("SELECT min(id) FROM operator_action")
    parts = [("dpo", "export", number, None, whole) for number in numbers]
    assert store.rows(said) == [("dpo", "export", None, "a person: 3 events", None), *parts]


def test_what_was_removed_is_said(store: Store) -> None:
    number = arrive(store, user_ref="ada")
    store.by_hand("UPDATE event SET removed_parts = 'body', headers = '[]', body = NULL")
    file = taken(store)
    (event,) = record_of(file)["events"]
    assert (event["removed_parts"], event["body_file"]) == ("body", None)
    assert f"bodies/{number}.json" not in file.namelist()
    assert "What it said was deleted, as its retention period had expired" in page_of(file)


def test_nothing_erased_meanwhile_comes_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(store, user_ref="ada")
    read = personzip._body_of

    def erase_and_read(database: Any, event_id: int) -> bytes:
        store.by_hand("UPDATE event SET removed_parts = 'erased'")
        return read(database, event_id)

    monkeypatch.setattr(personzip, "_body_of", erase_and_read)
    with pytest.raises(ChangedMeanwhileError):
        taken(store)


HOSTILE = '"><script>alert(1)</script><img src=//x onerror=alert(2)>\x00\u202e'


def test_nothing_in_the_page_does_anything(store: Store) -> None:
    body = json.dumps({HOSTILE: HOSTILE, "long": "A" * 5000, "deep": [[{"a": HOSTILE}]]}).encode()
    number = arrive(store, body, user_ref="ada", detail=HOSTILE, type=HOSTILE, status=HOSTILE)
    fill(store, number)
    store.by_hand("UPDATE attempt SET output = ?, error = ?", HOSTILE[:-2], HOSTILE[:-2])
    store.by_hand("UPDATE hold SET reason = ?, actor = ?", HOSTILE[:-2], HOSTILE[:-2])
    page = page_of(taken(store))
    tags = re.findall(r"<\s*([^\s>]+)([^>]*)", page)
    names = {name for name, _ in tags}
    assert not names & {"script", "img", "iframe", "link", "form", "svg", "object"}
    assert not [about for _, about in tags if re.search(r"\bon\w+\s*=", about)]
    links = re.findall(r"""\b(?:href|src)\s*=\s*["']?([^"'#\s>]+)""", str(tags))
    assert set(links) == {f"bodies/{number}.json"}
    assert not {"\x00", "\u202e"} & {*page}
    assert page.count(html.escape("<script>alert(1)</script>")) >= 5
    assert "default-src 'none'" in page


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


@for_each(
    "encoded",
    [
        base64.b64encode(PNG).decode(),
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        base64.encodebytes(PNG).decode(),
    ],
)
def test_a_photo_can_be_seen_and_no_name_of_a_file_is_a_senders(store: Store, encoded: str) -> None:
    evil = "../../etc/passwd"
    said = "a long text of words " * 60
    body = json.dumps({"n": 1, "data": {evil: encoded, "said": said, "more": "QUJD" * 500}})
    number = arrive(store, body.encode(), user_ref="ada", reference=evil)
    file = taken(store)
    photo = f"photos/{number}-2.png"
    assert photo in file.namelist()
    assert not [name for name in file.namelist() if "etc" in name]
    assert file.read(photo) == PNG
    page = page_of(file)
    assert f'<a href="{photo}">{photo}</a>' in page
    assert "a long text of words" in page


@needs_chromium
@pytest.mark.browser
def test_the_page_is_read_in_a_browser_and_asks_nobody(store: Store, tmp_path: Path) -> None:
    body = json.dumps({HOSTILE: HOSTILE, "photo": base64.b64encode(PNG).decode(), "w": "w" * 900})
    number = arrive(store, body.encode(), user_ref="ada", detail=HOSTILE)
    fill(store, number)
    store.by_hand("UPDATE attempt SET output = ?", HOSTILE[:-2])
    taken(store).extractall(tmp_path)
    with file_opened(tmp_path / "page.html") as page:
        assert page.get_by_role("heading", level=1).inner_text() == "What is held about ada"
        page.get_by_role("link", name=f"photos/{number}-2.png").click()
        page.wait_for_url("**/photos/*.png")


def test_no_more_than_a_message_is_in_memory(store: Store, tmp_path: Path) -> None:
    size, count = 100_000, 16
    for number in range(count):
        arrive(store, b'{"%d": "%b"}' % (number, b"w" * size), user_ref="ada")
    with closing(connect_read_only(store.place)) as database, (tmp_path / "x").open("wb") as out:
        found = personzip.find(database, ADA, "ada", NOW_MS)
        personzip.write(out, database, found, "dpo")  # what the first one imports
        tracemalloc.start()
        try:
            personzip.write(out, database, found, "dpo")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < count * size / 2
