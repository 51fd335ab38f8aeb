"""What is held of a person, taken out whole."""

import base64
import io
import json
import tracemalloc
import zipfile
from collections.abc import Collection
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from premblyd.engines.connections import connect_operator, connect_read_only
from premblyd.errors import NotFoundError
from premblyd.keep.persons import Named
from premblyd.model import tables
from premblyd.model.columns import PERSONAL, SECRET, columns
from premblyd.model.table import Table
from premblyd.queue.inbox import NewDelivery
from premblyd.record import personzip
from premblyd.record.operating import RecordedExport, record_export
from premblyd.record.personzip import WITHHELD, ChangedMeanwhileError, SeveralPeopleError
from premblyd.verifications.digests import Digests
from tests.support.chromium import file_opened, needs_chromium
from tests.support.store import NOW_MS, Store, name_one, new_event

NOBODY: dict[str, Any] = {"user_ref": None, "reference": None, "session_id": None}
ADA = Named.user("ada")


def arrive(store: Store, body: bytes | None = None, **names: Any) -> int:
    """Store an event that has these names alone; return its number."""
    number = len(store.rows("SELECT id FROM event")) + 1
    event = new_event(body or b'{"number": %d}' % number, token="hush", **{**NOBODY, **names})
    return store.wait(store.inbox.add(event, [NewDelivery("crm", 3)])).event_id


def taken(store: Store, named: Named = ADA) -> zipfile.ZipFile:
    """Return the ZIP of a person."""
    out = io.BytesIO()
    with (
        closing(connect_read_only(store.place)) as database,
        closing(connect_operator(store.place)) as operator,
    ):
        found = personzip.find(database, named, named.name, database.now_ms())
        about = f"a person: {len(found.removed_parts)} events"
        recorded = record_export(operator, "dpo", found.event_ids, about)
        personzip.write(out, database, found, recorded, "dpo")
    return zipfile.ZipFile(out)


def record_of(file: zipfile.ZipFile) -> Any:
    return json.loads(file.read("record.json"))


def page_of(file: zipfile.ZipFile) -> str:
    return file.read("page.html").decode()


def fill(store: Store, event_id: int) -> None:
    """Have everything happen to an event that leaves a row."""
    ((delivery,),) = store.rows("SELECT id FROM delivery WHERE event_id = ?", event_id)
    store.by_hand('UPDATE delivery SET confirmed_facts = \'{"a": "facts"}\'')
    store.by_hand(
        "INSERT INTO attempt (delivery_id, number, worker, action_digest, started_at_ms, outcome,"
        " finished_at_ms, error, output, claim_token)"
        " VALUES (?, 1, 'w', 'd', ?, 'failed', ?, 'no', 'out', '')",
        *(delivery, NOW_MS, NOW_MS + 1),
    )
    store.by_hand(
        "INSERT INTO inquiry (at_ms, purpose, event_id, reference, result, duration_ms, error)"
        " VALUES (?, 'confirm', ?, 'ref-1', 'refused', 8, 'no')",
        *(NOW_MS, event_id),
    )
    store.by_hand(
        "INSERT INTO inquiry (at_ms, purpose, reference, result, duration_ms)"
        " VALUES (?, 'reconcile', 'ref-1', 'not_found', 8)",
        NOW_MS,
    )
    store.by_hand(
        "INSERT INTO awaited (endpoint, reference, event_id, state, due_at_ms, created_at_ms)"
        " VALUES ('prembly', 'ref-1', ?, 'waiting', ?, ?)",
        *(event_id, NOW_MS, NOW_MS),
    )
    for action, event, of_delivery in (("reveal", event_id, None), ("replay", None, delivery)):
        store.by_hand(
            "INSERT INTO operator_action (at_ms, actor, action, event_id, delivery_id, note)"
            " VALUES (?, 'alice', ?, ?, ?, 'a note')",
            *(NOW_MS, action, event, of_delivery),
        )
    store.by_hand(
        "INSERT INTO hold (user_ref, since_ms, actor, reason) VALUES ('ada', ?, 'bob', 'a claim')",
        NOW_MS,
    )
    store.call(lambda one: name_one(one, ["ref-1", "ver_A_1"], NOW_MS))


def test_all_that_is_held_of_a_person_is_in_it(store: Store) -> None:
    fill(store, arrive(store, user_ref="ada", reference="ref-1", session_id="hush-session"))
    found = record_of(taken(store))
    (event,) = found["events"]
    (delivery,) = event["deliveries"]
    rows: dict[type[Table], dict[str, Any]] = {
        tables.Event: event,
        tables.Delivery: delivery,
        tables.Attempt: delivery["attempts"][0],
        tables.Inquiry: event["inquiries"][0],
        tables.Awaited: event["awaited"][0],
        tables.OperatorAction: event["operator_actions"][0],
    }
    for table, row in rows.items():
        private = {each.column_name for each in columns(table) if each.holds in (PERSONAL, SECRET)}
        assert private - row.keys() - {"body", "reference_key"} <= set(WITHHELD), table
    assert delivery["attempts"][0]["output"] == "out"
    assert [each["action"] for each in event["operator_actions"]] == ["reveal", "replay", "export"]
    assert [each["reason"] for each in found["holds"]] == ["a claim"]
    assert [each["purpose"] for each in found["inquiries"]] == ["reconcile"]


