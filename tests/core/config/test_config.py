"""The configuration file: every key, and every problem at its place."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from premblyd import feature
from premblyd.config.hooks import (
    KINDS,
    CommandHook,
    HttpHook,
    ProcessHook,
    Selection,
    ShellHook,
)
from premblyd.config.load import load_config, models, parse_config
from premblyd.config.models import Action, Config
from premblyd.config.secrets import Secret, SecretPlaces
from premblyd.config.values import duration_ms, keys_of, listen, size_bytes
from premblyd.ground.errors import ConfigError
from premblyd.ground.words import listed
from tests.support.rows import for_each
from tests.support.users import OBEYING_MODES

WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SAMPLE = """\
listen: 127.0.0.1:8080
database: sqlite:////var/lib/premblyd/premblyd.db
max_body: 16 MiB
log: {format: auto, level: info}
endpoints:
  - name: prembly
    path: /webhooks/prembly
    scheme: hmac
    keys: {live: {file: prembly-live-key}, sandbox: {env: PREMBLY_SANDBOX_KEY}}
actions:
  - name: activate-customer
    response_codes: ["00"]
    when: outcome == 'verified'
    http:
      url: https://crm.internal/prembly
      headers: {Authorization: {file: crm-token}}
      sign_with: {file: crm-signing-secret}
      send: raw
      timeout: 16s
    retry: {attempts: 9, first_delay: 20s, factor: 2, max_delay: 3h}
    concurrency: 5
  - name: page-operations
    response_codes: ["02", "03", missing, default]
    shell: /usr/local/bin/page "Prembly answered $PREMBLY_RESPONSE_CODE"
    timeout: 31s
  - name: archive
    response_codes: ["*"]
    command: [/usr/local/bin/archive, --stdin]
    env: {ARCHIVE_DIR: /srv/archive}
