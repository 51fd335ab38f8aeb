"""`premblyd erase`, and that what it erases is gone from the database's files."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from premblyd.cli.erase import certificates
from premblyd.databases import Server
from premblyd.engines.connections import connect_operator
from premblyd.engines.engine import Scrubbed
from premblyd.engines.sqlite import opening
from premblyd.keep import erasing, gone
from premblyd.keep.gone import Finishing
from premblyd.keep.persons import Named
from premblyd.newfile import CannotWriteError
from premblyd.times import Clock
from tests.support.commands import Ran, json_of, recorded_in, run
from tests.support.database import rows
from tests.support.logs import logged
from tests.support.rows import for_each
from tests.support.store import Store, new_event

USER = """SELECT user_ref FROM event WHERE user_ref IS NOT NULL AND reference IS NOT NULL
    ORDER BY id LIMIT 1"""


@pytest.fixture
def user_ref(config: Path) -> str:
    """Somebody of whom the record has events."""
    ((name,),) = rows(recorded_in(config), USER)
    return str(name)


def erase(config: Path, *arguments: object, stdin: bytes | None = None) -> Ran:
    """Run it, without a question."""
    return run("erase", *arguments, "--yes", "--config", config, stdin=stdin)


def test_a_person_is_counted_erased_listed_and_known_again(config: Path, user_ref: str) -> None:
    would = json_of(config, "erase", "--user-ref", user_ref, "--dry-run")
    assert would["would_erase"]["event"] == len(would["events"]) > 0
    assert rows(recorded_in(config), USER) == [(user_ref,)], "nothing was erased yet"
    done = erase(config, "--user-ref", user_ref, "--reason", "ticket 7")
    proof = json.loads(done.out)
    assert done.code == 0
    assert (proof["reason"], proof["found_by"], proof["is_gone"]) == ("ticket 7", "user_ref", True)
    assert [event["id"] for event in proof["events"]] == would["events"]
    assert {each["table"]: each["rows"] for each in proof["erased"]} == would["would_erase"]
    assert user_ref not in done.out
    assert rows(recorded_in(config), USER) != [(user_ref,)]
    (listed,) = json_of(config, "erase", "--list")
    assert (listed["id"], listed["events"]) == (proof["erasure"], len(would["events"]))
    assert listed["gone_at_ms"] is not None
    assert any("stored already erased" in each["why"] for each in proof["kept"])
    again = erase(config, "--user-ref", user_ref)
    assert again.code == 0
    assert again.out.startswith("Already erased ")
    assert f"(erasure {proof['erasure']})" in again.out


def test_a_name_is_read_from_standard_input(config: Path, user_ref: str) -> None:
    done = erase(config, "--user-ref", "-", "--dry-run", stdin=f"{user_ref}\n".encode())
    assert done.code == 0
    assert "event" in done.out
    assert user_ref not in done.out + done.err


def test_the_certificate_is_a_new_private_file(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "certificate.json"
    done = erase(config, "--event", 1, "--to", target)
    assert done.code == 0
    assert f"The certificate is in {target}." in done.out
    proof = json.loads(target.read_text())
    assert [event["id"] for event in proof["events"]] == [1]
    assert any("`premblyd backup`" in each["what"] for each in proof["kept"])
    stays = [each["why"] for each in proof["kept"] if each["what"].startswith("keyed digests")]
    assert stays == ["so that nothing runs twice"]  # what comes of the others is stored whole
    assert target.stat().st_mode & 0o777 == 0o600
    before = target.read_text()
    again = erase(config, "--event", 2, "--to", target)
    assert (again.code, target.read_text()) == (1, before)
    assert rows(recorded_in(config), "SELECT id FROM event WHERE lacks IS NOT NULL") == [(1,)]


@for_each("target", ["nowhere/c.json", "/proc/c.json", "premblyd.yaml"])
def test_without_its_certificate_nothing_is_erased(config: Path, target: str) -> None:
    done = erase(config, "--event", 1, "--to", config.parent / target)
    assert (done.code, done.out) == (1, "")
    assert rows(recorded_in(config), "SELECT id FROM erasure") == []


def test_a_certificate_that_can_not_be_put_in_its_place_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "certificate.json"

    def write() -> None:
        with certificates(target) as take:
            take({"erasure": 1})
            target.write_text("another's")

    with pytest.raises(CannotWriteError):
        write()
    assert json.loads(capsys.readouterr().out) == {"erasure": 1}
    assert target.read_text() == "another's"


def test_nobody_is_erased_without_a_question_or_a_yes(config: Path) -> None:
    refused = run("erase", "--event", 1, "--config", config)
    assert (refused.code, refused.out) == (2, "")
    assert "say --yes" in refused.err
    assert rows(recorded_in(config), "SELECT id FROM erasure") == []


def test_what_a_forger_may_have_added_is_told_before(config: Path) -> None:
    nameless = "SELECT id, reference FROM event WHERE user_ref IS NULL AND reference IS NOT NULL"
    number, reference = rows(recorded_in(config), f"{nameless} ORDER BY id LIMIT 1")[0]
    ((last,),) = rows(recorded_in(config), "SELECT max(id) FROM event")
    names = f"user_ref = 'mallory', reference = '{reference}'"
    change(config, f"UPDATE event SET {names} WHERE id = {last}")
    counted = erase(config, "--user-ref", "mallory", "--dry-run").out
    assert f"Events: {number}, {last}." in counted
    assert f"1 of them names nobody ({number})" in counted
    would = json_of(config, "erase", "--user-ref", "mallory", "--dry-run")
    assert would["nameless"] == [number]


def test_a_hold_refuses(config: Path, user_ref: str) -> None:
    hold = json_of(config, "hold", "--user-ref", user_ref)["hold"]
    refused = erase(config, "--user-ref", user_ref)
    assert refused.code == 1
    assert f"hold {hold} is in force" in refused.err
    assert f"Hold {hold} is in force" in erase(config, "--user-ref", user_ref, "--dry-run").out


def test_a_reason_that_names_the_person_is_refused(config: Path, user_ref: str) -> None:
    refused = erase(config, "--user-ref", user_ref, "--reason", f"{user_ref} asked")
    assert refused.code == 2
    assert user_ref not in refused.err
    assert rows(recorded_in(config), "SELECT id FROM erasure") == []


def test_what_is_somebody_elses_is_told(config: Path, user_ref: str) -> None:
    own = "SELECT max(reference) FROM event WHERE user_ref = ?"
    ((reference,),) = rows(recorded_in(config), own, user_ref)
    strange = "SELECT id FROM event WHERE user_ref <> ? ORDER BY id LIMIT 1"
    ((other,),) = rows(recorded_in(config), strange, user_ref)
    change(config, f"UPDATE event SET reference = '{reference}' WHERE id = {other}")
    done = erase(config, "--user-ref", user_ref)
    assert done.code == 0
    assert json.loads(done.out)["of_others"] == [other]
    assert f"somebody else's: 1 event under the same names ({other})" in done.err


def test_interrupted_between_two_portions_it_goes_on_when_it_is_run_again(
    config: Path, user_ref: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = len(json_of(config, "erase", "--user-ref", user_ref, "--dry-run")["events"])
    own = "SELECT reference FROM event WHERE user_ref = ? AND reference IS NOT NULL"
    reference = rows(recorded_in(config), own, user_ref)[0][0]
    last = "(SELECT max(id) FROM event)"
    change(config, f"UPDATE event SET user_ref = '{user_ref}' WHERE id = {last}")
    monkeypatch.setattr(erasing, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(erasing, "GAP_S", 0)
    with monkeypatch.context() as patch:
        patch.setattr(erasing, "_go_on", interrupt)
        stopped = erase(config, "--user-ref", user_ref)
    assert stopped.code == 1
    assert "Interrupted: 0 events erased. Run the same again" in stopped.err
    again = erase(config, "--user-ref", user_ref)
    assert again.code == 0
    assert len(json.loads(again.out)["events"]) >= total
    assert reference not in again.out
    assert rows(recorded_in(config), "SELECT count(*) FROM erasure") == [(1,)]
    left = "SELECT id FROM event WHERE user_ref = ?"
    assert rows(recorded_in(config), left, user_ref) == []


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@for_each(
    ("arguments", "words"),
    [
        ((), "Say whom or what"),
        (("--user-ref", "u", "--event", "1"), "one at a time"),
        (("--list", "--event", "1"), "stands alone"),
        (("--event", "1", "--search", "abc"), "at least 4"),
    ],
)
def test_wrong_usage_is_explained(config: Path, arguments: tuple[str, ...], words: str) -> None:
    refused = erase(config, *arguments)
    assert refused.code == 2
    assert words in refused.err


def test_nobody_is_found(config: Path) -> None:
    done = erase(config, "--user-ref", "nobody-7")
    assert (done.code, done.out) == (1, "")
    assert "nobody-7" not in done.err


def test_a_text_in_a_body_leads_to_its_event(config: Path) -> None:
    sought = "11100000045"  # a number in a body of the samples
    body = "SELECT id FROM event WHERE CAST(body AS TEXT) LIKE '%11100000045%' ORDER BY id"
    if isinstance(recorded_in(config), Server):
        body = body.replace("CAST(body AS TEXT)", "convert_from(body, 'UTF8')")
    holding = [number for (number,) in rows(recorded_in(config), body)]
    ((reference,),) = rows(
        recorded_in(config), "SELECT reference FROM event WHERE id = ?", holding[0]
    )
    would = json_of(config, "erase", "--reference", reference, "--search", sought, "--dry-run")
    assert set(would["events"]) & set(holding)


def change(config: Path, sql: str) -> None:
    with closing(connect_operator(recorded_in(config))) as database:
        database.execute_sql(sql)


# --- Copies, and the file itself ---------------------------------------------------------------


@pytest.fixture
def file(config: Path) -> Path:
    """The database's file; on a server there is none."""
    place = recorded_in(config)
    assert isinstance(place, Path), "its test is of SQLite's files"
    return place


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Have somebody read the database as it is now."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchone()
        yield


