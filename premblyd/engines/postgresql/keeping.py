"""What a PostgreSQL server keeps of rows that were deleted or emptied: for `check`, as far as an
ordinary role may see it."""

from typing import Any, NamedTuple

import psycopg

_SETTINGS = """SELECT
    current_setting('archive_mode') <> 'off',
    (SELECT count(*) FROM pg_replication_slots),
    (SELECT count(*) FROM pg_stat_replication),
    current_setting('wal_keep_size'),
    (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_keep_size') > 0,
    current_setting('log_statement') IN ('mod', 'all'),
    current_setting('log_min_duration_statement') <> '-1',
    current_setting('log_parameter_max_length', true) IS DISTINCT FROM '0',
    current_setting('autovacuum') = 'on'"""


class _Found(NamedTuple):
    archives: bool
    slots: int
    standbys: int
    wal_kept: str
    keeps_wal: bool
    logs_statements: bool
    logs_slow: bool
    logs_parameters: bool
    cleans: bool


class KeptLonger(NamedTuple):
    """Facts of what a server keeps, and warnings of what it should not."""

    facts: list[str]
    warnings: list[str]


def kept_longer(connection: "psycopg.Connection[Any]") -> KeptLonger:
    """Look at the settings by which what was erased stays somewhere after it is gone from the
    tables."""
    [row] = connection.execute(_SETTINGS).fetchall()
    found = _Found(*row)
    places = []
    if found.archives:
        places.append("WAL archives (archive_mode is on)")
    if found.slots:
        places.append(f"the WAL that {found.slots} replication slots hold")
    elif found.keeps_wal:
        places.append(f"the WAL (wal_keep_size is {found.wal_kept})")
    if found.standbys:
        places.append(f"{found.standbys} standbys, until they have applied it")
    facts = []
    if places:
        facts.append(
            f"What is erased or removed stays for a while in {'; '.join(places)}, and in base"
            " backups and dumps (docs/personal-data.md)."
        )
    warnings = []
    if (found.logs_statements or found.logs_slow) and found.logs_parameters:
        setting = "log_statement" if found.logs_statements else "log_min_duration_statement"
        warnings.append(
            f"the server's {setting} writes statements with their values into its log, bodies too:"
            " set log_parameter_max_length to 0 for this role"
        )
    if not found.cleans:
        warnings.append(
            "the server's autovacuum is off, so what was removed or erased stays in its table files"
        )
    return KeptLonger(facts, warnings)
