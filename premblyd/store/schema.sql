CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    endpoint TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,
    remote_ip TEXT NOT NULL,
    token TEXT,
    headers TEXT NOT NULL,
    body_bytes INTEGER NOT NULL,
    body_digest TEXT NOT NULL,
    verified_by TEXT NOT NULL,
    kind TEXT NOT NULL,
    response_code TEXT,
    status TEXT,
    detail TEXT,
    verification_status TEXT,
    outcome TEXT NOT NULL,
    reference TEXT,
    user_ref TEXT,
    session_id TEXT,
    face_match INTEGER,
    face_confidence REAL,
    duplicate_count INTEGER NOT NULL DEFAULT 0,
    last_duplicate_at_ms INTEGER,
    type TEXT NOT NULL,
    risk_level TEXT,
    risk_score REAL,
    doubt TEXT NOT NULL,
    reference_key TEXT,
    removed_parts TEXT,
    body BLOB
) STRICT;

CREATE INDEX event_received ON event (received_at_ms);

CREATE INDEX event_response_code ON event (response_code);

CREATE INDEX event_outcome ON event (outcome);

CREATE INDEX event_type ON event (type);

CREATE INDEX event_reference ON event (reference) WHERE reference IS NOT NULL;

CREATE INDEX event_reference_key ON event (reference_key) WHERE reference_key IS NOT NULL;

CREATE INDEX event_user_ref ON event (user_ref) WHERE user_ref IS NOT NULL;

CREATE INDEX event_session ON event (session_id) WHERE session_id IS NOT NULL;

CREATE INDEX event_doubted ON event (received_at_ms) WHERE doubt != '';

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL REFERENCES event (id),
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    due_at_ms INTEGER,
    attempt_count INTEGER NOT NULL DEFAULT 0,
    attempts_left INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    last_error TEXT,
    ran_instead_id INTEGER REFERENCES delivery (id),
    held_by TEXT,
    CHECK ((finished_at_ms IS NULL) = (state IN ('pending', 'running'))),
    CHECK ((due_at_ms IS NOT NULL) = (state = 'running' OR (state = 'pending' AND held_by IS NULL))),
    CHECK (attempt_count >= 0 AND attempts_left >= 0)
) STRICT;

CREATE INDEX delivery_event ON delivery (event_id);

CREATE INDEX delivery_state ON delivery (state);

CREATE INDEX delivery_dead ON delivery (state, action) WHERE state = 'dead';

