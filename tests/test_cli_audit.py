"""The commands that read the record, and those that change it: events, show, deliveries, replay,
cancel."""

import base64
import json
from pathlib import Path

import pytest

from tests.support.commands import PERSONAL, Ran, json_of, read, recorded_in, run
from tests.support.configuration import configuration, shell
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, changing, locked, url_of
from tests.support.rows import for_each

STATES = "SELECT id, state, attempts_left FROM delivery ORDER BY id"
BY_STATE = "SELECT id FROM delivery WHERE state = ? AND action LIKE ? ORDER BY id"


def ids(config: Path, state: str, action: str = "%") -> list[int]:
    return [number for (number,) in read(config, BY_STATE, state, action)]


def test_events_lists_the_newest_first_and_no_payload(config: Path) -> None:
    listed = json_of(config, "events", "--limit", 5)
    stored = read(config, "SELECT id FROM event ORDER BY id DESC LIMIT 5")
    assert [(one["id"],) for one in listed] == stored
    assert not {"body", "headers", "token", "session_id"} & set(listed[0])
    table = run("events", "--limit", 1000, "--config", config)
    assert len(table.out.splitlines()) == 1 + read(config, "SELECT count(*) FROM event")[0][0]
    assert not [text for text in PERSONAL if text in table.out]


@for_each(
    ("options", "where"),
    [
        (["--code", "00"], "response_code = '00'"),
        (["--code", "missing"], "response_code IS NULL"),
        (["--outcome", "not_verified"], "outcome = 'not_verified'"),
        (["--reference", "sample-sdk-0001"], "reference = 'sample-sdk-0001'"),
        (["--user-ref", "usr_000042"], "user_ref = 'usr_000042'"),
        (["--since", "1h"], "1 = 1"),
        (["--since", "2026-01-31", "--until", "2100-01-01T00:00+01:00"], "1 = 1"),
        (["--since", "2100-01-01"], "1 = 0"),
        (["--until", "1h"], "1 = 0"),
    ],
)
def test_events_filters(config: Path, options: list[str], where: str) -> None:
    listed = {one["id"] for one in json_of(config, "events", "--limit", 1000, *options)}
    assert listed == {number for (number,) in read(config, f"SELECT id FROM event WHERE {where}")}
    assert listed or where == "1 = 0"


@for_each("time", ["yesterday", "400d", "12"])
def test_a_time_that_is_none_is_a_wrong_use(config: Path, time: str) -> None:
    done = run("events", "--since", time, "--config", config)
    assert done.code == 2
    assert f"{time!r} is neither a time such as 2026-01-31 nor an age such as 12h" in done.err


def test_show_masks_personal_data_also_where_a_hook_printed_it(config: Path) -> None:
    for reference in ("sample-api-0001", "sample-sdk-0001"):
        (event,) = json_of(config, "events", "--reference", reference)
        printed = run("show", event["key"], "--config", config).out
        exact = json_of(config, "show", event["id"])
        assert not [text for text in PERSONAL if text in printed + json.dumps(exact)]
        assert (exact["token"], exact["reference"]) == ("•••", reference)
        assert exact["body"]["verification"] == {"status": "VERIFIED", "reference": reference}
        outputs = {one["output"] for each in exact["deliveries"] for one in each["attempts"]}
        assert outputs == {"•••"}, "archive prints the body"
        assert "     | hidden (--reveal shows it)" in printed
    assert read(config, "SELECT count(*) FROM operator_action WHERE action = 'reveal'") == [(1,)]


def test_what_a_hook_printed_is_shown_where_its_action_says_that_it_is_plain(config: Path) -> None:
    settings = json.loads(config.read_text())
    for action in settings["actions"]:
        if action["name"] == "page-operations":
            action["output"] = "plain"
    config.write_text(json.dumps(settings))
    [(event,)] = read(config, "SELECT min(event_id) FROM delivery WHERE action = 'page-operations'")
    assert "     | paged for 0" in run("show", event, "--config", config).out
    [other] = read(config, "SELECT min(event_id) FROM delivery WHERE action = 'archive'")
    assert "     | hidden" in run("show", other[0], "--config", config).out


def test_why_a_delivery_died_is_shown_though_its_output_is_not(config: Path) -> None:
    (event,) = json_of(config, "events", "--reference", "sample-sdk-0001")
    (dead,) = (
        each
        for each in json_of(config, "show", event["id"])["deliveries"]
        if each["state"] == "dead"
    )
    assert (dead["last_error"], dead["attempts"][0]["error"]) == ("exit status 3", "exit status 3")


SPELLINGS = ("cat", "base64", "od -An -tx1", "tr a-z A-Z", "rev", "sed 's/./& /g'", "tac -s,")