@pytest.mark.sqlite
def test_nothing_is_left_in_the_files(config: Path, file: Path, user_ref: str) -> None:
    body = "CAST('{' || user_ref || '}' AS BLOB)"
    change(config, f"UPDATE event SET body = {body} WHERE user_ref IS NOT NULL")
    sought = user_ref.encode()
    assert sought in file.read_bytes()
    assert erase(config, "--user-ref", user_ref).code == 0
    found = [each for each in file.parent.iterdir() if each.name.startswith(file.name)]
    assert [each for each in found if sought in each.read_bytes()] == []


@pytest.mark.sqlite
def test_who_reads_what_was_there_keeps_it_until_then(config: Path, file: Path) -> None:
    with reading(file):
        done = erase(config, "--event", 1)
        assert done.code == 75
        assert "gone from the files when" in done.err
        assert json.loads(done.out)["is_gone"] is False
        assert rows(file, "SELECT gone_at_ms FROM erasure") == [(None,)]
        assert rows(file, "SELECT lacks FROM event WHERE id = 1") == [("erased",)]


OTHER = """
import sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
if sys.argv[2] == "reads":
    database.execute("BEGIN")
database.execute("SELECT count(*) FROM event").fetchone()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.sqlite
def test_who_reads_is_named_and_not_who_has_it_open(config: Path, file: Path) -> None:
    with ExitStack() as others:
        # In processes of their own: locks are a process's.
        pids = {}
        for what in ("reads", "waits"):
            command = [sys.executable, "-c", OTHER, str(file), what]
            other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            others.enter_context(other)
            assert other.stdout
            assert other.stdout.readline() == b"ready\n"
            pids[what] = other.pid
        done = erase(config, "--event", 1)
    assert json.loads(done.out)["waits_for"] == [pids["reads"]]
    assert f"when process {pids['reads']} stops reading" in done.err


@pytest.mark.sqlite
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_the_daemon_finishes_when_nobody_reads_any_more(path: Path, store: Store) -> None:
    store.wait(store.inbox.add(new_event(), []))
    looks = Finishing(store.backend, store.writer, Clock())
    with closing(connect_operator(path)) as database:
        erasing.erase(database, erasing.Request(named=Named.event(1), actor="dpo"))
    with reading(path):
        store.wait(looks.look())
        assert store.rows("SELECT gone_at_ms FROM erasure") == [(None,)]
    with logged() as lines:
        store.wait(looks.look())
    assert [line["event"] for line in lines] == ["erasure.gone"]
    assert store.rows("SELECT gone_at_ms IS NULL FROM erasure") == [(0,)]


@pytest.mark.sqlite
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_what_is_erased_while_the_files_are_scrubbed_is_not_taken_for_gone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = (store.add(body=b"%d" % number).event_id for number in range(2))
    for number in (1, 2):
        store.by_hand(
            "INSERT INTO erasure (at_ms, actor, found_by, events, cancelled)"
            " VALUES (1, 'dpo', 'event', 1, 0)"
        )
        store.by_hand("INSERT INTO to_erase (event_id, erasure_id) VALUES (?, ?)", number, number)
    store.by_hand("DELETE FROM to_erase WHERE event_id = ?", last)

    def scrub() -> Scrubbed:
        store.by_hand("DELETE FROM to_erase WHERE event_id = ?", first)
        return Scrubbed(is_gone=True)

    with closing(connect_operator(store.path)) as database:
        monkeypatch.setattr(database, "scrub", scrub)
        gone.scrub(database)
    assert store.rows("SELECT gone_at_ms IS NULL FROM erasure ORDER BY id") == [(1,), (0,)]


@pytest.mark.sqlite
@for_each("clears", (True, False))
def test_the_certificate_says_what_stays_where_this_sqlite_can_not_clear_pages(
    config: Path, monkeypatch: pytest.MonkeyPatch, clears: bool
) -> None:
    monkeypatch.setattr(opening, "can_clear", lambda _: clears)
    done = erase(config, "--event", 1 + clears)
    kept = [each["what"] for each in json.loads(done.out)["kept"]]
    assert ("copies in the database's file where SQLite has moved rows" in kept) is not clears
    assert ("`premblyd prune --vacuum`" in done.err, done.code) == (not clears, 0)


@pytest.mark.sqlite
def test_copies_are_named_and_deleted_when_that_is_wanted(
    config: Path, file: Path, user_ref: str, tmp_path: Path
) -> None:
    copy = file.with_name(f"{file.name}.before-upgrade")
    aside = file.with_name(f"{file.name}.replaced-20260101T000000Z") / file.name
    aside.parent.mkdir()
    for each in (copy, aside):
        shutil.copy(file, each)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(file, elsewhere / file.name)
    file.with_name(f"{file.name}.linked").symlink_to(elsewhere)  # root follows none
    harmless = file.with_name("other.db")
    with closing(sqlite3.connect(harmless)) as other:
        other.execute("CREATE TABLE t (x)")
    named = erase(config, "--event", 1)
    assert {found["path"] for found in json.loads(named.out)["copies"]} == {str(copy), str(aside)}
    assert f"{copy} has 1 event of it still" in named.err
    done = erase(config, "--user-ref", user_ref, "--copies", "delete")
    assert f"Deleted {copy}." in done.err
    assert not copy.exists()
    assert not aside.parent.exists()
    assert harmless.exists()
    assert (elsewhere / file.name).exists()


@pytest.mark.sqlite
def test_a_copy_without_the_person_is_not_named(config: Path, file: Path) -> None:
    copy = file.with_name(f"{file.name}.before-upgrade")
    shutil.copy(file, copy)
    with closing(sqlite3.connect(copy)) as database:
        database.execute("UPDATE event SET body = '', reference = NULL, user_ref = NULL")
        database.commit()
    assert json.loads(erase(config, "--event", 1).out)["copies"] == []