CREATE INDEX delivery_queue ON delivery (action, due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE INDEX delivery_held ON delivery (held_by, action) WHERE held_by IS NOT NULL;

CREATE INDEX delivery_ran_instead ON delivery (ran_instead_id) WHERE ran_instead_id IS NOT NULL;

CREATE TABLE attempt (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id INTEGER NOT NULL REFERENCES delivery (id),
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,
    action_digest TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    outcome TEXT,
    exit_code INTEGER,
    http_status INTEGER,
    error TEXT,
    output TEXT,
    output_truncated INTEGER NOT NULL DEFAULT 0,
    claim_token TEXT NOT NULL,
    UNIQUE (delivery_id, number),
    CHECK ((outcome IS NULL) = (finished_at_ms IS NULL))
) STRICT;

CREATE TABLE rejection (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    endpoint TEXT NOT NULL,
    remote_ip TEXT NOT NULL,
    reason TEXT NOT NULL,
    body_bytes INTEGER,
    body_digest TEXT,
    hint TEXT
) STRICT;

CREATE TABLE operator_action (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    event_id INTEGER,
    delivery_id INTEGER,
    note TEXT,
    part_of_id INTEGER
) STRICT;

CREATE INDEX operator_action_whole ON operator_action (id) WHERE part_of_id IS NULL;

CREATE INDEX operator_action_part ON operator_action (part_of_id) WHERE part_of_id IS NOT NULL;

CREATE INDEX operator_action_event ON operator_action (event_id) WHERE event_id IS NOT NULL;

CREATE INDEX operator_action_delivery ON operator_action (delivery_id) WHERE delivery_id IS NOT NULL;

CREATE INDEX operator_action_note ON operator_action (at_ms, id) WHERE note IS NOT NULL AND event_id IS NULL AND delivery_id IS NULL;

CREATE TABLE downtime (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    from_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    reconciled_at_ms INTEGER
) STRICT;

CREATE TABLE record (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schema_number INTEGER NOT NULL,
    schema_digest TEXT NOT NULL,
    record_id TEXT NOT NULL,
    digest_key BLOB NOT NULL,
    alive_at_ms INTEGER,
    machine_start TEXT,
    uptime_ms INTEGER,
    trusted_ms INTEGER,
    trusted_start TEXT,
    trusted_uptime_ms INTEGER,
    vacuum_rate INTEGER
) STRICT;

CREATE TABLE schema_part (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    feature TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL
) STRICT;

CREATE TABLE host (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    worker TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    actions TEXT NOT NULL DEFAULT '',
    started_at_ms INTEGER NOT NULL,
    seen_at_ms INTEGER NOT NULL,
    beat_count INTEGER NOT NULL DEFAULT 0,
    ended_at_ms INTEGER,
    ended TEXT,
    lost_after_ms INTEGER,
    forgotten_at_ms INTEGER
) STRICT;

CREATE VIEW event_log AS
SELECT id, key, strftime('%Y-%m-%dT%H:%M:%fZ', received_at_ms / 1000.0, 'unixepoch') AS received_at, endpoint, type, kind,
       response_code, status, outcome, verification_status, detail, reference, user_ref,
       face_match, face_confidence, risk_level, risk_score, remote_ip, verified_by, body_bytes,
       body_digest, duplicate_count, strftime('%Y-%m-%dT%H:%M:%fZ', last_duplicate_at_ms / 1000.0, 'unixepoch') AS last_duplicate_at, doubt,
       reference_key, removed_parts
FROM event;

CREATE VIEW delivery_log AS
SELECT delivery.id, delivery.event_id, event.type, event.reference, event.response_code,
       event.outcome, delivery.action, delivery.state, delivery.attempt_count,
       delivery.attempts_left, strftime('%Y-%m-%dT%H:%M:%fZ', delivery.created_at_ms / 1000.0, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', delivery.due_at_ms / 1000.0, 'unixepoch') AS due_at, strftime('%Y-%m-%dT%H:%M:%fZ', delivery.finished_at_ms / 1000.0, 'unixepoch') AS finished_at,
       delivery.held_by, delivery.ran_instead_id, delivery.last_error
FROM delivery JOIN event ON event.id = delivery.event_id;

CREATE VIEW attempt_log AS
SELECT attempt.id, attempt.delivery_id, delivery.event_id, delivery.action, attempt.number,
       attempt.worker, attempt.action_digest, strftime('%Y-%m-%dT%H:%M:%fZ', attempt.started_at_ms / 1000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', attempt.finished_at_ms / 1000.0, 'unixepoch') AS finished_at, attempt.outcome, attempt.exit_code,
       attempt.http_status, attempt.error
FROM attempt JOIN delivery ON delivery.id = attempt.delivery_id;

CREATE VIEW host_log AS
SELECT id, worker, name, pid, version, strftime('%Y-%m-%dT%H:%M:%fZ', started_at_ms / 1000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', seen_at_ms / 1000.0, 'unixepoch') AS seen_at, strftime('%Y-%m-%dT%H:%M:%fZ', ended_at_ms / 1000.0, 'unixepoch') AS ended_at, ended, lost_after_ms,
       strftime('%Y-%m-%dT%H:%M:%fZ', forgotten_at_ms / 1000.0, 'unixepoch') AS forgotten_at
FROM host;

CREATE TABLE verification_name (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    verification TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    claimed_at_ms INTEGER
) STRICT;

CREATE INDEX verification_name_verification ON verification_name (verification);

CREATE INDEX verification_name_claimed ON verification_name (claimed_at_ms) WHERE claimed_at_ms IS NOT NULL;

CREATE TABLE hold (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_ref TEXT,
    reference TEXT,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER,
    actor TEXT NOT NULL,
    reason TEXT,
    ended_at_ms INTEGER,
    ended_by TEXT
) STRICT;

CREATE INDEX hold_user_ref ON hold (user_ref) WHERE ended_at_ms IS NULL AND user_ref IS NOT NULL;

CREATE INDEX hold_reference ON hold (reference) WHERE ended_at_ms IS NULL AND reference IS NOT NULL;

CREATE TABLE erasure (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    found_by TEXT NOT NULL,
    subject TEXT,
    events INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    vacuumed_at_ms INTEGER
) STRICT;

CREATE INDEX erasure_subject ON erasure (subject);

CREATE TABLE to_erase (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL UNIQUE,
    erasure_id INTEGER NOT NULL
) STRICT;

CREATE INDEX to_erase_erasure ON to_erase (erasure_id, id);

CREATE TABLE erased_name (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    erasure_id INTEGER NOT NULL
) STRICT;

CREATE TABLE erased_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL UNIQUE,
    erasure_id INTEGER NOT NULL
) STRICT;

CREATE INDEX erased_event_erasure ON erased_event (erasure_id);

CREATE TABLE kept_from (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE removal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    day_ms INTEGER NOT NULL,
    removed TEXT NOT NULL,
    period_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    UNIQUE (day_ms, removed, period_ms)
) STRICT;

CREATE TABLE sweep (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    removed TEXT NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL,
    row_id INTEGER NOT NULL
) STRICT;

CREATE TABLE gone_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    event_id INTEGER NOT NULL
) STRICT;

CREATE TABLE erasure_file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    file TEXT NOT NULL,
    unknown INTEGER NOT NULL,
    error TEXT
) STRICT;

CREATE TABLE pause (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    action TEXT NOT NULL UNIQUE,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER,
    reason TEXT
) STRICT;

CREATE TABLE ordered (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id INTEGER NOT NULL UNIQUE REFERENCES delivery (id),
    action TEXT NOT NULL,
    order_key TEXT NOT NULL,
    place INTEGER NOT NULL,
    waits_for_id INTEGER,
    blocks INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX ordered_line ON ordered (order_key, action, place);

CREATE INDEX ordered_waits ON ordered (waits_for_id) WHERE waits_for_id IS NOT NULL;

CREATE TABLE once_run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id INTEGER UNIQUE REFERENCES delivery (id) ON DELETE CASCADE,
    action TEXT NOT NULL,
    once_key TEXT,
    confirmed_key TEXT
) STRICT;

CREATE UNIQUE INDEX once_run_key ON once_run (once_key, action) WHERE once_key IS NOT NULL;

CREATE VIEW order_log AS
SELECT ordered.delivery_id, delivery.event_id, ordered.action, delivery.state, ordered.order_key,
       ordered.place, ordered.waits_for_id, ordered.blocks
FROM ordered JOIN delivery ON delivery.id = ordered.delivery_id;

CREATE VIEW once_log AS
SELECT once_run.delivery_id, delivery.event_id, once_run.action, delivery.state, once_run.once_key,
       once_run.confirmed_key
FROM once_run LEFT JOIN delivery ON delivery.id = once_run.delivery_id;

CREATE TABLE inquiry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    event_id INTEGER REFERENCES event (id) ON DELETE CASCADE,
    delivery_id INTEGER REFERENCES delivery (id) ON DELETE CASCADE,
    reference TEXT,
    result TEXT NOT NULL,
    duration_ms INTEGER NOT NULL,
    http_status INTEGER,
    error TEXT,
    answer_bytes INTEGER,
    answer_digest TEXT,
    stored_event_id INTEGER REFERENCES event (id) ON DELETE CASCADE
) STRICT;