def test_what_programs_read_has_these_names(store: Store) -> None:
    fill(store, arrive(store, user_ref="ada", reference="ref-1"))
    found = record_of(taken(store))
    assert list(found) == [
        *("format", "made_at_ms", "made_by", "version", "found_by", "name", "withheld"),
        *("nameless_ids", "not_included", "holds", "erasures", "inquiries", "events"),
    ]
    assert found["format"] == "premblyd-person/1"
    (event,) = found["events"]
    parts = ["body_file", "deliveries", "inquiries", "awaited", "operator_actions"]
    assert list(event)[-len(parts) :] == parts


def test_the_token_is_not_in_it(store: Store) -> None:
    arrive(store, user_ref="ada")
    file = taken(store)
    assert not [name for name in file.namelist() if b"hush" in file.read(name)]


def test_a_body_is_there_as_it_came(store: Store) -> None:
    odd = b"\xff\x00\r\n<script>"
    numbers = [arrive(store, user_ref="ada"), arrive(store, odd, user_ref="ada", kind="raw")]
    file = taken(store)
    assert file.read(f"bodies/{numbers[1]}.bin") == odd
    assert file.read(f"bodies/{numbers[0]}.json") == b'{"number": 1}'
    assert file.namelist() == [
        "record.json",
        f"bodies/{numbers[0]}.json",
        f"bodies/{numbers[1]}.bin",
        "page.html",
    ]
    assert {each.external_attr >> 16 for each in file.infolist()} == {0o600}


def test_what_names_somebody_else_is_counted_and_not_in_it(store: Store) -> None:
    own = arrive(store, user_ref="ada", reference="ref-1")
    arrive(store, b'{"of": "eve-lovelace"}', user_ref="eve", reference="ref-1")
    nameless = arrive(store, b'{"of": "eve-or-ada"}', reference="ref-1")
    file = taken(store)
    found = record_of(file)
    assert [event["id"] for event in found["events"]] == [own]
    assert found["not_included"] == {"others": 1, "doubtful": 1}
    assert not [name for name in file.namelist() if b"eve-" in file.read(name)]
    assert "1 message of somebody else, under the same references" in page_of(file)
    assert store.rows("SELECT event_id FROM operator_action WHERE event_id IS NOT NULL") == [(own,)]
    assert nameless


def test_what_names_nobody_is_the_persons_where_nobody_else_is(store: Store) -> None:
    numbers = [arrive(store, user_ref="ada", reference="ref-1"), arrive(store, reference="ref-1")]
    file = taken(store)
    found = record_of(file)
    assert [event["id"] for event in found["events"]] == numbers
    # Somebody may have put a stranger's reference beside this user_ref.
    assert found["nameless_ids"] == numbers[1:]
    assert "1 message without anybody's name" in page_of(file)


def test_a_reference_of_several_people_is_refused(store: Store) -> None:
    for name in ("ada", "eve"):
        arrive(store, user_ref=name, reference="ref-1")
    with pytest.raises(SeveralPeopleError, match="name 2 people"):
        taken(store, Named.reference("ref-1"))
    assert store.rows("SELECT id FROM operator_action") == []


def test_of_whom_nothing_is_held_there_is_none(store: Store) -> None:
    arrive(store, user_ref="eve")
    with pytest.raises(NotFoundError) as caught:
        taken(store)
    assert "ada" not in str(caught.value)


def test_who_takes_it_out_is_on_record_for_each_event(store: Store) -> None:
    numbers = [arrive(store, user_ref="ada") for _ in range(3)]
    taken(store)
    rows = store.rows(
        "SELECT id, actor, action, event_id, note, part_of_id FROM operator_action ORDER BY id"
    )
    whole = rows[0][0]
    assert rows[0][1:] == ("dpo", "export", None, "a person: 3 events", None)
    assert [row[1:] for row in rows[1:]] == [
        ("dpo", "export", number, None, whole) for number in numbers
    ]


def test_what_was_removed_is_said(store: Store) -> None:
    number = arrive(store, user_ref="ada")
    store.by_hand("UPDATE event SET removed_parts = 'body', headers = '[]', body = NULL")
    file = taken(store)
    (event,) = record_of(file)["events"]
    assert (event["removed_parts"], event["body_file"]) == ("body", None)
    assert f"bodies/{number}.json" not in file.namelist()
    assert "What it said was deleted, as its retention period had expired" in page_of(file)