"""
ENDPOINT = "  - {name: p, path: /p, keys: {live: hush-text}}\n"
SMALL = f"database: sqlite:///p.db\nendpoints:\n{ENDPOINT}"
ITEM = "  - {name: a, response_codes: [00, 01], "
ACTION = f"{SMALL}actions:\n{ITEM}"
HTTP = ACTION + "http: {url: http://x, "


def parse(text: str, folder: Path = Path("/nowhere"), **environ: str) -> Config:
    return parse_config(text, folder / "p.yaml", SecretPlaces(folder, environ))


def problems(text: str, folder: Path = Path("/nowhere"), **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, folder, **environ)
    assert caught.value.exit_code == 78
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [line.removeprefix(f"{folder}/p.yaml:") for line in str(caught.value).splitlines()]


def key(text: str, folder: Path = Path("/nowhere"), **environ: str) -> str:
    return parse(SMALL.replace("hush-text", text), folder, **environ).endpoints[0].key_texts["live"]


def test_a_feature_that_is_not_there_leaves_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature, "installed", lambda: ())
    config, action = models.__wrapped__()
    assert (keys_of(config), keys_of(action)) == (keys_of(Config), keys_of(Action))
    assert "console" not in keys_of(config)


def test_the_whole_sample_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, secrets = tmp_path / "premblyd.yaml", tmp_path / "credentials"
    path.write_text(SAMPLE)
    secrets.mkdir()
    (tmp_path / "prembly-live-key").write_text("pk_live_hush\n")
    (secrets / "crm-token").write_text("Bearer hush\r\n")
    (secrets / "crm-signing-secret").write_text(WHSEC)
    monkeypatch.setenv("PREMBLY_SANDBOX_KEY", "sandbox_pk_hush")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    unread = load_config(path, look_up_secrets=False).endpoints[0].keys["live"]
    assert unread == Secret("file:prembly-live-key")
    with pytest.raises(LookupError, match="file:prembly-live-key was not looked up"):
        unread.reveal()
    loaded = load_config(path)

    assert loaded.database == Path("/var/lib/premblyd/premblyd.db")
    (endpoint,) = loaded.endpoints
    assert (endpoint.name, endpoint.path) == ("prembly", "/webhooks/prembly")
    assert endpoint.key_texts == {"live": "pk_live_hush", "sandbox": "sandbox_pk_hush"}
    activate, page, archive = loaded.actions
    assert (activate.name, archive.name) == ("activate-customer", "archive")
    assert activate.response_codes + archive.response_codes == ("00", "*")
    assert page.response_codes == ("02", "03", "missing", "default")
    assert activate.when
    assert activate.when.search({"outcome": "verified"}) is True
    assert isinstance(hook := activate.hook, HttpHook)
    assert hook.url.reveal() == "https://crm.internal/prembly"
    assert hook.headers["Authorization"].reveal() == "Bearer hush"
    assert (hook.sign_with and hook.sign_with.reveal(), hook.send) == (WHSEC, "raw")
    retry = activate.retry
    assert (retry.attempts, retry.first_delay_ms, retry.factor) == (9, 20_000, 2.0)
    assert (retry.max_delay_ms, activate.concurrency.host) == (10_800_000, 5)
    assert [action.hook.timeout_ms for action in (activate, page)] == [16_000, 31_000]
    assert isinstance(page.hook, ShellHook)
    assert page.hook.shell == '/usr/local/bin/page "Prembly answered $PREMBLY_RESPONSE_CODE"'
    assert isinstance(archive.hook, CommandHook)
    assert archive.hook.command == ("/usr/local/bin/archive", "--stdin")
    assert archive.hook.env["ARCHIVE_DIR"].reveal() == "/srv/archive"
    assert loaded.total_concurrency == 13
    assert "hush" not in repr(loaded).replace(WHSEC, "hush")  # after keys were looked up too


def test_scalars_are_text() -> None:
    (action,) = parse(ACTION + "command: [no, 1.0, 0x10, 2024-01-01]}").actions
    assert action.response_codes == ("00", "01")
    assert isinstance(action.hook, CommandHook)
    assert action.hook.command == ("no", "1.0", "0x10", "2024-01-01")
    assert key("0123") == "0123"
    assert parse(SMALL, Path("/srv")).database == Path("/srv/p.db")


def test_an_empty_section_keeps_its_default() -> None:
    loaded = parse(SMALL + "log:\n  # level: debug\nactions:\nmax_body: ~\nlisten: null\n")
    assert loaded == parse(SMALL)


def test_durations_sizes_and_addresses_are_read() -> None:
    durations = {"500ms": 500, "15s": 15_000, "1.5 m": 90_000, "4h": 14_400_000, "1d": 86_400_000}
    assert {text: duration_ms(text) for text in durations} == durations
    sizes = {"10 B": 10, "64 KiB": 65_536, "16MiB": 16_777_216, "1 GiB": 1_073_741_824}
    assert {text: size_bytes(text) for text in sizes} == sizes
    for text in ("127.0.0.1:8080", "[::1]:80", "localhost:0", "unix:/run/p.sock"):
        assert str(listen(text)) == text


@for_each("read", [duration_ms, size_bytes, listen])
@for_each("text", ["", "15", "s", "-1s", "1y", "1S", "1s ", "367d", "1 MB", "a:b"])
def test_a_value_without_its_form_is_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match="should be"):
        read(text)


def test_a_secret_file_is_looked_up_in_order(tmp_path: Path) -> None:
    systemd, beside = tmp_path / "systemd", tmp_path / "etc"
    (beside / "credentials").mkdir(parents=True)
    systemd.mkdir()
    places = ("etc/credentials/key", "etc/key", "systemd/credentials_key", "systemd/key")
    for place in places:  # from the last one to the first
        (tmp_path / place).write_text(f"from {place}\r\n")
        assert key("{file: key}", beside, CREDENTIALS_DIRECTORY=str(systemd)) == f"from {place}"
    assert key("{env: KEY}", KEY="é é") == "é é"


SHAPES = "should be text, {{file: NAME}} or {{env: NAME}}"
LINES = "the secret has more than one line, or a NUL"
SPACE = "the key (file:{}) has white space around it; Prembly's have none"


@for_each(
    ("given", "message"),
    [
        ("{file: blank}", "the secret is empty"),
        ("{file: two}", LINES),
        ("{file: carriage}", LINES),
        ("{file: nul}", LINES),
        ("{file: before}", SPACE.format("before")),
        ("{file: after}", SPACE.format("after")),
        ("{file: latin}", "the secret file {folder}/latin is not UTF-8 text"),
        ("{file: dir}", "can't read the secret file {folder}/dir: Is a directory"),
        ("{file: /dev/zero}", "the secret file /dev/zero is no plain file"),
        ("{file: pipe}", "the secret file {folder}/pipe is no plain file"),
        ("{file: large}", "the secret file {folder}/large has more than 64 KiB"),
        ("{file: n}", "there is no secret file n; looked for {folder}/n, {folder}/credentials/n"),
        ("{env: NONE}", "the environment variable NONE is not set"),
        ("{env: LATIN}", "the secret is not UTF-8 text"),
        ("{file: k, env: NONE}", SHAPES),
        ("[hush]", SHAPES),
        ('""', SHAPES),
    ],
)
def test_an_unusable_secret_is_a_problem(tmp_path: Path, given: str, message: str) -> None:
    files = {"blank": b" \n", "two": b"hush\n\n", "nul": b"hush\0", "latin": b"hush\xe9"}
    files |= {"carriage": b"hush\rmore", "before": "\u00a0hush".encode(), "after": b"hush\t\n"}
    files["large"] = b"x" * (64 * 1024 + 1)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dir").mkdir(exist_ok=True)
    if not (tmp_path / "pipe").exists():
        os.mkfifo(tmp_path / "pipe")
    text, latin = SMALL.replace("hush-text", given), os.fsdecode(b"hush\xe9")
    assert problems(text, tmp_path, LATIN=latin) == [f"3:38: {message.format(folder=tmp_path)}"]


def test_a_file_that_can_not_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "latin").write_bytes(b"\xff")
    (tmp_path / "dir" / "premblyd.yaml").mkdir(parents=True)
    (tmp_path / "premblyd.yaml").touch()
    monkeypatch.chdir(tmp_path)
    missing = "there is no such file; `premblyd init` writes one"
    for name, message in {
        "none": missing,
        "nowhere/premblyd.yaml": f"{missing}, and this folder has one: --config premblyd.yaml",
        "latin": "is not UTF-8 text",
        "dir": "can't be read: Is a directory",
        "/dev/zero": "has more than 16,384 KiB",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load_config(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}:1:1: {message}"
        assert caught.value.exit_code == 78


@pytest.mark.large
def test_aliases_of_aliases_have_an_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for number in range(1, 13):
        lines.append(f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]")
    (problem,) = problems("\n".join(lines))
    assert "aliases repeat more than 250,000 values" in problem


@pytest.mark.process
def test_a_secret_that_systemd_did_not_pass_needs_a_restart_and_not_sudo(tmp_path: Path) -> None:
    """The service may not look into root's folder: what is there now, it gets when it starts."""
    path, folder = tmp_path / "premblyd.yaml", tmp_path / "credentials"
    path.write_text(SMALL.replace("hush-text", "{file: new}"))
    folder.mkdir()
    (folder / "new").write_text("hush")
    folder.chmod(0)
    command = [*OBEYING_MODES, sys.executable, "-m", "premblyd", "serve", "--config", str(path)]
    env = os.environ | {"CREDENTIALS_DIRECTORY": f"{tmp_path}/passed"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True)
    folder.chmod(0o700)
    problem = f"{path}:3:38: systemd passed the service no secret file new: put it into {folder}"
    assert f"{problem}, then restart the service" in ended.stderr


