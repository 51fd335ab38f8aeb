"""The stand-in for Prembly's API: that it is as the pages say, so that what is built upon it is."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

from tests.support import prembly_api
from tests.support.prembly_api import PremblyApi


def ask(api: PremblyApi, path: str, **headers: str) -> tuple[int, Any]:
    sent = {
        "x-api-key": api.key,
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    request = urllib.request.Request(api.url + path, headers=sent)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_verification_is_found_by_each_of_its_ids(api: PremblyApi) -> None:
    known = api.know("0b7c9f1d-1111-4222-8333-444455556666", session_id="sdk_session_1")
    for identifier in (known.reference, known.reference.replace("-", "_"), "sdk_session_1"):
        code, answer = ask(api, f"/api/v1/verification/api/status/{identifier}/")
        assert (code, answer["data"]["reference"]) == (200, known.reference)
        assert api.asked(identifier) == 1
    assert ask(api, "/api/v1/verification/api/status/nobody/")[0] == 404


def test_who_has_no_key_gets_401_and_the_session_wants_the_organisation(api: PremblyApi) -> None:
    api.know("r-1", session_id="s-1")
    assert ask(api, "/api/v1/verification/api/status/r-1/", x_api_key="other")[0] == 401
    path = "/api/v1/checker-widget/sdk/sessions/s-1/"
    assert ask(api, path)[0] == 403
    assert ask(api, path, x_organisation_id=api.organisation)[0] == 200


def test_a_fault_comes_as_often_as_was_told(api: PremblyApi) -> None:
    api.know("r-1")
    api.fail(prembly_api.status(500), "r-1", times=2)
    path = "/api/v1/verification/api/status/r-1/"
    assert [ask(api, path)[0] for _ in range(3)] == [500, 500, 200]
    api.fail(prembly_api.too_many())
    assert [ask(api, path)[0] for _ in range(3)] == [429] * 3
    api.mend()
    assert ask(api, path)[0] == 200


def test_the_log_has_pages_of_what_was_asked_for_and_grows_while_it_is_read(
    api: PremblyApi,
) -> None:
    now_s = time.time()
    for number in range(250):
        api.know(f"r-{number}", created_at_s=now_s - number)
    api.before_log_page = lambda page: api.know(f"new-{page}", created_at_s=now_s + page)
    seen = []
    for page in (1, 2, 3):
        _, answer = ask(api, f"/api/v1/verification/logs/?page={page}&page_size=500&colour=red")
        seen.append([item["reference_id"] for item in answer["data"]])
    assert [len(references) for references in seen] == [100, 100, 53]
    assert seen[0][0] == "new-1"
    assert set(seen[0]) & set(seen[1]), "what was last on a page is first on the next"
    assert api.unknown_parameters == {"colour"}
    end = "2001-01-01T00:00:00Z"
    assert ask(api, f"/api/v1/verification/logs/?end_date={end}")[1]["data"] == []
