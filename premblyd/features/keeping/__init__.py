"""Personal data: how long it is kept, legal holds, erasure, export."""

from premblyd.feature import Command

CONTINUES = "Nothing is half done. Run the same command again to continue."
COMMANDS = (
    Command(
        "person hold",
        "Keep",
        "premblyd.features.keeping.cli_person",
        "Legal hold: exempt a person from deletion.",
    ),
    Command(
        "person release",
        "Keep",
        "premblyd.features.keeping.cli_person",
        "End a legal hold.",
    ),
    Command(
        "person erase",
        "Keep",
        "premblyd.features.keeping.cli_person",
        "Delete every personal value of a person, at their request.",
        interrupted=CONTINUES,
    ),
    Command(
        "person export",
        "Keep",
        "premblyd.features.keeping.cli_person",
        "Write a ZIP of everything stored about a person.",
        interrupted="No file was written. Run the same command again.",
    ),
    Command(
        "record prune",
        "Keep",
        "premblyd.features.keeping.cli_record",
        "Delete data whose retention period has expired.",
        interrupted=CONTINUES,
    ),
    Command(
        "record vacuum",
        "Keep",
        "premblyd.features.keeping.cli_record",
        "Write the database anew, without bytes of erased data.",
        interrupted="Nothing was changed. Run the same command again.",
    ),
)
OCCURRENCES = (
    """
retention.removed         info     removed count
retention.failed          error    cause
erasure.lines_failed      error    cause
""",
)
TROUBLES = (
    ("clock", "the clock is far off, or was"),
    ("retention", "expired data has not been deleted"),
    ("erasure", "an erasure was not finished"),
    ("put_aside", "an old database file is kept, and no erasure reaches it"),
    ("erasure_file", "a file does not remember an erasure, or the database does not"),
)