CREATE INDEX inquiry_event ON inquiry (event_id) WHERE event_id IS NOT NULL;

CREATE INDEX inquiry_delivery ON inquiry (delivery_id) WHERE delivery_id IS NOT NULL;

CREATE INDEX inquiry_stored_event ON inquiry (stored_event_id) WHERE stored_event_id IS NOT NULL;

CREATE INDEX inquiry_contradicted ON inquiry (event_id) WHERE result = 'contradicted';

CREATE INDEX inquiry_without_event ON inquiry (reference) WHERE event_id IS NULL AND reference IS NOT NULL;

CREATE TABLE awaited (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint TEXT NOT NULL,
    reference TEXT NOT NULL,
    event_id INTEGER NOT NULL REFERENCES event (id) ON DELETE CASCADE,
    state TEXT NOT NULL,
    due_at_ms INTEGER,
    ask_count INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    finished_at_ms INTEGER,
    settled_by_id INTEGER REFERENCES event (id) ON DELETE CASCADE,
    last_error TEXT,
    reference_key TEXT,
    asked_at_ms INTEGER,
    answered_at_ms INTEGER,
    known_at_ms INTEGER,
    CHECK ((due_at_ms IS NOT NULL) = (state = 'waiting'))
) STRICT;

CREATE INDEX awaited_due ON awaited (due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE INDEX awaited_reference ON awaited (reference);

CREATE INDEX awaited_reference_key ON awaited (reference_key) WHERE reference_key IS NOT NULL;

CREATE INDEX awaited_event ON awaited (event_id);

CREATE INDEX awaited_settled_by ON awaited (settled_by_id) WHERE settled_by_id IS NOT NULL;

CREATE INDEX awaited_given_up ON awaited (finished_at_ms) WHERE state = 'given_up';

CREATE INDEX awaited_turn ON awaited ((known_at_ms IS NULL), (COALESCE(asked_at_ms, 0)), created_at_ms DESC, due_at_ms) WHERE due_at_ms IS NOT NULL;

CREATE TABLE day (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    day_ms INTEGER NOT NULL UNIQUE,
    read_at_ms INTEGER NOT NULL,
    is_complete INTEGER NOT NULL,
    reasons TEXT NOT NULL,
    counts TEXT NOT NULL
) STRICT;

CREATE TABLE confirmation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id INTEGER NOT NULL UNIQUE REFERENCES delivery (id) ON DELETE CASCADE,
    at_ms INTEGER NOT NULL,
    answer_digest TEXT,
    facts TEXT NOT NULL
) STRICT;