@pytest.mark.process
def test_show_masks_a_person_in_every_place_and_in_every_spelling_of_a_hook(tmp_path: Path) -> None:
    number = "221:234:567:89"
    body = {
        "response_code": number,
        "status": f"BVN {number}",
        "detail": f"AMINA YUSUF with {number} was not found",
        "reference": number,
        "user_ref": "AMINA YUSUF",
        "verification": {"status": "AMINA YUSUF", "reference": number},
        "data": {number: "a", "22123456789": {"AMINA YUSUF": 1, "name": "AMINA YUSUF"}},
    }
    actions = [
        shell(f"spells-{at}", f"{spelling}; exit 3", retry={"attempts": 1})
        for at, spelling in enumerate(SPELLINGS)
    ]
    with Premblyd(tmp_path, actions=actions) as daemon:
        daemon.start().send(json.dumps(body).encode(), token="hush-token")
        daemon.wait_for_rows(
            [(len(SPELLINGS),)], "SELECT count(*) FROM attempt WHERE finished_at_ms IS NOT NULL"
        )
        printed = run("show", 1, "--config", daemon.config).out
        exact = json_of(daemon.config, "show", 1)
    for text in (printed, json.dumps(exact, ensure_ascii=False)):
        for hush in (number, "22123456789", "AMINA", "YUSUF", "ANIMA", "hush-token"):
            assert hush not in text
            for spelt in (hush.encode().hex(), hush.encode().hex(" "), " ".join(hush)):
                assert spelt not in text
        assert base64.b64encode(b'{"response_code').decode() not in text
    assert exact["detail"] == "••• ••• with ••• was not found"
    assert exact["body"]["data"] == {"••• 1": "•••", "••• 2": {"••• 1": "•••", "name": "•••"}}
    assert [one["state"] for one in exact["deliveries"]] == ["dead"] * len(SPELLINGS)


@pytest.mark.large
def test_show_of_a_large_body_shows_photos_as_their_size(config: Path) -> None:
    photo = base64.b64encode(bytes(range(256)) * 20_000).decode()
    body = json.dumps({"response_code": "00", "data": {"base64Image": photo, "images": [photo]}})
    by_hand(recorded_in(config), "UPDATE event SET body = ? WHERE id = 1", body.encode())
    by_hand(recorded_in(config), "UPDATE attempt SET output = ?", body[:65536])
    assert photo[100:200] not in run("show", 1, "--config", config).out
    revealed = run("show", 1, "--reveal", "--config", config).out
    assert f'"base64Image": "… {len(photo):,} characters"' in revealed
    assert json_of(config, "show", 1, "--reveal")["body"] == json.loads(body)


@pytest.mark.large
def test_show_of_a_body_with_many_fields_is_not_endless(config: Path) -> None:
    people = [{"name": f"name {at:x}", "bvn": str(22200000000 + at)} for at in range(50_000)]
    body = json.dumps({"response_code": "00", "data": people})
    by_hand(recorded_in(config), "UPDATE event SET body = ? WHERE id = 1", body.encode())
    by_hand(recorded_in(config), "UPDATE attempt SET output = ?", body[:65536])
    masked = run("show", 1, "--config", config).out
    assert "… and more; the JSON shows all" in masked
    assert "2220000" not in masked
    assert len(json_of(config, "show", 1)["body"]["data"]) == len(people)


def test_show_reveals_on_request_and_records_who_looked(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "the-auditor")
    (event,) = json_of(config, "events", "--reference", "sample-api-0001")
    exact = json_of(config, "show", event["id"], "--reveal")
    assert exact["body"]["data"]["bvn"] == "22200000042"
    assert exact["token"].startswith("token-")
    assert ["Content-Type", "application/json"] in exact["headers"]
    printed = run("show", event["id"], "--reveal", "--config", config).out
    assert "AMINA" in printed
    assert "    Content-Type: application/json\n" in printed
    looks = "SELECT actor, action, event_id FROM operator_action WHERE actor = 'the-auditor'"
    assert read(config, looks) == [("the-auditor", "reveal", event["id"])] * 2


def test_show_tells_how_each_attempt_ended(config: Path) -> None:
    (delivery,) = [
        one
        for one in json_of(config, "deliveries", "--state", "dead")
        if one["reference"] == "sample-sdk-0001"
    ]
    assert (delivery["action"], delivery["last_error"]) == ("activate-customer", "exit status 3")
    printed = run("show", delivery["event_id"], "--config", config).out
    assert f"Delivery {delivery['id']}: activate-customer dead after 1 attempt\n" in printed
    assert "failed: exit status 3" in printed
    assert "\n     | hidden (--reveal shows it)\n" in printed
    revealed = run("show", delivery["event_id"], "--reveal", "--config", config).out
    assert "\n     | no\n" in revealed


