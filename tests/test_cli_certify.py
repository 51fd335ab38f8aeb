"""premblyd certify: what it certifies of a day, and that it certifies nothing that is not shown."""

import dataclasses
import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from premblyd.ask import log
from premblyd.cli import as_service
from premblyd.cli.certify import certify as command
from premblyd.engines.connections import connect_operator
from premblyd.prembly.payload import plain_id, session_reference
from premblyd.record.certificates import comparing
from premblyd.record.certificates.summary import Summary
from premblyd.times import DAY_MS, now_ms
from tests.support.chromium import file_opened, needs_chromium
from tests.support.commands import Ran, run
from tests.support.database import changing
from tests.support.erasing import forgetting
from tests.support.prembly_api import PremblyApi, Verification, status
from tests.support.reconciling import Record

DAY = (datetime.now(UTC) - timedelta(days=2)).date()
NOON_S = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC).timestamp()
BEGUN_MS = int(NOON_S * 1000) - DAY_MS // 2
SUCCEEDED = (
    "INSERT INTO delivery (event_id, action, state, attempts_left, created_at_ms, finished_at_ms)"
)
SESSION = "sdk_session_6c8e3f94aa"


@pytest.fixture(autouse=True)
def set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FIRST_WAIT_S", 0.01)


@pytest.fixture(name="record")
def make_record(tmp_path: Path, api: PremblyApi) -> Record:
    return Record(tmp_path, api)


def know(api: PremblyApi, count: int, product: str = "bvn", **fields: Any) -> list[str]:
    """Let Prembly know verifications of the day, and return their references."""
    made = [f"ver_{product}_{uuid.uuid4()}" for _ in range(count)]
    for each in made:
        api.know(each, **{"created_at_s": NOON_S, **fields})
    return made


def receive(record: Record, references: Iterable[str], **changes: Any) -> None:
    """Have an event of each, received on the day."""
    record.receive(references, received_at_ms=int(NOON_S * 1000), **changes)


def certify(record: Record, *arguments: object, day: object = DAY) -> Ran:
    return run("certify", "--config", record.config, "--day", day, *arguments)


def certificate(record: Record, code: int, day: object = DAY) -> dict[str, Any]:
    ran = certify(record, "--json", day=day)
    assert ran.code == code, ran.out + ran.err
    printed: dict[str, Any] = json.loads(ran.out)
    return printed


def why(printed: dict[str, Any]) -> list[str]:
    assert printed["complete"] is not bool(printed["reasons"])
    assert printed["statement"].startswith("Not certified" if printed["reasons"] else "Complete")
    return [each["reason"] for each in printed["reasons"]]


def digests(record: Record, references: Iterable[str]) -> set[str]:
    """Return the digests of references, as an auditor makes them who has the key."""
    key = bytes.fromhex(run("certify", "--config", record.config, "--auditor-key").out)
    names = map(plain_id, references)
    return {hmac.digest(key, name.encode(), "sha256").hex() for name in names}


def of_state(printed: dict[str, Any], state: str) -> set[str]:
    return {each["digest"] for each in printed["verifications"] if state in each["states"]}


def test_a_day_of_which_everything_came_is_complete(record: Record, api: PremblyApi) -> None:
    known = know(api, 130) + know(api, 3, "document_w_face")
    receive(record, known)
    printed = certificate(record, 0)
    assert why(printed) == []
    assert {name: its["in_record"] for name, its in printed["by_type"].items()} == {
        "bvn": 130,
        "document_w_face": 3,
    }
    total = printed["total"]
    assert (total["in_log"], total["in_record"], total["missing"]) == (133, 133, 0)
    assert of_state(printed, "in_record") == digests(record, known)
    assert {name: its["not_in_log"] for name, its in printed["received"].items()} == {
        "sdk.session": 0
    }


def test_what_is_missing_or_unsettled_is_named_by_digests_that_only_the_key_makes(
    record: Record, api: PremblyApi
) -> None:
    came, missing, left_open = know(api, 3), know(api, 2, "nin"), know(api, 1)
    receive(record, came)
    receive(record, left_open, outcome="pending", response_code="02")
    printed = certificate(record, 1)
    assert why(printed) == ["missing", "unsettled"]
    assert of_state(printed, "missing") == digests(record, missing)
    assert of_state(printed, "unsettled") == digests(record, left_open)
    assert printed["by_type"]["nin"]["missing"] == 2
    plain = {hashlib.sha256(name.encode()).hexdigest() for name in missing}
    assert not plain & of_state(printed, "missing")


