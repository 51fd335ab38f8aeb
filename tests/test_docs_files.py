"""The sample configuration, the units, install.sh and the pages agree with each other."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from premblyd.cli.caller import DEFAULT_CONFIG
from premblyd.config import hooks, models
from premblyd.config.load import models as composed
from premblyd.config.load import parse_config
from premblyd.config.models import Config
from premblyd.config.secrets import SecretPlaces
from premblyd.config.values import Model, duration_ms, keys_of
from premblyd.features.asking.settings import PREMBLY, StatusQuestion
from premblyd.features.worker.settings import WorkerHook
from tests.support.commands import run
from tests.support.pages import EVERYTHING, PAGES, ROOT, blocks
from tests.test_docs import SECRET

SAMPLE = (ROOT / "config" / "premblyd.yaml").read_text()
UNITS = ROOT / "systemd"


def models_below(model: type[Model]) -> list[type[Model]]:
    below = model.__subclasses__()
    return below + [deeper for each in below for deeper in models_below(each)]


# Split, so that this file does not hold them.
OF_THE_WORKPLACE = ["/wo" + "rk/", "/tmp/" + "v/"]


def load(text: str, folder: Path, *secrets: str) -> Config:
    for name in secrets:
        (folder / name).write_text(f"{SECRET}\n")
    return parse_config(text, folder / "premblyd.yaml", SecretPlaces(folder, {}))


def unit(name: str) -> str:
    path = UNITS / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path.read_text()


def setting(text: str, key: str) -> str:
    """Return the value of the last line `key=` of a unit file."""
    values: list[str] = re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)
    return values[-1]


def test_every_file_that_a_comment_or_the_map_names_is_there() -> None:
    sources = sorted((ROOT / "premblyd").rglob("*.py"))
    others = [path for folder in ("tests", "systemd") for path in (ROOT / folder).rglob("*.py")]
    paths = [f"/{path.relative_to(ROOT)}" for path in (*sources, *others)]
    the_map = (ROOT / "CONTRIBUTING.md").read_text().partition("## Recipes")[0]
    for text in (the_map, *(source.read_text() for source in sources)):
        for name in re.findall(r"(?<![\w./])(?:[\w-]+/)*\w+\.py\b", text):
            assert any(path.endswith(f"/{name}") for path in paths), name
        for module, name in re.findall(r"see ((?:\w+\.)*\w+)\.([A-Z]\w+)", text):
            end = f"/{module.replace('.', '/')}.py"
            files = [ROOT / path[1:] for path in paths if path.endswith(end)]
            defined = rf"^(class )?{name}\b"
            assert any(re.search(defined, file.read_text(), re.M) for file in files), (module, name)


def test_the_sample_is_what_init_writes(tmp_path: Path) -> None:
    assert run("init", tmp_path).code == 0
    assert (tmp_path / "premblyd.yaml").read_text() == SAMPLE


def test_every_key_is_in_the_sample() -> None:
    file, _ = composed()  # which imports those of features
    keys = set[str]().union(*map(keys_of, [file, *models_below(Model)])) - {hooks.GATHERED}
    assert keys - set(re.findall(r"\b(\w+):", SAMPLE)) == set()


def test_the_sample_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    loaded = load(SAMPLE, tmp_path, "prembly-live-key")
    (endpoint,) = loaded.endpoints
    for model in (loaded, endpoint):
        for name, field in type(model).model_fields.items():
            if not field.is_required():
                assert getattr(model, name) == field.default, name
    assert endpoint.key_texts == {"live": SECRET}


def test_the_sample_loads_with_its_examples(tmp_path: Path) -> None:
    endpoints, actions, examples = SAMPLE.partition("# actions:\n")
    examples, _, settings = examples.partition("# Below is what few need to change.\n")
    settings = endpoints + settings
    settings = re.sub(r"^# (\w+: \d)", r"\1", settings, flags=re.MULTILINE)
    section = re.compile(r"^# prembly:\n(#.*\n)+", re.MULTILINE)
    settings = section.sub(lambda match: re.sub(r"(?m)^# ", "", match[0]), settings)
    examples = re.sub(r"^# ?", "", actions + examples, flags=re.MULTILINE)
    examples = re.sub(r"# (\w+: /)", r"\1", examples)
    own = ("prembly-live-key", "crm-token", "crm-signing-secret")
    asking = ("prembly-api-key",)
    loaded = load(settings + examples, tmp_path, *own, *asking)
    crm, page, archive, _, tell = loaded.actions
    prembly = PREMBLY.of(loaded)
    assert prembly
    assert prembly.status == StatusQuestion()
    assert (prembly.rate, prembly.timeout_ms) == (5, 10_000)
    assert loaded.concurrency == 16
    assert isinstance(crm.hook, hooks.HttpHook)
    assert crm.hook.ca_file == Path("/etc/ssl/private-ca.pem")
    assert (crm.retry, crm.concurrency.host) == (models.Retry(), 4)
    assert crm.hook.timeout_ms == hooks.HttpHook.model_fields["timeout_ms"].default
    assert page.hook.timeout_ms == hooks.ShellHook.model_fields["timeout_ms"].default
    assert isinstance(archive.hook, hooks.CommandHook)
    assert archive.hook.command == ("/usr/local/bin/archive", "--stdin")
    assert isinstance(tell.hook, WorkerHook)
    for name, field in WorkerHook.model_fields.items():
        if not field.is_required() and name != "env":
            assert getattr(tell.hook, name) == field.default, name


def test_the_proxies_limit_bodies_as_the_daemon_does() -> None:
    limit = f"{Config.model_fields['max_body_bytes'].default >> 20}"
    for tag, pattern in {
        "nginx": r"client_max_body_size (\d+)m;",
        "caddy": r"max_size (\d+)MiB",
    }.items():
        assert set(re.findall(pattern, "".join(block.text for block in blocks(tag)))) == {limit}


def test_units_sample_and_pages_agree_on_every_path(tmp_path: Path) -> None:
    """And with install.sh: tests/systemd/test_units.py."""
    service = unit("premblyd.service")
    loaded = load(SAMPLE, tmp_path, "prembly-live-key")
    assert isinstance(loaded.database, Path)
    assert loaded.database.parent == Path("/var/lib", setting(service, "StateDirectory"))
    assert setting(unit("premblyd.socket"), "ListenStream") == str(loaded.listen)
    assert duration_ms(setting(service, "TimeoutStopSec")) >= loaded.stop_timeout_ms + 10_000
    etc = f"/etc/{setting(service, 'ConfigurationDirectory')}"
    assert f"{etc}/premblyd.yaml" == str(DEFAULT_CONFIG)
    paths = (loaded.database, DEFAULT_CONFIG, f"{etc}/credentials/", "/opt/premblyd/current")
    for told in (*paths, setting(service, "Group")):
        assert f"`{told}`" in EVERYTHING


def test_a_page_repeats_what_install_says_to_do_next() -> None:
    steps = unit("steps.sh").partition("next_steps() {")[2].partition("\n}")[0]
    steps = steps.replace("$key", "/etc/premblyd/credentials/prembly-live-key")
    steps = steps.replace("$config", str(DEFAULT_CONFIG))
    commands = re.findall(r"(?:sudo|sudoedit) .*?(?=  and then|$)", steps, re.MULTILINE)
    assert len(commands) >= 5
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    assert [line for line in commands if line.strip() not in lines] == []


def test_who_relies_on_prembly_s_answers_reads_that_its_live_api_was_never_asked() -> None:
    recipe = re.compile(r"^## Activate a customer.*?^## ", re.MULTILINE | re.DOTALL)
    texts = [PAGES[f"docs/{page}.md"] for page in ("trust", "missed-webhooks")]
    texts += [PAGES["README.md"].partition("\n## ")[0]]
    texts += [recipe.findall(PAGES[page])[0] for page in ("README.md", "docs/install.md")]
    for text in texts:
        assert re.search(r"never (run )?against Prembly's (live )?API", " ".join(text.split()))


def test_the_readme_says_what_a_bare_debian_lacks_before_its_first_line() -> None:
    """What `.ci/run` gives a bare Debian before it types that line."""
    before = PAGES["README.md"].partition("```sh")[0]
    (given,) = re.findall(r"debootstrap --include=(\S+)", (ROOT / ".ci/run").read_text())
    assert f"`sudo apt install {given.replace(',', ' ')}` first" in before


def test_no_page_puts_keys_where_the_checkout_may_be() -> None:
    """A clone made in the home folder is ~/premblyd."""
    assert "~/premblyd" not in EVERYTHING


@pytest.mark.process
def test_no_file_names_a_place_of_the_workplace() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert len(paths) > 50
    texts = {path: path.read_bytes() for path in paths if path.is_file()}
    assert not [
        (str(path.relative_to(ROOT)), place)
        for path, text in texts.items()
        for place in OF_THE_WORKPLACE
        if place.encode() in text
    ]