ASKED = """INSERT INTO attempt (delivery_id, number, worker, action_digest, started_at_ms,
    finished_at_ms, outcome, error, claim_token)
    VALUES (?, ?, 'w', 'd', 1, 2, 'interrupted', 'not known yet', '')"""


def test_show_counts_apart_the_attempts_that_only_asked(config: Path) -> None:
    ((number, event_id),) = read(
        config, f"SELECT id, event_id FROM delivery WHERE id = {ids(config, 'dead')[0]}"
    )
    with changing(recorded_in(config), unchecked=True) as database:
        for attempt in (2, 3):
            database.execute(ASKED, [number, attempt])
        database.execute("UPDATE delivery SET attempt_count = 3 WHERE id = ?", [number])
    printed = run("show", event_id, "--config", config).out
    assert " dead after 1 attempt and 2 interrupted ones\n" in printed
    listed = run("deliveries", "--event", event_id, "--config", config).out.splitlines()
    (row,) = [line for line in listed if line.startswith(f"{number} ")]
    assert row[listed[0].index("attempts") :].split()[0] == "3"


INQUIRY = """INSERT INTO inquiry (at_ms, purpose, event_id, reference, result, duration_ms,
    http_status, error) VALUES (1, 'confirm', 1, 'r', 'not_found', 2, 404, ?)"""


def test_show_tells_the_status_of_an_answer_once(config: Path) -> None:
    by_hand(recorded_in(config), INQUIRY, "HTTP 404")
    by_hand(recorded_in(config), INQUIRY, "something else")
    printed = run("show", "1", "--config", config).out
    assert "not_found  (2 ms; HTTP 404, 0 bytes)\n" in printed
    assert "not_found: something else  (2 ms; HTTP 404, 0 bytes)\n" in printed


def test_replay_of_an_event_queues_all_its_finished_deliveries(config: Path) -> None:
    (event,) = json_of(config, "events", "--reference", "sample-sdk-0001")
    assert run("replay", event["key"], "--config", config) == Ran(0, "Queued 2 deliveries.\n", "")
    states = read(
        config, "SELECT state, attempts_left FROM delivery WHERE event_id = ?", event["id"]
    )
    assert sorted(states) == [("pending", 1), ("pending", 10)]
    again = run("replay", event["id"], "--config", config)
    assert again.out == (
        "Queued 0 deliveries.\nNot replayed, because they are pending or running: 2.\n"
    )


def test_replay_of_one_delivery(config: Path) -> None:
    dead = ids(config, "dead")[0]
    assert run("replay", "--delivery", dead, "--config", config).out == "Queued 1 delivery.\n"
    assert run("replay", "--delivery", dead, "--config", config).code == 1
    missing = run("replay", "--delivery", 9999, "--config", config)
    assert missing == Ran(1, "", "There is no delivery 9999. `premblyd deliveries` lists them.\n")


@pytest.mark.parametrize("options", [[], ["--action", "archive"], ["--since", "1h"], ["--yes"]])
def test_replay_wants_to_know_what(config: Path, options: list[str]) -> None:
    before = read(config, STATES)
    done = run("replay", *options, "--config", config)
    assert done.code == 2
    assert "Say what to replay: EVENT, --delivery ID, --dead, --pending, or --action" in done.err
    assert read(config, STATES) == before


def test_replay_leaves_what_has_no_action_any_more(config: Path) -> None:
    dead = len(ids(config, "dead"))
    config.write_text(json.dumps(configuration(database=url_of(recorded_in(config)))))
    done = run("replay", "--dead", "--config", config)
    assert done.out.splitlines() == [
        "Queued 0 deliveries.",
        f"Not replayed, because the configuration has no action activate-customer: {dead}.",
    ]


def test_cancel_takes_no_delivery_that_has_ended_well(config: Path) -> None:
    waiting, finished = ids(config, "pending")[0], ids(config, "succeeded")[0]
    done = run("cancel", "--delivery", waiting, "--config", config)
    assert done == Ran(0, f"Cancelled delivery {waiting}.\n", "")
    assert waiting in ids(config, "cancelled")
    for number, why in (
        (
            waiting,
            f"Delivery {waiting} is cancelled; only a pending or dead one can be cancelled.\n",
        ),
        (
            finished,
            f"Delivery {finished} has succeeded; only a pending or dead one can be cancelled.\n",
        ),
        (9999, "There is no delivery 9999. `premblyd deliveries` lists them.\n"),
    ):
        assert run("cancel", "--delivery", number, "--config", config) == Ran(1, "", why)