def test_what_was_erased_is_said_to_whom_it_was_about(store: Store) -> None:
    number = arrive(store, b'{"was": "hush"}')
    digests = store.call(Digests.of)
    name = digests.of_reference("ref-1")
    store.by_hand(
        "INSERT INTO erasure (at_ms, actor, reason, found_by, subject, events, cancelled)"
        " VALUES (?, 'bob', 'asked', 'user_ref', ?, 1, 0)",
        *(NOW_MS, digests.of_user("ada")),
    )
    store.by_hand("INSERT INTO erased_name (name, erasure_id) VALUES (?, 1)", name)
    store.by_hand(
        "UPDATE event SET removed_parts = 'erased', erasure_id = 1, erased_name = ?, body = ?",
        name,
        b"",
    )
    file = taken(store)
    found = record_of(file)
    assert [(event["id"], event["removed_parts"]) for event in found["events"]] == [
        (number, "erased")
    ]
    assert [each["actor"] for each in found["erasures"]] == ["bob"]
    assert "What it said, and whom it named, was erased on request." in page_of(file)


def test_nothing_is_given_out_of_what_is_erased_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(store, user_ref="ada")
    read = personzip._body_of

    def erase_and_read(database: Any, event_id: int) -> bytes:
        store.by_hand("UPDATE event SET removed_parts = 'erased'")
        return read(database, event_id)

    monkeypatch.setattr(personzip, "_body_of", erase_and_read)
    with pytest.raises(ChangedMeanwhileError):
        taken(store)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.links: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attributes: Collection[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]
        self.links |= {value or "" for name, value in attributes if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = '"><script>alert(1)</script><img src=//x onerror=alert(2)>\x00\u202e'


def test_nothing_in_the_page_does_anything(store: Store) -> None:
    body = json.dumps({HOSTILE: HOSTILE, "long": "A" * 5000, "deep": [[{"a": HOSTILE}]]}).encode()
    number = arrive(store, body, user_ref="ada", detail=HOSTILE, type=HOSTILE, status=HOSTILE)
    fill(store, number)
    store.by_hand("UPDATE attempt SET output = ?, error = ?", HOSTILE[:-2], HOSTILE[:-2])
    store.by_hand("UPDATE hold SET reason = ?, actor = ?", HOSTILE[:-2], HOSTILE[:-2])
    page = page_of(taken(store))
    tags = Tags()
    tags.feed(page)
    assert not tags.found & {"script", "img", "iframe", "link", "form", "svg", "object"}
    assert {link for link in tags.links if not link.startswith("#m")} == {f"bodies/{number}.json"}
    assert "\x00" not in page
    assert "\u202e" not in page
    assert tags.text.count("<script>alert(1)</script>") >= 5
    assert "default-src 'none'" in page


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


@pytest.mark.parametrize(
    "encoded",
    [
        base64.b64encode(PNG).decode(),
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        base64.encodebytes(PNG).decode(),
    ],
)
def test_a_photo_can_be_looked_at(store: Store, encoded: str) -> None:
    said = "a long text of words " * 60
    body = json.dumps({"n": 1, "data": {"photo": encoded, "said": said, "more": "QUJD" * 500}})
    number = arrive(store, body.encode(), user_ref="ada")
    file = taken(store)
    photo = f"photos/{number}-2.png"
    assert [name for name in file.namelist() if name.startswith("photos/")] == [photo]
    assert file.read(photo) == PNG
    page = page_of(file)
    assert f'<a href="{photo}">{photo}</a>' in page
    assert "a long text of words" in page


def test_no_name_of_a_file_is_a_senders(store: Store) -> None:
    body = json.dumps({"../../etc/passwd": base64.b64encode(PNG).decode()}).encode()
    arrive(store, body, user_ref="ada", reference="../../etc/passwd")
    names = taken(store).namelist()
    assert names == ["record.json", "bodies/1.json", "photos/1-1.png", "page.html"]


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


class Nowhere(io.RawIOBase):
    """Takes what is written as a pipe does, and keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def test_no_more_than_a_message_is_in_memory(store: Store) -> None:
    size, count = 500_000, 16
    for number in range(count):
        arrive(store, b'{"%d": "%b"}' % (number, b"w" * size), user_ref="ada")
    nowhere: Any = Nowhere()
    with closing(connect_read_only(store.place)) as database:
        found = personzip.find(database, ADA, "ada", NOW_MS)
        recorded = RecordedExport(event_ids=frozenset(found.event_ids))
        tracemalloc.start()
        try:
            personzip.write(nowhere, database, found, recorded, "dpo")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < count * size / 2
