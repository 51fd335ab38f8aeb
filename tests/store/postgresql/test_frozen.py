"""A process that is frozen (SIGSTOP) while its machine goes on: what it has locked, others get."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from premblyd.databases import Server

pytestmark = pytest.mark.postgresql

ROOT = Path(__file__).parents[3]
ALONE = "SELECT pg_advisory_xact_lock(730994082)"  # each that writes has it, shared


@pytest.mark.parametrize("ending", ["commits", "fails"])
@pytest.mark.parametrize("form", ["fastest", "python"])
def test_a_process_that_is_frozen_at_any_step_of_a_transaction_keeps_no_lock(
    server: Server, form: str, ending: str
) -> None:
    """psycopg has more than one form; in that of pure Python each call of libpq is a step."""
    environ = os.environ | ({"PSYCOPG_IMPL": form} if form == "python" else {})
    command = [sys.executable, "-m", "tests.support.freezing", server.url, ending]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, env=environ, cwd=ROOT
    ) as frozen:
        assert frozen.stdout is not None
        assert int(frozen.stdout.readline()) >= 10
        with psycopg.connect(server.url) as connection:
            connection.execute("SET lock_timeout = '30s'")
            connection.execute(ALONE)
    assert frozen.returncode == 0
