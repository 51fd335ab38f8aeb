"""What the pages show and do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from premblyd.features.console import words as console_words
from premblyd.ground import privacy
from premblyd.record.filters import DeliveryFilter, EventFilter, OperatorFilter, RejectionFilter
from premblyd.record.listing import Chosen, filters_of
from tests.support.commands import PERSONAL, run
from tests.support.configuration import AT_ONCE, ONCE, shell
from tests.support.console import CONSOLE, Browser, opened, signed_in
from tests.support.daemon import Premblyd
from tests.support.database import changing, locked
from tests.support.rows import for_each
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process
NAMES = ("events", "events/1", "dead", "deliveries", "rejections", "actions", "operators", "days")
PAGES = {"/": "/overview.json", **{f"/{name}": f"/{name}.json" for name in NAMES}}


def test_every_page_has_its_json_shows_no_person_and_all_its_links_lead_somewhere(
    own: Browser,
) -> None:
    links: dict[str, str] = {}
    for path, as_json in PAGES.items():
        page, data = own.get(path), own.get(as_json)
        assert (page.status, data.status) == (200, 200)
        assert page.headers["Content-Type"] == "text/html; charset=UTF-8"
        assert data.headers["Content-Type"] == "application/json; charset=UTF-8"
        assert data.json
        assert f'href="{as_json}' in page.text
        for link in re.findall(r'<a href="(/[^"#]*)', page.text):  # one of each kind
            links[re.sub(r"\d+|=[^&]+", "", link)] = link.replace("&amp;", "&")
    assert len(links) > 20
    assert [link for link in links.values() if own.get(link).status not in (200, 303)] == []
    for path in (*PAGES, *PAGES.values(), "/events?code=00"):
        text = own.get(path).text
        assert [person for person in (*PERSONAL, "hush") if person in text] == [], path


def test_no_json_shows_a_type_or_a_code_that_a_sender_made_up(fresh: Premblyd) -> None:
    own = opened(fresh)
    for body in (
        {"event": "amina.okafor", "response_code": "AMINA"},
        {"event": "amina.bello", "response_code": "A-17"},
        {"data": {"event": "okafor"}, "response_code": "00"},
        {"event": "transaction.amina", "response_code": "E1"},
    ):
        assert fresh.send(json.dumps(body).encode()).status == 200
    paths = [*PAGES, *PAGES.values(), *(f"/events/{number}.json" for number in (1, 2, 3, 4))]
    shown = {path: own.get(path).text.lower() for path in [*paths, "/metrics"]}
    names = ("amina", "okafor", "bello", "a-17")
    assert [path for path, text in shown.items() if any(name in text for name in names)] == []
    counted = own.get("/overview.json").json
    assert {each["name"]: each["events"] for each in counted["by_type"]} == {privacy.MASK: 4}
    codes = {each["name"]: each["events"] for each in counted["by_response_code"]}
    assert codes == {"00": 1, "E1": 1, "other": 2}


@for_each(
    ("path", "command", "kind"),
    [
        ("/events", "events", EventFilter),
        ("/deliveries", "deliveries", DeliveryFilter),
        ("/rejections", "rejections", RejectionFilter),
        ("/operators", None, OperatorFilter),
    ],
)
def test_each_field_of_a_filter_is_an_option_and_a_part_of_the_form(
    own: Browser, path: str, command: str | None, kind: type[Chosen]
) -> None:
    page = own.get(path).text
    options = run(command, "--help").out if command else ""
    for each in filters_of(kind):
        assert bool(each.title) == (f'name="{each.name}"' in page), each.name
        option = f"--{(each.option or each.name).replace('_', '-')}"
        assert bool(each.help) == (f"  {option} " in options), option
        if each.is_offered:
            assert own.get(f"{path}.json?{each.name}=").status == 200
    assert own.get(f"{path}.json?due_after=1").status == 400, "what nobody is offered"


def test_the_list_of_events_says_how_the_worst_of_its_deliveries_stands(
    own: Browser, daemon: Premblyd
) -> None:
    rows = own.get("/events.json").json["events"]
    found = daemon.rows("SELECT event_id, state FROM delivery")
    for row in rows:
        states = [state for event, state in found if event == row["id"]]
        assert row["deliveries"] == len(states)
        assert (row["handled"] == "dead") == ("dead" in states)
        assert (row["handled"] == "none") == (not states)
    shown = re.findall(r'"Handled"><span[^>]*>([^<]+)<', own.get("/events").text)
    assert [word.replace("no action", "none") for word in shown] == [row["handled"] for row in rows]


def test_an_event_says_first_how_it_stands_and_shows_its_attempts_without_the_person(
    own: Browser, daemon: Premblyd
) -> None:
    [(event, key), *_] = daemon.rows(
        "SELECT event.id, key FROM event JOIN delivery ON event.id = event_id"
        " WHERE action = 'activate-customer' AND state = 'dead'"
    )
    page = own.get(f"/events/{event}").text
    assert f"<h1>Event {event} " in own.get(f"/events/{key}").text
    heading = page.partition("<h1>")[2].partition("</h1>")[0]
    assert "s-dead" in heading
    assert re.search(r"(delivery|deliveries) dead", heading)
    assert page.index('<h2 id="h-deliveries"') < page.index('<h2 id="h-stored"')
    assert not re.search(r"<dd>(<bdi[^>]*></bdi>)?</dd>", page), "nothing that is empty"
    assert "exit status 3" in page
    assert "&quot;bvn&quot;: &quot;•••&quot;" in page
    for path in ("/events/999999", f"/events/{'0' * 32}", "/deliveries/999999"):
        assert own.get(path).status == 404


def test_a_list_masks_what_a_sender_wrote_where_no_person_belongs(fresh: Premblyd) -> None:
    own = opened(fresh, shell("crm", "cat; exit 1", retry=ONCE))
    body = {
        "response_code": "00",
        "detail": "AMINA with 22200000042 was not found",
        "user_ref": "amina@example.com",
        "verification": {"status": "VERIFIED", "reference": "22200000042"},
    }
    fresh.send(json.dumps(body).encode())
    fresh.wait_for_rows([("dead",)], "SELECT state FROM delivery")
    lists = ("/events", "/dead", "/deliveries")
    forms = [f"{each}{form}" for each in lists for form in ("", ".json")]
    for path in ("/events/1", *forms):
        text = own.get(path).text
        assert "•••" in text, path
        assert not re.search("amina|2220000", text, re.IGNORECASE), path


@pytest.mark.promise
def test_a_reveal_is_on_record_before_it_shows(fresh: Premblyd) -> None:
    own = opened(fresh)
    fresh.send(b'{"response_code":"00","data":{"bvn":"22200000042","firstName":"AMINA"}}')
    assert "AMINA" not in own.get("/events/1").text
    again = own.get("/events/1/reveal")
    assert (again.status, again.location) == (303, "/events/1")
    shown = own.post("/events/1/reveal")
    assert shown.status == 200
    assert "AMINA" in shown.text
    assert "This was recorded:" in shown.text
    ((actor, event),) = fresh.rows(
        "SELECT actor, event_id FROM operator_action WHERE action = 'reveal'"
    )
    assert (re.sub(r".*\(", "(", actor), event) == ("(console session 1)", 1)
    assert own.post("/events/1/reveal.json").json["body"]["data"]["firstName"] == "AMINA"
    assert "AMINA" not in fresh.log_text()


def test_nothing_is_revealed_that_can_not_be_recorded(fresh: Premblyd) -> None:
    own = opened(fresh)
    fresh.send(b'{"data":{"firstName":"AMINA"}}')
    own.xsrf()
    with locked(fresh.place):
        page = own.post("/events/1/reveal")
    assert page.status == 503
    assert "AMINA" not in page.text


def test_a_delivery_is_replayed_tried_now_or_cancelled(fresh: Premblyd) -> None:
    script = f"test -e {fresh.folder}/mended"
    own = opened(
        fresh,
        shell("crm", script, "00", retry=ONCE),
        shell("later", "exit 1", "01", retry={"attempts": 3, "first_delay": "1h"}),
    )
    states = "SELECT state, attempt_count FROM delivery ORDER BY id"
    for code in ("00", "01"):
        fresh.send(b'{"response_code":"%s"}' % code.encode())
    fresh.wait_for_rows([("dead", 1), ("pending", 1)], states)
    (fresh.folder / "mended").touch()
    page = own.post("/deliveries/1/replay")
    assert (page.status, page.location) == (303, "/events/1?done=replayed#deliveries")
    assert console_words.DONE["replayed"] in own.get("/events/1?done=replayed").text
    assert own.post("/deliveries/2/replay.json").json["done"] == 1
    fresh.wait_for_rows([("succeeded", 2), ("pending", 2)], states)
    assert own.post("/deliveries/2/cancel").location == "/events/2?done=cancelled#deliveries"
    assert fresh.rows(states) == [("succeeded", 2), ("cancelled", 2)]
    refused = own.post("/deliveries/2/cancel.json")
    assert (refused.status, "Nothing was cancelled: " in refused.json["error"]) == (400, True)
    done = fresh.rows("SELECT actor, delivery_id FROM operator_action WHERE action = 'replay'")
    assert [(actor.rpartition(" (")[2], delivery) for actor, delivery in done] == [
        ("console session 1)", 1),
        ("console session 1)", 2),
    ]


@for_each(("verb", "state"), [("replay", "succeeded"), ("cancel", "cancelled")])
def test_dead_letters_are_replayed_and_cancelled_by_choice(
    tmp_path_factory: pytest.TempPathFactory, verb: str, state: str
) -> None:
    folder = tmp_path_factory.mktemp(verb)
    crm = shell("crm", f"test -e {folder}/mended", retry=ONCE)
    with Premblyd(folder, console=CONSOLE, actions=[crm]) as daemon:
        own = signed_in(daemon.start())
        for number in range(4):
            daemon.send(b'{"response_code":"00","n":%d}' % number)
        states = "SELECT state, count(*) FROM delivery GROUP BY 1 ORDER BY 1"
        daemon.wait_for_rows([("dead", 4)], states)
        (folder / "mended").touch()
        assert own.post(f"/dead/{verb}").status == 400, "nothing was chosen"
        chosen = [row["id"] for row in own.get("/dead.json?action=crm").json["deliveries"]][:2]
        page = own.post(f"/dead/{verb}", {"delivery": chosen})
        assert (page.status, page.location) == (303, "/dead")
        daemon.wait_for_rows(sorted([("dead", 2), (state, 2)]), states)
        word = {"replay": "queued", "cancel": "cancelled"}[verb]
        [row] = own.get(f"/operators.json?action={verb}").json["operator_actions"]
        assert (row["note"], row["parts"]) == ("2 dead deliveries", 2)
        parts = own.get(f"/operators.json?part_of={row['id']}").json["operator_actions"]
        assert {part["delivery_id"] for part in parts} == set(chosen)
        assert f"2 {word}</a>" in own.get("/operators").text


def test_of_many_attempts_the_newest_are_shown(fresh: Premblyd) -> None:
    own = opened(fresh, shell("crm", "exit 1", retry=ONCE))
    fresh.send(b'{"response_code":"00"}')
    fresh.wait_for_rows([("dead",)], "SELECT state FROM delivery")
    insert = """INSERT INTO attempt (delivery_id, number, worker, action_digest, claim_token,
    outcome, started_at_ms, finished_at_ms, output) VALUES (1, ?, '', '', '', 'failed', 0, 0, ?)"""
    with changing(fresh.place) as connection:
        connection.execute("UPDATE delivery SET attempt_count = 25")
        for number in range(2, 26):
            connection.execute(insert, (number, f"run {number}\n"))
    assert "run 25" not in own.get("/events/1").text, "what hooks print is hidden"
    text = own.post("/events/1/reveal").text
    assert ("run 25\n" in text, "run 6\n" in text, "run 5\n" in text) == (True, True, False)
    assert "5 earlier attempts are not shown here" in text


def test_the_overview_and_the_metrics_tell_that_nothing_can_be_stored(fresh: Premblyd) -> None:
    own = opened(fresh)
    number = 'premblyd_needs_attention{kind="database"}'
    assert f"{number} 0.0" in own.get("/metrics").text
    with locked(fresh.place):
        assert fresh.send(b'{"response_code": "00"}').status == 503
        [item] = own.get("/overview.json").json["attention"]
        assert (item["kind"], item["severity"]) == ("database", "urgent")
        assert re.search("database is locked|another transaction holds", item["text"])
        assert "can&#x27;t store webhooks" in own.get("/").text
        assert f"{number} 1.0" in own.get("/metrics").text
    # On a full disk some commits find room and others do not: one that works ends nothing at once.
    wait_until(lambda: fresh.send(b'{"response_code": "00"}').status == 200)
    # A busy server may fail another commit that had waited, too.
    wait_until(lambda: "premblyd_store_up 1.0" in own.get("/metrics").text)
    assert f"{number} 1.0" in own.get("/metrics").text


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202egnp.exe\x07"


def test_what_a_sender_wrote_stays_text(tmp_path: Path) -> None:
    names = ("response_code", "status", "detail", "message", "reference", "user_ref")
    body: dict[str, Any] = dict.fromkeys(names, HOSTILE)
    body["verification"] = {"status": HOSTILE, "reference": HOSTILE}
    body["data"] = {HOSTILE: HOSTILE, "list": [HOSTILE, {HOSTILE: [HOSTILE]}]}
    prints = shell("crm", f"cat; printf '%s' '{HOSTILE.replace(chr(39), '')}'; exit 1", retry=ONCE)
    with Premblyd(tmp_path, console=CONSOLE, actions=[prints]) as daemon:
        daemon.start()
        daemon.send(json.dumps(body).encode(), User_Agent="<script>alert(3)</script>")
        daemon.send(HOSTILE.encode())
        daemon.wait_for_rows([(2,)], "SELECT count(*) FROM delivery WHERE state = 'dead'")
        own = signed_in(daemon)
        pages = [own.get(path) for path in (*PAGES, "/events/2", "/events?code=" + "%3Cscript%3E")]
        pages += [own.post(f"/events/{number}/reveal") for number in (1, 2)]
        for page in pages:
            assert page.status == 200
            assert not re.search(
                r'<script(?! src="/static/)|<img|onerror=(?!alert\(2\)&gt;)', page.text
            )
            assert "\u202e" not in page.text
            assert "\x07" not in page.text
        assert "&lt;script&gt;alert(1)" in pages[-2].text


def test_a_huge_payload_is_a_page_of_bounded_size(fresh: Premblyd) -> None:
    own = opened(fresh)
    photo = "/9j/" + "A" * 400_000
    body = {"photo": photo, "keys": {f"key {n}": n for n in range(10_000)}, "text": "é" * 500_000}
    assert fresh.send(json.dumps(body).encode()).status == 200
    for page in (own.get("/events/1"), own.post("/events/1/reveal")):
        assert page.status == 200
        assert len(page.body) < 500_000
        assert "AAAA" not in page.text
        assert "… and more; the JSON shows all" in page.text


# Every key of an action, in each of its forms.
CONFIGURED: list[dict[str, Any]] = [
    shell("plain", "exit 1", output="plain", env={"A": "b"}, concurrency={"cluster": 3}),
    shell("confirmed", "true", "00", confirm=True, once="reference", order="reference"),
    shell("unstated", "exit 1", confirm={"unstated": ["face_match", "user_ref"]}, retry=ONCE,
          order={"by": "reference", "then": "wait"}),
    {"name": "posted", "response_codes": ["default", "missing"], "types": ["*"],
     "when": "outcome == 'verified'", "retry": AT_ONCE,
     "http": {"url": "http://127.0.0.1:1/hook", "timeout": "3s", "send": {"select": "body"},
              "headers": {"Authorization": "hush"},
              "sign_with": "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo"}},
]  # fmt: skip


def test_every_page_and_its_json_bears_every_key_of_the_configuration(fresh: Premblyd) -> None:
    prembly = {"url": "http://127.0.0.1:1", "api_key": "hush"}
    own = opened(fresh, *CONFIGURED, prembly=prembly, pending={})
    body = json.dumps(
        {"response_code": "00", "verification": {"reference": "r", "status": "PENDING"}}
    )
    assert fresh.send(body.encode()).status == 200
    wait_until(lambda: fresh.rows("SELECT 1 FROM delivery WHERE attempt_count > 0"))
    for path, as_json in PAGES.items():
        assert (own.get(path).status, own.get(as_json).status) == (200, 200), path
    configured = own.get("/actions.json").json["configured"]
    assert [configured[name]["confirm"] for name in ("plain", "confirmed")] == [False, True]
    assert configured["unstated"]["unstated"] == ["face_match", "user_ref"]


@for_each(
    ("path", "words"),
    [
        ("/events.json?outcom=verified", "There is no filter outcom here"),
        ("/events?since=yesterday&outcome=fine", "should be one of verified"),
        ("/rejections.json?since=yesterday", "should be a time"),
        ("/events.json?before=x", "should be a row"),
        ("/deliveries.json?stat=dead", "There is no filter stat here"),
        (f"/events?reference={'r' * 201}", "should have 200 characters at most"),
        ("/overview.json?since=7days", "since should be one of 24h, 7d, 30d"),
    ],
)
def test_a_filter_that_is_mistyped_is_refused_and_lists_nothing(
    own: Browser, path: str, words: str
) -> None:
    page = own.get(path)
    assert (page.status, "192.0.2" in page.text) == (400, False)
    assert words in re.sub("`|</?[a-z]+>", "", page.text)