def test_digests_are_the_same_in_two_certificates_and_the_fingerprint_is_of_them(
    record: Record, api: PremblyApi
) -> None:
    receive(record, know(api, 5))
    know(api, 1)
    first, second = certificate(record, 1), certificate(record, 1)
    assert first["verifications"] == second["verifications"]
    assert first["key"] == second["key"]
    assert (first["made_before"], second["made_before"]) == (0, 1)
    for each in (first, second):
        lines = [
            f"{one['digest']} {one['type']} {' '.join(one['states'])}\n"
            for one in each["verifications"]
        ]
        text = "".join((f"{each['nonce']}\n", *lines))
        assert each["fingerprint"] == hashlib.sha256(text.encode()).hexdigest()
    assert first["fingerprint"] != second["fingerprint"], "it could be tried by who has the key"


def test_nothing_in_it_or_kept_of_it_names_anybody(record: Record, api: PremblyApi) -> None:
    known = [*know(api, 3), "Ngozi Obi 22123456789", "ver_ngozi_obi_22123456789"]
    for name in known[3:]:
        api.know(name, created_at_s=NOON_S)
    api.know(session_id=SESSION, reference=SESSION, created_at_s=NOON_S)
    receive(record, known[:4], user_ref="usr_ngozi", type="ngozi.obi")
    out = "".join(certify(record, *how).out for how in ((), ("--json",), ("--html",)))
    said = "".join(text for (text,) in record.rows("SELECT said FROM certificate"))
    for secret in (*known, SESSION, session_reference(SESSION), "usr_ngozi", "22123456789"):
        assert secret not in out + said
    assert not re.search("ngozi|obi", out + said, re.IGNORECASE)
    assert not re.search(r"[0-9a-f]{64}", re.sub(r'"fingerprint":"\w+"', "", said))


def test_acted_upon_without_an_answer_of_prembly_is_unconfirmed(
    record: Record, api: PremblyApi
) -> None:
    receive(record, know(api, 3))
    with changing(record.place) as connection:
        for event, confirmed in ((1, "NULL"), (2, "1700000000000")):
            connection.execute(f"{SUCCEEDED} VALUES ({event}, 'crm', 'succeeded', 0, 1, 1)")
            connection.execute(
                f"UPDATE delivery SET confirmed_at_ms = {confirmed} WHERE event_id = {event}"
            )
    printed = certificate(record, 0)
    total = printed["total"]
    assert (total["acted_upon"], total["unconfirmed"]) == (2, 1)
    its = printed["received"]["sdk.session"]
    assert (its["acted_upon"], its["unconfirmed"]) == (2, 1)


def test_what_the_log_does_not_have_is_told(record: Record, api: PremblyApi) -> None:
    receive(record, [*know(api, 2), "ver_forged_1a2b3c4d"])
    assert certificate(record, 0)["received"]["sdk.session"]["not_in_log"] == 1


def test_who_was_erased_is_not_missing(record: Record, api: PremblyApi) -> None:
    gone, came = know(api, 1), know(api, 1)
    receive(record, gone + came)
    connection = connect_operator(record.place)
    connection.transact(forgetting(*gone), alone=True)
    connection.close()
    printed = certificate(record, 0)
    assert of_state(printed, "erased") == digests(record, gone)
    assert printed["received"]["sdk.session"]["erased"] == 1
    assert printed["received"]["sdk.session"]["not_in_log"] == 0


def test_a_session_of_which_no_more_is_known_is_found(record: Record, api: PremblyApi) -> None:
    api.know(SESSION, created_at_s=NOON_S)
    receive(record, [f"ver_bvn_{uuid.uuid4()}"], session_id=SESSION)
    printed = certificate(record, 0)
    assert printed["total"]["in_record"] == 1
    assert of_state(printed, "in_record") == digests(record, [session_reference(SESSION)])


