"""Another choice of an action's events is rehearsed on its page, and nothing is done or kept."""

import json
from typing import Any

from tests.support.configuration import shell
from tests.support.console import Browser, opened
from tests.support.daemon import Premblyd
from tests.support.waiting import wait_until

FORM, PATH = "/actions/archive/rehearsal", "/actions/archive/rehearse"
CHOICE = {"types": "*", "response_codes": "00, missing", "when": "outcome == 'verified'"}
DONE = (
    "SELECT count(*) FROM operator_action WHERE action NOT LIKE 'sign-%' AND action != 'rehearse'"
)


def choice(**changes: Any) -> dict[str, Any]:
    return CHOICE | changes


def test_another_when_is_rehearsed_with_the_events_behind_each_number(
    own: Browser, daemon: Premblyd
) -> None:
    kept = daemon.rows(DONE), daemon.config.read_text(), own.get("/actions.json").json["configured"]
    assert f'href="{FORM}"' in own.get("/actions").text
    assert 'value="00"' in own.get(FORM).text
    assert own.get(f"{FORM}.json").json["typed"]["response_codes"] == "00"
    found = own.post(f"{PATH}.json", choice()).json["found"]
    listed = {row["id"]: row for row in own.get("/events.json?code=00").json["events"]}
    others = {number for number, row in listed.items() if row["outcome"] != "verified"}
    fewer = [each for each in found["figures"] if each["difference"] == "fewer"]
    assert others <= {number for each in fewer for number in each["events"]}
    assert {each["action"] for each in found["figures"]} == {"archive"}
    assert {each["why"] for each in fewer} == {"`when` is false: outcome == 'verified'"}
    page = own.post(PATH, choice())
    assert page.status == 200
    assert f'<a href="/events/{fewer[0]["events"][0]}">' in page.text
    same = own.post(PATH, choice(response_codes="00", when=""))
    assert "Nothing would differ from the record." in same.text
    few = own.post(f"{PATH}.json", choice(most="3")).json["found"]
    assert few["events"] == 3
    assert own.post(f"{PATH}.json", choice(most="9" * 5000)).json["found"]["events"] > 3
    assert kept == (
        daemon.rows(DONE),
        daemon.config.read_text(),
        own.get("/actions.json").json["configured"],
    )


def test_who_rehearsed_what_is_on_record_as_what_matches_says_what_stands_in_a_body(
    own: Browser, daemon: Premblyd
) -> None:
    before = daemon.rows("SELECT COALESCE(max(id), 0) FROM operator_action")[0][0]
    assert own.post(PATH, choice(when="detail == 'Ada'")).status == 200
    said = "SELECT action, note FROM operator_action WHERE id > " + str(before)
    assert daemon.rows(said) == [("rehearse", "archive")]


def test_what_is_no_choice_is_said_beside_what_was_typed(own: Browser) -> None:
    for fields, message in (
        (choice(when="outcome = 'verified'"), "`==` compares"),
        (choice(when="nobody == `1`"), "nobody"),
        (choice(response_codes=""), "`response_codes` should not be empty"),
        (choice(types="a b/c"), "`types`"),
    ):
        answer = own.post(PATH, fields)
        assert (answer.status, message in answer.text) == (400, True), (fields, answer.text)
        assert 'role="alert"' in answer.text
    assert "outcome = " in own.post(PATH, choice(when="outcome = 'verified'")).text
    assert own.get("/actions/nobody/rehearsal").status == 404
    assert own.request("POST", PATH).status == 403, "no form of its own"
    elsewhere = own.post(PATH, choice(), Sec_Fetch_Site="cross-site", Origin="http://x")
    assert elsewhere.status == 403


def test_what_a_sender_made_up_as_type_or_code_is_masked(fresh: Premblyd) -> None:
    own = opened(fresh, shell("crm", "true", "*"))
    body = {"event": "zainab.okafor", "response_code": "22200000042", "reference": "r-1"}
    assert fresh.send(json.dumps(body).encode()).status == 200
    wait_until(lambda: fresh.rows("SELECT 1 FROM delivery WHERE state = 'succeeded'"))
    for fields in (choice(response_codes="00"), choice(types="sdk.session", response_codes="*")):
        for path in ("/actions/crm/rehearse", "/actions/crm/rehearse.json"):
            text = own.post(path, fields).text
            assert "fewer" in text
            assert "22200000042" not in text
            assert "zainab" not in text
