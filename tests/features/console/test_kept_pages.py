"""What the console says of what is kept, held and gone."""

import pytest

from tests.support.commands import run
from tests.support.console import Browser
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, removal

pytestmark = pytest.mark.process
GONE = {
    "body": ("its body and headers", False, True),
    "identity": ("all personal data in it was deleted", False, False),
    "erased": ("all personal data in it was erased", False, False),
}
ERASURE = """INSERT INTO erasure (id, at_ms, actor, found_by, events, cancelled)
    VALUES (7, 1700000000000, 'ada', 'user_ref', 1, 0)"""
INQUIRY = """INSERT INTO inquiry (at_ms, purpose, event_id, result, duration_ms)
    VALUES (1700000000000, 'confirm', 1, 'settled', 7)"""


def test_the_page_of_an_event_says_what_it_has_no_more(daemon: Premblyd, own: Browser) -> None:
    by_hand(daemon.place, INQUIRY)
    whole = own.get("/events/1").text
    assert "by the session" in whole
    assert "removed or erased" not in whole
    assert "Reveal personal data" in whole
    for removed_parts, (words, has_body, has_person) in GONE.items():
        by_hand(daemon.place, removal(removed_parts))
        page = own.get("/events/1").text
        assert words in page.lower(), removed_parts
        shown = ["The body was deleted." not in page, "Reveal personal data" in page]
        shown += ["by the session" in page, "<button>Replay</button>" in page]
        assert shown == [has_body, has_person, has_person, removed_parts != "erased"], removed_parts
    by_hand(daemon.place, ERASURE)
    by_hand(daemon.place, "INSERT INTO erased_event (event_id, erasure_id) VALUES (1, 7)")
    page = own.get("/events/1").text
    assert "erased at 2023-11-14 22:13:20 UTC by ada (erasure 7)." in page


def test_an_event_that_is_held_says_so(daemon: Premblyd, own: Browser) -> None:
    reference = own.get("/events/2.json").json["reference"]
    hold = ("person", "hold", "--reference", reference, "--until", "7d", "--config", daemon.config)
    assert run(*hold).code == 0
    page = own.get("/events/2").text
    assert "It is on legal hold: none of it is deleted until the hold ends" in page


def test_a_replay_of_what_is_erased_or_has_no_body_says_why_not(
    daemon: Premblyd, own: Browser
) -> None:
    [(number, event), *_] = daemon.rows(
        "SELECT id, event_id FROM delivery WHERE action = 'archive' ORDER BY id"
    )
    replays = "SELECT count(*) FROM operator_action WHERE action = 'replay'"
    before = daemon.rows(replays)
    for parts, words in (
        ("erased", "its person was erased"),
        ("body", "the body of its event was deleted"),
    ):
        by_hand(daemon.place, removal(parts, event))
        assert words in own.post(f"/deliveries/{number}/replay").text
    assert daemon.rows(replays) == before