def test_what_had_not_ended_is_not_expected(record: Record, api: PremblyApi) -> None:
    know(api, 2, run="pending")
    receive(record, know(api, 1))
    printed = certificate(record, 0)
    assert printed["total"]["not_ended"] == 2
    assert "2 verifications more had not ended" in printed["statement"]


def test_of_a_day_of_which_the_log_has_nothing_there_is_nothing_to_compare(
    record: Record, api: PremblyApi
) -> None:
    printed = certificate(record, code=0)
    assert (printed["complete"], printed["reasons"]) == (False, [])
    assert printed["statement"] == f"Nothing to compare: Prembly's log has nothing of {DAY}."
    know(api, 1, run="pending")
    assert certificate(record, code=0)["statement"] == (
        f"Complete: Prembly's log has no verification of {DAY} that had ended, so that none is"
        " missing. 1 verification more had not ended."
    )


def test_a_day_that_is_not_over_is_not_certified(record: Record) -> None:
    today = datetime.now(UTC).date()
    assert why(certificate(record, 1, today)) == ["day_not_over"]
    ran = certify(record, day=today + timedelta(days=2))
    assert (ran.code, "still to come" in ran.err) == (2, True)


def test_a_day_is_not_over_because_this_machines_clock_is_ahead(
    record: Record, api: PremblyApi
) -> None:
    receive(record, know(api, 1))
    api.now_s = lambda: BEGUN_MS / 1000 + 23 * 3600
    assert why(certificate(record, 1)) == ["day_not_over"]
    api.now_s = lambda: BEGUN_MS / 1000 + 24 * 3600 + 60
    assert why(certificate(record, 0)) == []


@pytest.mark.parametrize("hour", [-1, 25])
def test_a_day_is_not_complete_whose_log_has_another_time_than_it_was_asked_for(
    tmp_path: Path, api: PremblyApi, hour: int
) -> None:
    receive(record := Record(tmp_path, api), know(api, 1))
    api.know("ver_bvn_1a2b3c4d", created_at_s=BEGUN_MS / 1000 + hour * 3600)
    unknown = {"since": "from", "until": "to"}  # to the stand-in
    record.configure(api, prembly={"logs": {"parameters": unknown}})
    printed = certificate(record, 1)
    assert why(printed) == ["of_another_time"]
    assert (printed["log"]["of_another_time"], printed["log"]["not_asked_for"]) == (1, 1)
    record.configure(api, prembly={"logs": {"parameters": {"since": "", "until": ""}}})
    assert why(certificate(record, 0)) == []