@for_each(
    ("text", "host", "cluster"),
    [
        ("2", 2, None),
        ("{}", 4, None),
        ("{host: 2}", 2, None),
        ("{cluster: 6}", 6, 6),
        ("{cluster: 1000}", 256, 1000),
        ("{host: 2, cluster: 6}", 2, 6),
    ],
)
def test_hooks_at_once_are_for_each_host_and_for_all(
    text: str, host: int, cluster: int | None
) -> None:
    loaded = parse(f"{ACTION}shell: x, concurrency: {text}}}")
    concurrency = loaded.actions[0].concurrency
    assert (concurrency.host, concurrency.cluster) == (host, cluster)
    assert loaded.total_concurrency == host


def test_what_leaves_can_be_an_envelope_or_selected() -> None:
    select = "{select: 'sort_by(body.images, &size)[0].{a: name}'}"
    for send, kind in {"event": str, select: Selection}.items():
        hook = parse(HTTP + f"send: {send}}}}}").actions[0].hook
        assert isinstance(hook, HttpHook)
        assert isinstance(hook.send, kind)


def test_the_digest_tells_versions_apart_and_no_secrets() -> None:
    def digest(secret: str, shell: str = "x") -> str:
        text = f"{ACTION}shell: {shell}, env: {{A: {{env: K}}}}}}"
        return parse(text, K=secret).actions[0].digest

    plain = digest("one")
    assert plain == digest("two") != digest("two", "y")
    # Of what differs from the defaults: a key that a later premblyd has changes none.
    assert digest("one", 'x, types: ["*"]') == digest("one", "x, retry: {}") == plain
    assert digest("one", "x, retry: {attempts: 7}") != plain