CREATE VIEW confirm_log AS
SELECT confirmation.delivery_id, delivery.event_id, delivery.action, delivery.state,
       strftime('%Y-%m-%dT%H:%M:%fZ', confirmation.at_ms / 1000.0, 'unixepoch') AS confirmed_at, confirmation.answer_digest, confirmation.facts
FROM confirmation JOIN delivery ON delivery.id = confirmation.delivery_id;

CREATE TABLE event_hour (
    hour_ms INTEGER NOT NULL,
    type TEXT NOT NULL,
    response_code TEXT NOT NULL,
    outcome TEXT NOT NULL,
    events INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    unmatched INTEGER NOT NULL DEFAULT 0,
    part INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour_ms, type, response_code, outcome, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt_hour (
    hour_ms INTEGER NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    bucket_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    part INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (hour_ms, action, outcome, bucket_ms, part)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER attempt_counted AFTER UPDATE OF outcome ON attempt
WHEN OLD.outcome IS NULL AND NEW.outcome IS NOT NULL AND NEW.finished_at_ms IS NOT NULL
BEGIN
    INSERT INTO attempt_hour
    SELECT NEW.finished_at_ms / 3600000 * 3600000, action, NEW.outcome, CASE WHEN took <= 1 THEN 1 WHEN took <= 2 THEN 2 WHEN took <= 3 THEN 3 WHEN took <= 4 THEN 4 WHEN took <= 6 THEN 6 WHEN took <= 8 THEN 8 WHEN took <= 12 THEN 12 WHEN took <= 16 THEN 16 WHEN took <= 24 THEN 24 WHEN took <= 32 THEN 32 WHEN took <= 48 THEN 48 WHEN took <= 64 THEN 64 WHEN took <= 96 THEN 96 WHEN took <= 128 THEN 128 WHEN took <= 192 THEN 192 WHEN took <= 256 THEN 256 WHEN took <= 384 THEN 384 WHEN took <= 512 THEN 512 WHEN took <= 768 THEN 768 WHEN took <= 1024 THEN 1024 WHEN took <= 1536 THEN 1536 WHEN took <= 2048 THEN 2048 WHEN took <= 3072 THEN 3072 WHEN took <= 4096 THEN 4096 WHEN took <= 6144 THEN 6144 WHEN took <= 8192 THEN 8192 WHEN took <= 12288 THEN 12288 WHEN took <= 16384 THEN 16384 WHEN took <= 24576 THEN 24576 WHEN took <= 32768 THEN 32768 WHEN took <= 49152 THEN 49152 WHEN took <= 65536 THEN 65536 WHEN took <= 98304 THEN 98304 WHEN took <= 131072 THEN 131072 WHEN took <= 196608 THEN 196608 WHEN took <= 262144 THEN 262144 WHEN took <= 393216 THEN 393216 WHEN took <= 524288 THEN 524288 WHEN took <= 786432 THEN 786432 WHEN took <= 1048576 THEN 1048576 WHEN took <= 1572864 THEN 1572864 WHEN took <= 2097152 THEN 2097152 WHEN took <= 3145728 THEN 3145728 WHEN took <= 4194304 THEN 4194304 WHEN took <= 6291456 THEN 6291456 WHEN took <= 8388608 THEN 8388608 WHEN took <= 12582912 THEN 12582912 WHEN took <= 16777216 THEN 16777216 WHEN took <= 25165824 THEN 25165824 WHEN took <= 33554432 THEN 33554432 WHEN took <= 50331648 THEN 50331648 WHEN took <= 67108864 THEN 67108864 WHEN took <= 100663296 THEN 100663296 WHEN took <= 134217728 THEN 134217728 WHEN took <= 201326592 THEN 201326592 WHEN took <= 268435456 THEN 268435456 WHEN took <= 402653184 THEN 402653184 WHEN took <= 536870912 THEN 536870912 WHEN took <= 805306368 THEN 805306368 WHEN took <= 1073741824 THEN 1073741824 WHEN took <= 1610612736 THEN 1610612736 WHEN took <= 2147483648 THEN 2147483648 WHEN took <= 3221225472 THEN 3221225472 WHEN took <= 4294967296 THEN 4294967296 WHEN took <= 6442450944 THEN 6442450944 WHEN took <= 8589934592 THEN 8589934592 WHEN took <= 12884901888 THEN 12884901888 WHEN took <= 17179869184 THEN 17179869184 WHEN took <= 25769803776 THEN 25769803776 WHEN took <= 34359738368 THEN 34359738368 ELSE 68719476736 END, 1, 0
    FROM (
        SELECT action, NEW.finished_at_ms - NEW.started_at_ms AS took
        FROM delivery WHERE id = NEW.delivery_id
    ) AS found
    WHERE true
    ON CONFLICT (hour_ms, action, outcome, bucket_ms, part)
    DO UPDATE SET attempts = attempt_hour.attempts + 1;
END;

CREATE TABLE alert (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    error TEXT,
    output TEXT,
    UNIQUE (name, kind)
) STRICT;

CREATE TABLE backup_folder (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    folder TEXT NOT NULL UNIQUE,
    copied_at_ms INTEGER,
    error TEXT
) STRICT;

CREATE TABLE console_token (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    remote_ip TEXT,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT;
