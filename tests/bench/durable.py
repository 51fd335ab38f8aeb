"""The peer that keeps what it answers 200 to, as people write it with Flask: it verifies the
signature, reads the facts, and stores body and facts in one SQLite transaction a webhook.

    DURABLE_PEER=FILE gunicorn --workers 4 tests.bench.durable:application
"""

import hashlib
import json
import os
import sqlite3
import threading
import time
from typing import Any

from flask import Flask, request

from premblyd.ground.errors import SignatureError
from premblyd.prembly import signature
from tests.support.webhooks import KEY, PATH

FILE = "DURABLE_PEER"  # a variable: the database
_TABLE = """
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, received_at_ms INTEGER NOT NULL,
    remote_ip TEXT, token TEXT, body BLOB NOT NULL, reference TEXT, user_ref TEXT,
    response_code TEXT, outcome TEXT, detail TEXT, face_confidence REAL
);
CREATE INDEX IF NOT EXISTS event_reference ON event (reference);
CREATE INDEX IF NOT EXISTS event_received ON event (received_at_ms);
"""
_INSERT = "INSERT OR IGNORE INTO event VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=60)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = full")
    connection.executescript(_TABLE)
    return connection


class Store(threading.local):
    """A thread's connection, which it opens when it is first needed."""

    connection: sqlite3.Connection | None = None

    def add(self, values: tuple[Any, ...]) -> bool:
        """Commit an event to the disk; return whether it is new."""
        if self.connection is None:
            self.connection = _connect(os.environ[FILE])
        return self.connection.execute(_INSERT, values).rowcount > 0


def receive() -> tuple[dict[str, Any], int]:
    """Answer a webhook."""
    body = request.get_data()
    try:
        signature.verify(body, request.headers, {"live": KEY})
    except SignatureError:
        return {"error": "Invalid signature"}, 401
    document = json.loads(body)
    verification = document.get("verification") or {}
    is_new = _STORE.add(
        (
            *(hashlib.sha256(body).hexdigest(), time.time_ns() // 1_000_000, request.remote_addr),
            *(request.headers.get(signature.TOKEN_HEADER), body, verification.get("reference")),
            (document.get("widget_info") or {}).get("user_ref"),
            *(document.get("response_code"), verification.get("status"), document.get("detail")),
            (document.get("face_data") or {}).get("confidence"),
        )
    )
    return {"status": "received", "duplicate": not is_new}, 200


_STORE = Store()
application = Flask(__name__)
application.add_url_rule(PATH, view_func=receive, methods=["POST"])
