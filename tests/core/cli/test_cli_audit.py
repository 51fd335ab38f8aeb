"""The commands that read the record, and those that change it: events, show, deliveries, replay,
cancel."""

import base64
import json
from pathlib import Path

import pytest

from tests.support.commands import PERSONAL, Ran, json_of, read, recorded_in, run
from tests.support.configuration import shell
from tests.support.daemon import Premblyd
from tests.support.database import by_hand, locked
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


def test_events_filters(config: Path) -> None:
    for options, where in (
        (["--code", "missing"], "response_code IS NULL"),
        (["--outcome", "not_verified"], "outcome = 'not_verified'"),
        (["--reference", "sample-sdk-0001"], "reference = 'sample-sdk-0001'"),
        (["--user-ref", "usr_000042"], "user_ref = 'usr_000042'"),
        (["--since", "2026-01-31", "--until", "2100-01-01T00:00+01:00"], "1 = 1"),
        (["--until", "1h"], "1 = 0"),
    ):
        listed = [one["id"] for one in json_of(config, "events", "--limit", 1000, *options)]
        stored = read(config, f"SELECT id FROM event WHERE {where} ORDER BY id DESC")
        assert listed == [number for (number,) in stored], options


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
    settings["actions"][2]["output"] = "plain"
    config.write_text(json.dumps(settings))
    for action, shown in (("page-operations", "paged for 0"), ("archive", "hidden")):
        [(event,)] = read(config, f"SELECT min(event_id) FROM delivery WHERE action = '{action}'")
        assert f"     | {shown}" in run("show", event, "--config", config).out


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
def test_show_of_a_large_body_with_photos_and_many_people_is_not_endless(config: Path) -> None:
    photo = base64.b64encode(bytes(range(256)) * 20_000).decode()
    people = [{"name": f"name {at:x}", "bvn": str(22200000000 + at)} for at in range(50_000)]
    whole = {"response_code": "00", "base64Image": photo, "images": [photo], "data": people}
    body = json.dumps(whole)
    by_hand(recorded_in(config), "UPDATE event SET body = ? WHERE id = 1", body.encode())
    by_hand(recorded_in(config), "UPDATE attempt SET output = ?", body[:65536])
    masked = run("show", 1, "--config", config).out
    assert "… and more; the JSON shows all" in masked
    assert not [text for text in ("2220000", photo[100:200]) if text in masked]
    revealed = run("show", 1, "--reveal", "--config", config).out
    assert f'"base64Image": "… {len(photo):,} characters"' in revealed
    assert json_of(config, "show", 1, "--reveal")["body"] == whole


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
    dead = json_of(config, "deliveries", "--state", "dead")
    (delivery,) = [one for one in dead if one["reference"] == "sample-sdk-0001"]
    assert (delivery["action"], delivery["last_error"]) == ("activate-customer", "exit status 3")
    printed = run("show", delivery["event_id"], "--config", config).out
    assert f"Delivery {delivery['id']}: activate-customer dead\n" in printed
    assert "failed: exit status 3" in printed
    assert "\n     | hidden (--reveal shows it)\n" in printed
    revealed = run("show", delivery["event_id"], "--reveal", "--config", config).out
    assert "\n     | no\n" in revealed


def test_replay_of_an_event_queues_all_its_finished_deliveries(config: Path) -> None:
    (event,) = json_of(config, "events", "--reference", "sample-sdk-0001")
    assert run("replay", event["key"], "--config", config) == Ran(0, "Queued 2 deliveries.\n", "")
    stand = "SELECT state, attempts_left FROM delivery WHERE event_id = ?"
    assert sorted(read(config, stand, event["id"])) == [("pending", 1), ("pending", 10)]
    again = run("replay", event["id"], "--config", config)
    left = "Left alone: 2, because they are pending or running.\n"
    assert again.out == f"Queued 0 deliveries.\n{left}"


def test_replay_of_one_delivery(config: Path) -> None:
    dead = ids(config, "dead")[0]
    assert run("replay", "--delivery", dead, "--config", config).out == "Queued 1 delivery.\n"
    again = run("replay", "--delivery", dead, "--config", config)
    assert again.out == "Queued 1 delivery.\n", "it is pending, and due at once"
    missing = run("replay", "--delivery", 9999, "--config", config)
    assert missing == Ran(1, "", "There is no delivery 9999. `premblyd deliveries` lists them.\n")


@for_each("options", [[], ["--action", "archive"], ["--since", "1h"]])
def test_replay_wants_to_know_what(config: Path, options: list[str]) -> None:
    before = read(config, STATES)
    done = run("replay", *options, "--config", config)
    assert done.code == 2
    assert "Say what to replay: EVENT, --delivery ID, --dead, --pending, or --action" in done.err
    assert read(config, STATES) == before


def test_cancel_takes_no_delivery_that_has_ended_well(config: Path) -> None:
    waiting, finished = ids(config, "pending")[0], ids(config, "succeeded")[0]
    done = run("cancel", "--delivery", waiting, "--config", config)
    assert done == Ran(0, f"Cancelled delivery {waiting}.\n", "")
    assert waiting in ids(config, "cancelled")
    only = "only a pending or dead one can be cancelled.\n"
    for number, why in (
        (waiting, f"Delivery {waiting}: cancelled; {only}"),
        (finished, f"Delivery {finished}: succeeded; {only}"),
        (9999, "There is no delivery 9999. `premblyd deliveries` lists them.\n"),
    ):
        assert run("cancel", "--delivery", number, "--config", config) == Ran(1, "", why)


def test_dead_deliveries_are_cancelled_as_filters_choose_them(config: Path) -> None:
    some = ("--type", "verification.*", "--error", "status 3")
    listed = json_of(config, "deliveries", "--state", "dead", *some, "--limit", 1000)
    chosen = sorted(each["id"] for each in listed)
    every, before = ids(config, "dead"), ids(config, "cancelled")
    assert 1 < len(chosen) < len(every)
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


def test_what_can_not_be_meant_cancels_nothing(config: Path) -> None:
    before = ids(config, "dead")
    for arguments, code, message in (
        ([], 2, "Say what to cancel: --delivery ID, or --dead."),
        (["--delivery", 1, "--error", "x"], 2, "--delivery can't be combined"),
        (["--dead", "--action", "archiv"], 1, "There is no action archiv."),
    ):
        done = run("cancel", *arguments, "--config", config)
        assert (done.code, message in done.err) == (code, True), done.err
    assert ids(config, "dead") == before


@for_each("arguments", [["show", "x"], ["replay", "9999"]])
def test_an_event_that_is_not_there(config: Path, arguments: list[str]) -> None:
    done = run(*arguments, "--config", config)
    assert done == Ran(1, "", f"There is no event {arguments[1]}. `premblyd events` lists them.\n")


@pytest.mark.sqlite
def test_without_a_database_they_say_who_makes_it(config: Path) -> None:
    config.with_name("premblyd.db").unlink()
    for arguments in (["events"], ["deliveries"], ["show", "1"], ["replay", "1"]):
        done = run(*arguments, "--config", config)
        assert (done.code, done.out) == (1, "")
        assert "the daemon makes it: run `premblyd serve`." in done.err


@pytest.mark.sqlite
def test_a_locked_database_is_a_try_again(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("premblyd.store.sqlite.opening.BUSY_TIMEOUT_S", 0)
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