def test_dead_deliveries_are_cancelled_as_filters_choose_them(config: Path) -> None:
    some = ("--type", "verification.*", "--error", "status 3")
    listed = json_of(config, "deliveries", "--state", "dead", *some, "--limit", 1000)
    chosen = sorted(each["id"] for each in listed)
    every, before = ids(config, "dead"), ids(config, "cancelled")
    assert 1 < len(chosen) < len(every)
    dry = run("cancel", "--dead", *some, "--dry-run", "--config", config)
    assert dry.out.splitlines()[0] == f"Would cancel {len(chosen)} dead deliveries."
    assert ids(config, "dead") == every
    done = run("cancel", "--dead", "--type", "no.such", "--json", "--config", config)
    assert json.loads(done.out) == {"cancelled": 0}
    done = run("cancel", "--dead", *some, "--config", config)
    assert done == Ran(0, f"Cancelled {len(chosen)} dead deliveries.\n", "")
    assert sorted(ids(config, "cancelled")) == sorted(before + chosen)
    assert sorted(ids(config, "dead")) == sorted(set(every) - set(chosen))
    columns = "id, delivery_id, note, part_of_id"
    is_new = "action = 'cancel' AND (note IS NOT NULL OR part_of_id IS NOT NULL)"
    recorded = read(config, f"SELECT {columns} FROM operator_action WHERE {is_new} ORDER BY id")
    (whole, *about), *parts = recorded
    assert about == [None, f"{len(chosen)} dead deliveries", None]
    assert sorted(row[1] for row in parts) == sorted(chosen)
    assert {row[3] for row in parts} == {whole}
    assert run("replay", "--delivery", chosen[0], "--config", config).code == 0


@for_each(
    ("arguments", "code", "message"),
    [
        ([], 2, "Say what to cancel: --delivery ID, or --dead."),
        (["--delivery", 1, "--dead"], 2, "Say what to cancel: --delivery ID, or --dead."),
        (["--delivery", 1, "--action", "archive"], 2, "--delivery can't be combined"),
        (["--delivery", 1, "--dry-run"], 2, "--delivery can't be combined"),
        (["--dead", "--action", "archiv"], 1, "did you mean archive?"),
    ],
)
def test_what_can_not_be_meant_cancels_nothing(
    config: Path, arguments: list[object], code: int, message: str
) -> None:
    before = ids(config, "dead")
    done = run("cancel", *arguments, "--config", config)
    assert (done.code, message in done.err) == (code, True), done.err
    assert ids(config, "dead") == before


def test_cancel_needs_no_more_of_the_configuration_than_its_database(config: Path) -> None:
    config.write_text(config.read_text().replace('"endpoints"', '"endpionts"'))
    done = run("cancel", "--delivery", ids(config, "pending")[0], "--config", config)
    assert (done.code, done.out[:9]) == (0, "Cancelled")
    assert "problem" in done.err


@pytest.mark.parametrize("arguments", [["show", "9999"], ["show", "x"], ["replay", "9999"]])
def test_an_event_that_is_not_there(config: Path, arguments: list[str]) -> None:
    done = run(*arguments, "--config", config)
    assert done == Ran(1, "", f"There is no event {arguments[1]}. `premblyd events` lists them.\n")


def test_a_deliverys_number_in_the_place_of_an_events_is_hinted_at(config: Path) -> None:
    with changing(recorded_in(config), unchecked=True) as database:
        moved = "(SELECT min(id) FROM delivery WHERE event_id = 1)"
        database.execute(f"UPDATE delivery SET id = 999 WHERE id = {moved}")
    done = run("replay", "999", "--config", config)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "There is no event 999. `premblyd events` lists them. If you mean delivery 999 (event 1):"
        " `premblyd replay --delivery 999`.\n"
    )


@pytest.mark.sqlite
def test_without_a_database_they_say_who_makes_it(config: Path) -> None:
    config.with_name("premblyd.db").unlink()
    for arguments in (["events"], ["deliveries"], ["show", "1"], ["replay", "1"]):
        done = run(*arguments, "--config", config)
        assert (done.code, done.out) == (1, "")
        assert "the daemon makes it: run `premblyd serve`." in done.err


@pytest.mark.sqlite
def test_a_locked_database_is_a_try_again(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("premblyd.engines.sqlite.opening.BUSY_TIMEOUT_S", 0)
    waiting = ids(config, "pending")[0]
    with locked(config.with_name("premblyd.db")):
        done = run("cancel", "--delivery", waiting, "--config", config)
    assert (done.code, done.out) == (75, "")
    assert "database is locked" in done.err


def test_the_database_of_another_build_is_refused_with_the_remedy(config: Path) -> None:
    by_hand(recorded_in(config), "UPDATE record SET schema_digest = 'other'")
    done = run("events", "--config", config)
    assert done.code == 78
    assert "was made by another build of premblyd" in done.err


def test_no_link_is_printed_while_no_daemon_runs(config: Path) -> None:
    done = run("console", "--config", config)
    assert (done.code, done.out) == (75, "")
    assert done.err == "premblyd is not running. Start it with `premblyd serve`, and try again.\n"