CHAIN = [f"a{n}: &a{n} {'[' * 200}*a{n - 1}{']' * 200}\n" for n in range(1, 9)]
RIDDLE = "not YAML: expected alphabetic or numeric character, "
NOT_00 = "unknown name '00'; text is written in single quotes, '00'. Names: endpoint, verified_by,"
models()  # now the kinds of features are known, too
ONE_HOOK = f"5:5: should have one of {listed(KINDS)}, not"
STARTS = listed(kind.key for kind in KINDS.values() if issubclass(kind, ProcessHook))


@for_each(
    ("text", "expected"),
    [
        (SMALL + "lisen: x", ["4:1: unknown key `lisen`; did you mean `listen`?"]),
        (SMALL + "level: info", ["4:1: `level` goes inside `log:`"]),
        (ACTION + "shell: x, attempts: 1}", ["5:51: `attempts` goes inside `retry:`"]),
        (SMALL + "log: {level: x, zz: x}", ["4:14: should be 'debug',", "4:17: unknown key `zz`"]),
        (SMALL + "actions: [x]", ["4:11: should hold keys and values"]),
        (SMALL + "max_body: 0 B", ["4:11: should be gr"]),
        (SMALL + "answer_within: 8001ms", ["4:16: should be 500ms to 8s: Prembly waits 10 s"]),
        (SMALL + "trusted_proxies: [10.0.0.1/8]", ["4:19: should be an IP address or a network"]),
        (SMALL.replace("/p,", "/healthz,"), ["3:21: /healthz is the daemon's own"]),
        (SMALL.replace("live:", "a b:"), ["3:32: should be a name of"]),
        (SMALL.replace("/p,", "x,"), ["3:21: should begin with /"]),
        (SMALL.replace("/p,", "'/hush?a',"), ["3:21: should be plain ASCII without"]),
        (SMALL.replace("{name: p,", "{name: 'p\n',"), ["3:12: should be a name of A-Z a-z"]),
        (
            ACTION + "shell: x, concurrency: {host: 999, cluster: 0, all: 1}}",
            ["5:71: should be less", "5:85: should be greater", "5:88: unknown key"],
        ),
        (HTTP + "headers: {'a b': hush}}}", ["5:73: should be a header's name"]),
        (ACTION.replace("01", '"02 "') + "shell: x}", ["5:36: a response code with white space"]),
        (ACTION.replace("01", '""') + "shell: x}", ["5:36: should not be empty"]),
        (SMALL.replace("{live: hush-text}", "{}"), ["3:31: should not be empty"]),
        (SMALL.replace("sqlite:///", "mysql://"), ["1:11: should be sqlite:////absolute"]),
        ("endpoints: []", ["1:1: `database` is missing", "1:12: should not be empty"]),
        (
            SMALL.replace("keys:", "scheme: public-key, signature: [{}], keys:"),
            ["3:5: has `scheme: public-key` and `signature`; keep one"],
        ),
        (SMALL + SMALL, ["4:1: 'database' is given twice, first in line 1: keep one"]),
        ("a: []\na: []", ["2:1: 'a' is given twice, first in line 1: put the entries of both"]),
        (SMALL + ENDPOINT, ["4:12: this name is used twice", "4:21: this path is used twice"]),
        (f"{ACTION}shell: x}}\n{ITEM}shell: x}}", ["6:12: this name is used twice"]),
        (ACTION + "}", [f"{ONE_HOOK} 0"]),
        (ACTION + "shell: x, command: [x]}", [f"{ONE_HOOK} 2"]),
        (ACTION + "http: {url: http://x}, timeout: 1s}", ["5:64: `timeout` goes inside `http:`"]),
        (ACTION + "http: {url: http://x}, env: {A: b}}", [f"5:64: is for {STARTS} only"]),
        (ACTION + "shell: x, env: {PREMBLY_A: b}}", ["5:57: names with PREMBLY_ are premblyd's"]),
        (HTTP + "headers: {Premblyd_confirmed: a}}}", ["5:73: headers with premblyd- are"]),
        (ACTION + "shell: x, when: 'a =='}", ["5:57: no JMESPath expression: Invalid jmespath"]),
        (ACTION + "shell: x, when: kind = api}", ["5:57: no JMESPath expression: `=` alone is"]),
        (ACTION + "shell: x, when: 'response_code == \"00\"'}", [f"5:57: {NOT_00}"]),
        (ACTION + "http: {url: ftp://hush}}", ["5:53: should be a URL that starts with http://"]),
        (HTTP + "send: x}}", ["5:69: should be 'raw' or 'event'"]),
        (HTTP + "sign_with: whsec_husH}}", ["5:74: the signing secret is too short"]),
        ("", ["1:1: should hold keys such as `database:` and `endpoints:`"]),
        ("a: b\nc: [d", ["2:6: not YAML: expected ',' or ']'"]),
        # PyYAML's words alone are a riddle.
        ("a: [*]", [f"1:6: {RIDDLE}but found ']' (text that begins so must stand in quotes)"]),
        ("a: b: c", ["1:5: not YAML: mapping values are not allowed here (text with `: ` in it"]),
        # YAML takes the ! for a tag: what is left would mean the opposite.
        ("a:\n  when: ! face_match", ["2:9: a value that begins with ! must stand in quotes"]),
        ("a: &a [*a]", ["1:4: an anchor can't contain itself"]),
        ("a: " + "[" * 1000, ["1:1: not YAML:"]),
        ("a0: &a0 x\n" + "".join(CHAIN), ["1:1: not YAML: nested too deeply"]),
    ],
)
def test_a_problem_is_told_at_its_place(text: str, expected: list[str]) -> None:
    found = problems(text)
    assert [line[: len(start)] for line, start in zip(found, expected, strict=True)] == expected
    assert "hush" not in str(found)


def test_every_problem_is_told_at_once_in_the_files_order() -> None:
    text = SAMPLE.replace("8080", "808080").replace("level: info", "levle: info")
    text = text.replace("scheme: hmac", "scheme: md5").replace("3h", "3 hours")
    text = text.replace("name: archive", "name: page-operations")
    places = " ".join(line.split(": ")[0] for line in problems(text))
    assert places == "1:9 4:21 8:13 9:18 9:53 16:32 17:18 20:66 26:11"
