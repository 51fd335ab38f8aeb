"""The unit files and the install script, as far as they can be judged without running them."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.users import NOBODY
from tests.systemd.machine import REPOSITORY

FOLDER = REPOSITORY / "systemd"
INSTALL = FOLDER / "install.sh"
STEPS = FOLDER / "steps.sh"  # what install.sh and the Debian package do alike
SHELL = (b"#!/bin/sh\n", b"# shellcheck shell=sh ")
SCRIPTS = sorted(
    path for path in FOLDER.rglob("*") if path.is_file() and path.read_bytes().startswith(SHELL)
)
RECONCILE = "premblyd-reconcile.service"
BACKUP = "premblyd-backup.service"
TIMERS = ("premblyd-reconcile.timer", "premblyd-backup.timer")
UNITS = ("premblyd.service", "premblyd.socket", RECONCILE, TIMERS[0], BACKUP, TIMERS[1])
MOST_EXPOSED = 1.3


def tool(name: str, package: str) -> str:
    """Return the path of a tool, or skip."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is missing (apt-get install {package})")
    return str(path)


def settings(unit: str) -> dict[str, list[str]]:
    """Return the values of each key of a unit file."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / unit).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def function(name: str) -> str:
    """Return the text of a function of the install script, or of what it shares."""
    scripts = INSTALL.read_text() + STEPS.read_text()
    (found,) = re.findall(rf"^{name}\(\) \{{.*?^\}}", scripts, re.M | re.S)
    return str(found)


def installed(unit: str, systemd_version: int) -> str:
    """Return a unit as it is installed where systemd has this version."""
    script = f". {STEPS}\nfor_systemd {FOLDER / unit} {systemd_version}"
    return subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True).stdout


@pytest.mark.process
def test_restarts_get_rarer_where_systemd_can_do_that() -> None:
    since_254 = {"RestartSteps=6", "RestartMaxDelaySec=1min"}
    for unit in UNITS:
        old, new = installed(unit, 253).splitlines(), installed(unit, 254).splitlines()
        assert old == (FOLDER / unit).read_text().splitlines()
        assert set(new) - set(old) == (since_254 if unit == "premblyd.service" else set())


@pytest.mark.parametrize("unit", ["premblyd.service", "premblyd.container"])
def test_a_daemon_comes_back_however_it_ends_but_for_what_only_people_mend(unit: str) -> None:
    """A hook's `kill $PPID` ends it in good order, status 0. `systemctl stop` is honoured
    whatever stands here."""
    service = settings(unit)
    assert service["Restart"] == ["always"]
    assert service["StartLimitIntervalSec"] == ["0"]
    only_people = {int(status) for status in service["RestartPreventExitStatus"][0].split()}
    assert only_people == {os.EX_CONFIG, 2}


@pytest.mark.process
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze", "systemd")
    printed = subprocess.run([analyze, "--version"], capture_output=True, text=True).stdout
    version = int(printed.split()[1])
    program = tmp_path / "premblyd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:
        text = installed(unit, version).replace("/opt/premblyd/current/bin/premblyd", str(program))
        (tmp_path / unit).write_text(text)
    verify = [analyze, "verify", "--man=no", *(str(tmp_path / unit) for unit in UNITS)]
    done = subprocess.run(verify, capture_output=True, text=True)
    # Of the host's own units it may complain too.
    complaints = [line for line in done.stderr.splitlines() if "premblyd" in line]
    assert (done.returncode, complaints) == (0, [])


@pytest.mark.process
def test_the_sandbox_leaves_little_exposed() -> None:
    analyze = [tool("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager"]
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    for unit in ("premblyd.service", RECONCILE, BACKUP):
        command = [*analyze, str(FOLDER / unit)]
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        assert exposure, done.stdout + done.stderr
        assert float(exposure[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("unit", [RECONCILE, BACKUP])
def test_what_runs_beside_the_daemon_has_its_sandbox_user_and_keys(unit: str) -> None:
    _, _, sandbox = (FOLDER / "premblyd.service").read_text().partition("# The sandbox.")
    keys = set(re.findall(r"^(\w+)=", sandbox.partition("[Install]")[0], re.MULTILINE))
    assert len(keys) > 25
    keys |= {"User", "Group", "StateDirectory", "ConfigurationDirectory", "LoadCredential"}
    daemon, aside = settings("premblyd.service"), settings(unit)
    alike = keys - {"RemoveIPC"}
    assert {key: aside.get(key) for key in alike} == {key: daemon[key] for key in alike}
    assert not {"RemoveIPC", "Environment"} & aside.keys()


@pytest.mark.parametrize("timer", TIMERS)
def test_a_timer_is_installed_and_not_enabled(timer: str) -> None:
    assert timer in INSTALL.read_text()
    assert f"enable {timer.partition('.')[0]}" not in INSTALL.read_text()
    assert f"systemctl enable --now {timer}" in (REPOSITORY / "docs/install.md").read_text()


@pytest.mark.process
def test_each_script_is_clean_and_parses_in_a_plain_posix_shell() -> None:
    commands = ([tool("shellcheck", "shellcheck"), "-x"], [tool("dash", "dash"), "-n"])
    for script in SCRIPTS:
        for command in commands:
            done = subprocess.run([*command, script], capture_output=True, text=True)
            assert (done.returncode, done.stdout + done.stderr) == (0, ""), script
        # What no person runs by its name is not executable.
        assert os.access(script, os.X_OK) == (script != STEPS and script.parent == FOLDER)


@pytest.mark.process
def test_the_install_script_wants_root() -> None:
    setpriv = tool("setpriv", "util-linux")
    as_nobody = [setpriv, f"--reuid={NOBODY}", "--clear-groups", "sh", "-s"]
    command = [str(INSTALL)] if os.geteuid() else as_nobody
    script = INSTALL.read_text()  # nobody may not read it where it lies, nor be in root's folder
    done = subprocess.run(command, input=script, capture_output=True, text=True, cwd="/")
    assert done.returncode == 1
    assert "run this as root" in done.stderr


@pytest.mark.process
def test_the_install_script_refuses_what_it_does_not_know() -> None:
    for arguments, message in {
        "--frm x": "unknown argument --frm",
        "--from": "--from needs",
        "--with mysql": "--with needs the word postgresql or encryption",
    }.items():
        done = subprocess.run([INSTALL, *arguments.split()], capture_output=True, text=True)
        assert (done.returncode, message in done.stderr) == (2, True)


@pytest.mark.process
def test_an_update_knows_which_extras_are_needed(tmp_path: Path) -> None:
    script = f"set -eu; with=; opt=.; config=config\n{function('keep_extras')}\n"
    script += f"{function('keep_extra')}\nkeep_extras; echo $with"
    for number, (configuration, installed, chosen) in enumerate(
        (
            ("database: sqlite:///p.db", "orjson", ""),
            ("database: sqlite:///p.db", "psycopg", "postgresql"),
            ("database: {url: 'postgresql://db/p'}", "orjson", "postgresql"),
            ("# database: postgresql://db/p", "orjson", ""),
            ("# encryption:", "orjson", ""),
            ("encryption:", "psycopg", "postgresql encryption"),
            ("database: sqlite:///p.db", "sqlcipher3", "encryption"),
        )
    ):
        folder = tmp_path / str(number)
        (folder / "current/lib/python3.9/site-packages" / installed).mkdir(parents=True)
        (folder / "config").write_text(f"{configuration}\n")
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, cwd=folder)
        assert (done.returncode, done.stdout.strip()) == (0, chosen)


def test_units_and_install_script_agree_on_every_path() -> None:
    script, service = INSTALL.read_text() + STEPS.read_text(), settings("premblyd.service")
    values = dict(re.findall(r"^(\w+)=(\S+)$", script, re.MULTILINE))
    for name, value in values.items():
        script = script.replace(f"${name}/", f"{value}/")
    (units,) = re.findall(r'^all_units="(.*)"$', script, re.MULTILINE)
    assert tuple(units.split()) == UNITS
    for name in (*UNITS, "premblyd.sysusers", "premblyd.tmpfiles"):
        assert (FOLDER / name).is_file()
    assert service["ExecStart"][0].split()[0] == f"{values['opt']}/current/bin/premblyd"
    assert service["LoadCredential"] == [f"credentials:{values['etc']}/credentials"]
    assert service["ConfigurationDirectory"] == ["premblyd"]
    assert values["etc"] == "/etc/premblyd"
    user = (FOLDER / "premblyd.sysusers").read_text().splitlines()[-1].split()
    assert user[:2] == ["u", service["User"][0]]
    assert f"/var/lib/{service['StateDirectory'][0]}" in user
    assert settings("premblyd.socket")["ListenStream"] == ["127.0.0.1:8080"]


def pins(name: str) -> dict[str, str]:
    """Return the versions in a file of requirements, each of which has its hashes. How it is
    renewed is on the page."""
    text = (FOLDER / name).read_text()
    command = re.search(r"^#    (pip-compile .*)$", text, re.MULTILINE)
    assert command
    assert command[1] in (REPOSITORY / "CONTRIBUTING.md").read_text()
    found = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\\n    --hash=sha256:", text, re.MULTILINE))
    assert len(found) == len(re.findall(r"^[^\s#]", text, re.MULTILINE))
    return found


def requirements(section: str, key: str) -> list[Requirement]:
    """Return what setup.cfg requires."""
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    return [Requirement(line) for line in settings[section][key].split("\n") if line]


def test_what_is_installed_is_pinned_by_hashes_and_is_what_setup_cfg_wants() -> None:
    pinned = pins("requirements.txt")
    wanted = requirements("options", "install_requires")
    for requirement in (*wanted, Requirement("setuptools>=77")):
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement


@pytest.mark.parametrize("extra", ["postgresql", "encryption"])
def test_what_an_extra_needs_is_pinned_beside_it_as_setup_cfg_wants_it(extra: str) -> None:
    base, pinned = pins("requirements.txt"), pins(f"requirements-{extra}.txt")
    (library,) = requirements("options.extras_require", extra)
    assert library.specifier.contains(pinned[library.name])
    assert library.extras == ({"binary"} if extra == "postgresql" else set())
    lines = (FOLDER / f"requirements-{extra}.in").read_text().splitlines()
    assert lines[1:] == ["-c requirements.txt", str(library)]
    # pip would change what the other file has installed.
    assert {name: base[name] for name in pinned.keys() & base.keys()}.items() <= pinned.items()
    assert library.name not in base
    assert pinned.get("psycopg-binary") == pinned.get("psycopg")


@pytest.mark.process
def test_the_stand_in_for_prembly_starts_where_no_pytest_is() -> None:
    """It runs in the machines, with premblyd's own libraries."""
    without = "import sys; sys.modules['pytest'] = None; import tests.support.prembly_api"
    subprocess.run([sys.executable, "-c", without], cwd=REPOSITORY, check=True)