def test_times_without_a_zone_are_of_the_zone_that_is_configured(
    tmp_path: Path, api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an hour past eleven at night, which in Lagos is half past midnight of the next day."""
    [reference] = know(api, 1, created_at_s=BEGUN_MS / 1000 + 23.5 * 3600)
    receive(record := Record(tmp_path, api), [reference])
    item = Verification.log_item

    def in_lagos(self: Verification) -> dict[str, Any]:
        at = datetime.fromtimestamp(self.created_at_s, ZoneInfo("Africa/Lagos"))
        return {**item(self), "created_at": at.replace(tzinfo=None).isoformat()}

    monkeypatch.setattr(Verification, "log_item", in_lagos)
    assert "of_another_time" in why(certificate(record, 1))
    record.configure(api, prembly={"logs": {"time_zone": "Africa/Lagos"}})
    printed = certificate(record, 0)
    assert (why(printed), printed["total"]["in_record"]) == ([], 1)


def test_what_moves_while_the_log_is_read_is_not_missed_and_counts_once(
    record: Record, api: PremblyApi
) -> None:
    known = know(api, 250)
    for number, each in enumerate(known):
        api.verifications[each].created_at_s = NOON_S - number
    moving = known[120]  # of the second page
    receive(record, set(known) - {moving})

    def move(number: int) -> None:
        if number == 2:
            api.verifications[moving].created_at_s = NOON_S + 1

    api.before_log_page = move
    printed = certificate(record, 1)
    assert why(printed) == ["missing"]
    assert of_state(printed, "missing") == digests(record, [moving])
    assert (printed["total"]["in_log"], printed["log"]["pages"]) == (250, 3)


def test_a_log_whose_entries_move_each_time_certifies_nothing(
    record: Record, api: PremblyApi
) -> None:
    known = know(api, 250)
    for number, each in enumerate(known):
        api.verifications[each].created_at_s = NOON_S - number
    receive(record, known)
    moving = iter(known[120:])

    def move(number: int) -> None:
        if number == 2:
            api.verifications[next(moving)].created_at_s = NOON_S + 1

    api.before_log_page = move
    assert why(certificate(record, 1)) == ["log_moved"]


def test_what_an_earlier_premblyd_kept_of_a_day_is_read(record: Record) -> None:
    certificate(record, 0)
    ((said,),) = record.rows("SELECT said FROM certificate")
    earlier = json.loads(said)
    for name in ("not_asked_for", "moved", "answered_at_ms"):
        del earlier["log"][name]
    assert Summary.read(json.dumps(earlier)) is not None


def test_where_prembly_can_not_be_asked_the_certificate_says_so_and_is_kept(
    record: Record, api: PremblyApi
) -> None:
    receive(record, know(api, 1))
    api.fail(status(500))
    printed = certificate(record, 75)
    assert why(printed) == ["log_not_asked"]
    assert printed["received"]["sdk.session"]["not_in_log"] is None
    assert record.rows("SELECT is_complete FROM certificate") == [(0,)]


def test_where_prembly_refuses_the_key_the_certificate_says_so(
    record: Record, api: PremblyApi
) -> None:
    api.fail(status(401))
    assert why(certificate(record, 78)) == ["log_not_asked"]


def test_a_log_that_breaks_off_certifies_nothing(record: Record, api: PremblyApi) -> None:
    receive(record, know(api, 250))
    api.before_log_page = lambda _: api.fail(status(500))  # from the next on
    printed = certificate(record, 75)
    assert why(printed) == ["log_read_in_part"]
    assert printed["log"]["pages"] == 1
    assert printed["total"]["missing"] == 0


def test_a_log_of_another_account_certifies_nothing(record: Record) -> None:
    receive(record, ["ver_bvn_1a2b3c4d"])
    assert why(certificate(record, 1)) == ["log_empty"]


@pytest.mark.parametrize("removed", ["identity", "record"])
def test_a_day_of_which_retention_has_removed_something_is_not_certified(
    record: Record, api: PremblyApi, removed: str
) -> None:
    receive(record, know(api, 1))
    with changing(record.place) as connection:
        connection.execute(
            "INSERT INTO removal (day_ms, removed, period_ms, count, freed_bytes)"
            f" VALUES ({BEGUN_MS + DAY_MS}, '{removed}', {DAY_MS}, 1, 0)"
        )
    assert why(certificate(record, 1)) == ["pruned"]


def test_an_entry_without_an_id_certifies_nothing(record: Record, api: PremblyApi) -> None:
    receive(record, know(api, 1))
    api.know("17", created_at_s=NOON_S)
    assert why(certificate(record, 1)) == ["without_id"]


def test_an_entry_without_a_time_certifies_nothing(tmp_path: Path, api: PremblyApi) -> None:
    record = Record(tmp_path, api, prembly={"logs": {"time": "nowhere"}})
    receive(record, know(api, 1))
    assert why(certificate(record, 1)) == ["without_time"]


def test_what_is_not_expected_is_counted_and_ends_no_log(tmp_path: Path, api: PremblyApi) -> None:
    record = Record(tmp_path, api, prembly={"logs": {"when": "response_code == '00'"}})
    receive(record, know(api, 1, created_at_s=NOON_S - 1))  # the last of the log
    know(api, 350, code="07")
    printed = certificate(record, 0)
    assert (printed["log"]["not_expected"], printed["total"]["in_record"]) == (350, 1)


def test_root_has_the_service_do_the_same_as_was_typed() -> None:
    typed = ["--day", "2026-01-31", "--json"]
    with command.make_context("certify", typed, obj=Path("premblyd.yaml")) as context:
        assert as_service._typed_again(context) == ["certify", "--day=2026-01-31", "--json"]


def test_an_event_that_prembly_has_denied_hides_nothing(record: Record, api: PremblyApi) -> None:
    forged, came = know(api, 1), know(api, 1)
    receive(record, forged + came)
    with changing(record.place) as connection:
        connection.execute(
            "INSERT INTO inquiry (at_ms, purpose, event_id, result, duration_ms)"
            " VALUES (1, 'confirm', 1, 'contradicted', 1)"
        )
        connection.execute(f"{SUCCEEDED} VALUES (1, 'crm', 'succeeded', 0, 1, 1)")
    printed = certificate(record, 1)
    assert of_state(printed, "missing") == digests(record, forged)
    assert of_state(printed, "unconfirmed") == digests(record, forged)
    assert printed["received"]["sdk.session"]["not_in_log"] == 0


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
def test_of_several_entries_of_a_verification_the_last_counts(
    tmp_path: Path, api: PremblyApi, sort: str
) -> None:
    logs = {"query": {"sort": sort}, "page_size": 1}
    record = Record(tmp_path, api, prembly={"logs": logs})
    [retried] = know(api, 1, created_at_s=NOON_S + 1)
    receive(record, [retried])
    again = dataclasses.replace(
        api.verifications[retried], created_at_s=NOON_S, run="pending", code=None
    )
    api.verifications["of before"] = again
    printed = certificate(record, 0)
    assert (printed["total"]["in_log"], printed["total"]["not_ended"]) == (1, 0)


def test_what_may_have_been_removed_by_now_is_too_old_to_be_missing(
    tmp_path: Path, api: PremblyApi
) -> None:
    record = Record(tmp_path, api, retention={"identity": "1d"})
    known = know(api, 1)
    printed = certificate(record, 1)
    assert why(printed) == ["pruned"]
    assert of_state(printed, "too_old") == digests(record, known)


def test_a_day_with_an_event_whose_names_are_removed_is_not_certified(
    record: Record, api: PremblyApi
) -> None:
    receive(record, know(api, 1))
    with changing(record.place) as connection:
        connection.execute("UPDATE event SET removed_parts = 'identity'")
    assert why(certificate(record, 1)) == ["pruned"]


def test_every_event_of_the_day_is_counted_and_none_of_another(
    record: Record, api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "READ", 2)
    know(api, 1)
    for number, at_ms in enumerate(
        (BEGUN_MS - 1, *([BEGUN_MS] * 5), BEGUN_MS + 7, BEGUN_MS + DAY_MS - 1, BEGUN_MS + DAY_MS)
    ):
        record.receive([f"ver_bvn_{number}"], received_at_ms=at_ms)
    assert certificate(record, 1)["received"]["sdk.session"]["events"] == 7


def test_what_is_missing_comes_with_the_command_that_gets_it(
    record: Record, api: PremblyApi
) -> None:
    receive(record, know(api, 1))
    command = f"`premblyd reconcile --since {DAY} --until {DAY + timedelta(days=1)} --store`"
    assert command not in certify(record).out
    know(api, 1)
    assert command in certify(record).out


def test_the_page_loads_and_runs_nothing(record: Record, api: PremblyApi) -> None:
    receive(record, know(api, 1))
    know(api, 1)
    ran = certify(record, "--html")
    assert ran.code == 1
    assert "<script" not in ran.out
    assert not re.search(r"(src|href)=", ran.out)
    assert "default-src 'none'" in ran.out
    assert f"Certificate of completeness, {DAY}" in ran.out
    assert "Not certified" in ran.out
    assert "1 verification is missing" in ran.out


def test_who_made_it_is_on_record(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    for who in ("ada", "bola"):
        monkeypatch.setenv("SUDO_USER", who)
        certificate(record, 0)
    assert record.rows("SELECT actor, action, note FROM operator_action ORDER BY id") == [
        ("ada", "certify", f"certificate 1 of {DAY}"),
        ("bola", "certify", f"certificate 2 of {DAY}"),
    ]


def test_that_the_auditors_key_was_taken_is_on_record(record: Record) -> None:
    ran = run("certify", "--config", record.config, "--auditor-key")
    assert re.fullmatch(r"[0-9a-f]{64}\n", ran.out)
    query = "SELECT action, note FROM operator_action"
    assert record.rows(query) == [("export", "the key of the digests in certificates")]


def test_a_log_that_says_the_same_on_each_page_certifies_nothing(
    record: Record, api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(record, know(api, 100))
    page = api.log_page({"page": "1", "page_size": "100"})
    for total_pages in (None, 3, 40):
        page["pagination"] = {"total_pages": total_pages}
        monkeypatch.setattr(api, "log_page", lambda _: page)  # it heeds no number
        assert why(certificate(record, 1)) == ["log_read_in_part"]


def test_a_log_that_has_more_pages_than_it_gives_certifies_nothing(
    record: Record, api: PremblyApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(record, know(api, 150))
    given = api.log_page

    def cut(query: dict[str, str]) -> dict[str, Any]:
        page = given(query)
        return {**page, "pagination": {"total_pages": 40}}

    monkeypatch.setattr(api, "log_page", cut)
    assert why(certificate(record, 1)) == ["log_read_in_part"]


KEPT = "SELECT day_ms, is_complete FROM certificate ORDER BY id"


def test_each_night_whole_days_are_certified_until_they_are_complete(
    record: Record, api: PremblyApi
) -> None:
    receive(record, know(api, 2))
    know(api, 1)
    since = DAY - timedelta(days=1)  # from its noon on: that day is not whole

    def reconcile(*more: str) -> Ran:
        window = ("--since", f"{since}T12:00", "--until", DAY + timedelta(days=1))
        return run("reconcile", "--config", record.config, *window, "--certify", *more)

    ran = reconcile()
    assert (ran.code, "Not certified" in ran.out) == (1, True)
    assert record.rows(KEPT) == [(BEGUN_MS, 0)]
    stored = reconcile("--store", "--json")
    assert (stored.code, stored.err) == (0, "")
    assert json.loads(stored.out)["certified"] == [{"day": str(DAY), "complete": True}]
    assert record.rows(KEPT) == [(BEGUN_MS, 0), (BEGUN_MS, 1)]
    assert json.loads(reconcile("--json").out)["certified"] == []
    assert record.rows(KEPT) == [(BEGUN_MS, 0), (BEGUN_MS, 1)]


def test_a_night_in_which_prembly_can_not_be_asked_has_a_certificate_that_says_so(
    record: Record, api: PremblyApi
) -> None:
    api.fail(status(500))
    window = ("--since", DAY, "--until", DAY + timedelta(days=1))
    ran = run("reconcile", "--config", record.config, *window, "--store", "--certify")
    assert ran.code == 75
    assert len(record.rows(KEPT)) == 1
    assert "log_not_asked" in record.rows("SELECT said FROM certificate")[0][0]


def test_without_a_time_the_last_whole_days_are_certified(record: Record) -> None:
    before_ms = now_ms()
    assert run("reconcile", "--config", record.config, "--certify").code == 0
    # It may be midnight meanwhile, and since this module was imported.
    two_days_ago = {ms // DAY_MS * DAY_MS - 2 * DAY_MS for ms in (before_ms, now_ms())}
    assert two_days_ago & {day_ms for day_ms, _ in record.rows(KEPT)}


def test_a_time_without_a_whole_day_is_refused(record: Record, api: PremblyApi) -> None:
    window = ("--since", f"{DAY}T08:00", "--until", f"{DAY}T17:00")
    ran = run("reconcile", "--config", record.config, *window, "--certify")
    assert (ran.code, "a whole day of UTC" in " ".join(ran.err.split())) == (2, True)
    assert record.rows(KEPT) == []


def test_what_is_missing_is_told_also_where_no_certificate_can_be_kept(
    record: Record, api: PremblyApi
) -> None:
    [reference] = know(api, 1)
    with changing(record.place) as database:
        database.execute("DROP TABLE certificate")
    ran = run("reconcile", "--config", record.config, "--certify")
    assert (ran.code, reference in ran.out) == (75, True), ran.err


def test_a_list_is_not_certified(record: Record) -> None:
    ran = run("reconcile", "--config", record.config, "-", "--certify", stdin=b"ver_bvn_1\n")
    assert (ran.code, "not for FILE" in ran.err) == (2, True)


@needs_chromium
@pytest.mark.browser
def test_the_page_is_read_in_a_browser_and_asks_nobody(
    record: Record, api: PremblyApi, tmp_path: Path
) -> None:
    receive(record, know(api, 3, "document_w_face"))
    know(api, 2)
    file = tmp_path / "certificate.html"
    file.write_text(certify(record, "--html").out)
    with file_opened(file) as page:
        assert str(DAY) in page.get_by_role("heading", level=1).inner_text()
