"""No recipe of ours runs for an event that is not about its subject: every action on the pages, in
the sample configuration and in the demo, with every sample."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from premblyd.config.load import parse_config
from premblyd.config.models import Config
from premblyd.config.routing import Routing
from premblyd.config.secrets import SecretPlaces
from premblyd.features.tryout import cli_demo, samples
from premblyd.prembly import events, payload
from premblyd.prembly.payload import Outcome, Verdict, Webhook
from tests.support.commands import run
from tests.support.jobs import webhook
from tests.support.pages import PAGES, ROOT, Block, blocks, explained
from tests.support.rows import for_each
from tests.test_docs import SECRET

Subject = Callable[[Verdict], bool]


def of_type(*patterns: str) -> Subject:
    return lambda verdict: events.matches(patterns, verdict.type)


def everything(verdict: Verdict) -> bool:
    return True


def verification(verdict: Verdict) -> bool:
    return events.is_about_verification(verdict.type)


# What each action of ours is about, unless it is about every verification or about everything. An
# action that is new on a page needs its line here.
SUBJECTS: dict[str, Subject] = {
    "activate-customer": lambda verdict: (
        verification(verdict) and verdict.outcome is Outcome.VERIFIED
    ),
    "page-operations": lambda verdict: (
        verification(verdict) and verdict.response_code in ("02", "03")
    ),
    "review-workflow": of_type("workflow.process.manual_review"),
    "hold-payment": of_type("transaction.*"),
    "tell-compliance": of_type("watchlist.*", "credit*"),
    "open-case": of_type("workflow.process.manual_review", "transaction.escalated", "watchlist.*"),
    "look-at-it": lambda verdict: bool(verdict.doubt),
}
SUBJECTS |= dict.fromkeys(("record-result", "tell-analytics", "tell-crm"), verification)
OF_ALL = ("tell-ledger", "archive", "log", "old-handler", "tell-operations")
SUBJECTS |= dict.fromkeys(OF_ALL, everything)
# What a fragment of a configuration leaves out.
BASE = {
    "database": "database: sqlite:///premblyd.db\n",
    "endpoints": "endpoints: [{name: prembly, path: /p, keys: {live: a-key}}]\n",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A configuration that users read, and where."""

    place: str
    text: str

    def load(self, folder: Path) -> Config:
        for name in re.findall(r"file: ([\w-]+)", self.text):
            (folder / name).write_text(f"{SECRET}\n")
        keys = set(re.findall(r"^(\w+):", self.text, re.MULTILINE))
        text = "".join(rest for key, rest in BASE.items() if key not in keys) + self.text
        return parse_config(text, folder / "premblyd.yaml", SecretPlaces(folder, {}))


def _sample_configuration() -> str:
    """Return the sample with its examples in force."""
    text = (ROOT / "config" / "premblyd.yaml").read_text()
    _, actions, examples = text.partition("# actions:\n")
    examples, _, _ = examples.partition("# Below is what few need to change.\n")
    examples = re.sub(r"^# ?", "", actions + examples, flags=re.MULTILINE)
    return "prembly: {api_key: {file: prembly-api-key}}\n" + examples.strip()


RECIPES = [
    *(Recipe(str(block), block.text) for block in blocks("yaml") if "actions:" in block.text),
    Recipe("config/premblyd.yaml", _sample_configuration()),
    Recipe("premblyd demo", cli_demo.CONFIG.format(port=0)),
]


INSTALLED = (ROOT / "config" / "premblyd.yaml").read_text()


def appended(recipe: str) -> str:
    """Return the file that install.sh writes with a recipe behind it, as a person does that: of a
    section that is in force already, the recipe's stays."""
    file = INSTALLED
    for key in re.findall(r"^(\w+):", recipe, re.MULTILINE):
        file = re.sub(rf"^{key}:.*\n((?:[ -].*)?\n)*", "", file, flags=re.MULTILINE)
    return f"{file}\n{recipe}"


SPECIAL = {"url": "https://example.com/hush"}  # by how its name ends
# What check may say of our recipes: what this machine lacks, and what the page says beside them.
EXPECTED = re.compile(
    r"is not an executable here|the database can't be used now"
    r"|the public-key scheme proves nothing"
    r"|whoever has your public key can write that"
)


@for_each("block", blocks("yaml"))
def test_check_takes_every_recipe_behind_the_installed_file(block: Block, tmp_path: Path) -> None:
    text = re.sub(r"(\blisten: )[^ ,}\n]+", r"\g<1>127.0.0.1:0", appended(block.text))
    text = text.replace("/var/lib/premblyd/premblyd.db", f"{tmp_path}/premblyd.db")
    for name in re.findall(r"file: ([\w-]+)", text):
        special = SPECIAL.get(name.rpartition("-")[2])
        (tmp_path / name).write_text(special or f"{SECRET}{len(name):04}")
    path = tmp_path / "premblyd.yaml"
    path.touch(mode=0o640)
    path.write_text(text)
    done = run("check", "--config", path)
    assert done.code == (78 if "the daemon can't start" in done.err else 0), done.err
    assert [line for line in done.err.splitlines() if not EXPECTED.search(line)] == []


def test_a_recipe_with_actions_alone_is_appended_as_it_is(tmp_path: Path) -> None:
    texts = [block.text for block in blocks("yaml") if block.text.startswith("actions:")]
    assert len(texts) > 3
    assert all(appended(text) == f"{INSTALLED}\n{text}" for text in texts)


def sent_to(settings: Config, name: str) -> list[Webhook]:
    """Return a sample as if each endpoint had got it signed by each of its keys."""
    body = samples.sample(name)
    return [
        replace(
            webhook(),
            endpoint=endpoint.name,
            body=body,
            verified_by=f"{endpoint.forms[0].scheme}:{key}",
            verdict=payload.read(body, endpoint.fields),
        )
        for endpoint in settings.endpoints
        for key in endpoint.keys
    ]


@for_each("recipe", RECIPES)
def test_no_recipe_runs_for_an_event_that_is_not_about_its_subject(
    recipe: Recipe, tmp_path: Path
) -> None:
    settings = recipe.load(tmp_path)
    routing = Routing(settings.actions)
    ran = set()
    for name in samples.NAMES:
        for sent in sent_to(settings, name):
            for action in routing.actions_for(sent):
                assert SUBJECTS[action.name](sent.verdict), f"{action.name} runs for {name}"
                ran.add(action.name)
    assert ran == {action.name for action in settings.actions}, "each runs for some sample"


def test_every_type_has_a_sample_and_each_stands_on_its_page() -> None:
    types = {payload.read(samples.sample(name)).type for name in samples.NAMES}
    assert set(events.MEANINGS) - types == {"credit", "other", "prembly.status", "unknown"}
    assert "credit.decision" in types
    told = PAGES["docs/configuration.md"].partition("## Which events come")[2].partition("\n## ")[0]
    assert set(events.MEANINGS) <= set(explained(told))
    table = PAGES["docs/commands.md"].partition("\nThe samples:\n")[2]
    assert sorted(explained(table)) == list(samples.NAMES)
