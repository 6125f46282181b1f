"""The statements on a state in PostgreSQL. Pure: SQL.

Each write is one statement, so it needs no session and holds no lock while the program does anything else.
Its part ``fence`` changes nothing unless the lock, the token and the version are still those of the writer,
and everything else hangs on ``fence``. These rules hold:

- P1: ``version`` rises by one with every write of any kind. ``last_write`` names the write by an id that the
  program made before it first tried.
- P2: ``token`` rises whenever the lock is taken or taken away, and never falls.
- P3: A write changes something only if ``meta`` has its lock, token and version in the same statement. The
  lock on that row lets one writer in after another, and READ COMMITTED looks at the row again after the wait.
- P4: The server's clock alone decides about leases.
- P5: No transaction is open while the program does anything else.
- P6: Each write sets ``synchronous_commit`` for itself, since a role or a pool may have switched it off. Then
  the server would confirm writes that it forgets when it crashes.

``{schema}`` stands for the quoted name of the schema. Arrays are sent in binary (``%(name)b``): as text, a
group of a hundred records takes 15 ms more.
"""

from __future__ import annotations

_NOW = "coalesce(%(at)s::float8, extract(epoch FROM clock_timestamp())::float8)"
"""The server's clock, unless a test gives the time."""
_DURABLE = "set_config('synchronous_commit', 'on', true) IS NOT NULL"

_META_COLUMNS = (
    "format, environment, lineage, serial, content, application, moved, token, version, last_write, "
    f"lock_id, holder, process, since, expires, {_NOW}"
)

META = f"SELECT {_META_COLUMNS} FROM {{schema}}.meta"

_READ = "SELECT meta.format, page.* FROM {schema}.meta LEFT JOIN (%s) AS page ON true ORDER BY 2"
"""The format stands in each row, so nothing is read of a state that a newer program upgraded meanwhile. A
page without rows gives one whose other columns are null."""

_RECORD = "address, revision, body, checksum FROM {schema}.record"
_KNOWN = "address, known FROM {schema}.record"
_AMONG = "WHERE address = ANY(%(addresses)b::text[])"
_PAGE = (
    "WHERE address {comparison} %(last)s::text AND (%(until)s::text IS NULL OR address < %(until)s::text) "
    "ORDER BY address LIMIT %(size)s::bigint"
)
_FIRST, _NEXT = (_PAGE.replace("{comparison}", sign) for sign in (">=", ">"))


def _paged(columns: str) -> tuple[str, str]:
    """The statement of the first page, and of each further one."""
    return _READ % f"SELECT {columns} {_FIRST}", _READ % f"SELECT {columns} {_NEXT}"


RECORDS = _paged(_RECORD)
KNOWN = _paged(_KNOWN)
RECORDS_AMONG = _READ % f"SELECT {_RECORD} {_AMONG}"
KNOWN_AMONG = _READ % f"SELECT {_KNOWN} {_AMONG}"
JOURNAL = _READ % (
    "SELECT id, run, address, kind, at, action, request, detail FROM {schema}.journal "
    "WHERE id > %(last)s::bigint AND (%(run)s::text IS NULL OR run = %(run)s::text) "
    "ORDER BY id LIMIT %(size)s::bigint"
)
READ_RUNS = _READ % (
    "SELECT id, run, started, finished, digest, outcomes, starter FROM {schema}.history "
    "WHERE id > %(last)s::bigint ORDER BY id LIMIT %(size)s::bigint"
)
INTERRUPTED = _READ % (
    "SELECT DISTINCT ON (address) address, kind FROM {schema}.journal WHERE run = "
    "(SELECT run FROM {schema}.journal ORDER BY id DESC LIMIT 1) "
    "AND run NOT IN (SELECT run FROM {schema}.history) ORDER BY address, id DESC"
)
BACKUPS = _READ % "SELECT id, made, lineage, serial, application, size FROM {schema}.backup"
BACKUP_RECORDS = _READ % (
    "SELECT address, revision, body, checksum FROM {schema}.backup_record "
    "WHERE backup = %(backup)s::text AND address > %(last)s::text "
    "ORDER BY address LIMIT %(size)s::bigint"
)

LOCK = f"""
UPDATE {{schema}}.meta SET token = token + 1, version = version + 1, last_write = %(write)s::text,
    lock_id = %(lock)s::text, holder = %(holder)s::text, process = %(process)s::text,
    since = {_NOW}, expires = {_NOW} + %(lease)s::float8
WHERE (lock_id IS NULL OR expires <= {_NOW}
        OR (lock_id = %(dead)s::text AND token = %(dead_token)s::bigint))
    AND (moved IS NULL OR %(even_moved)s::boolean) AND format <= %(format)s::int
    AND environment = %(environment)s::text AND {_DURABLE}
RETURNING {_META_COLUMNS}
"""
"""Takes a lock that is free, over, or of the dead process that was seen."""

UNLOCK = f"""
UPDATE {{schema}}.meta SET lock_id = NULL, holder = NULL, process = NULL, token = token + 1,
    version = version + 1, last_write = %(write)s::text
WHERE lock_id = %(lock)s::text AND token = %(token)s::bigint AND {_DURABLE} RETURNING 1
"""
RELEASE = f"""
UPDATE {{schema}}.meta SET lock_id = NULL, holder = NULL, process = NULL,
    version = version + 1, last_write = %(write)s::text
WHERE lock_id = %(lock)s::text AND token = %(token)s::bigint AND {_DURABLE} RETURNING 1
"""


def _fenced(rest: str = "", *, also: str = "", changes: str = "false") -> str:
    """A write. ``also`` are further columns of ``meta`` to set, ``rest`` further parts of the statement, and
    ``changes`` says whether the write changes a record."""
    return f"""
WITH fence AS (
    UPDATE {{schema}}.meta SET version = version + 1, last_write = %(write)s::text,
        expires = {_NOW} + %(lease)s::float8, lineage = %(lineage)s::text, serial = %(serial)s::bigint,
        application = %(application)s::text,
        content = CASE WHEN {changes} THEN %(write)s::text ELSE content END{also}
    WHERE lock_id = %(lock)s::text AND token = %(token)s::bigint AND version = %(version)s::bigint
        AND format <= %(format)s::int AND {_DURABLE}
    RETURNING 1
){rest}
SELECT count(*) FROM fence
"""


_IF_FENCED = "EXISTS (SELECT FROM fence)"
_NEW_ROWS = (
    "unnest(%(addresses)b::text[], %(bodies)b::text[], %(checksums)b::bigint[], %(known)b::bytea[]) "
    "AS new(address, body, checksum, known)"
)
_DIFFERS = (
    "EXISTS (SELECT FROM unnest(%(addresses)b::text[], %(bodies)b::text[]) AS new(address, body) "
    'LEFT JOIN {schema}.record ON record.address = new.address COLLATE "C" '
    "WHERE record.body IS DISTINCT FROM new.body)"
)
_JOURNAL_ROWS = (
    "unnest(%(runs)b::text[], %(entry_addresses)b::text[], %(kinds)b::text[], %(times)b::float8[], "
    "%(actions)b::text[], %(requests)b::text[], %(details)b::text[]) WITH ORDINALITY "
    "AS new(run, address, kind, at, action, request, detail, place)"
)
_NEW_REVISION = (
    "CASE WHEN excluded.address = ANY(%(anew)b::text[]) THEN excluded.revision "
    "ELSE record.revision + 1 END"
)

WRITE = _fenced(
    f""",
gone AS (
    DELETE FROM {{schema}}.record WHERE address = ANY(%(removed)b::text[]) AND {_IF_FENCED}
),
put AS (
    INSERT INTO {{schema}}.record (address, revision, body, checksum, known)
    SELECT address, %(serial)s::bigint, body, checksum + %(serial)s::bigint, nullif(known, '')
    FROM {_NEW_ROWS} WHERE {_IF_FENCED}
    ON CONFLICT (address) DO UPDATE SET revision = {_NEW_REVISION}, body = excluded.body,
        checksum = excluded.checksum - excluded.revision + {_NEW_REVISION}, known = excluded.known
    WHERE record.body <> excluded.body OR excluded.address = ANY(%(anew)b::text[])
),
noted AS (
    INSERT INTO {{schema}}.journal (run, address, kind, at, action, request, detail)
    SELECT run, address, kind, at, action, request, detail FROM {_JOURNAL_ROWS}
    WHERE {_IF_FENCED} ORDER BY place
)""",
    changes=f"{_DIFFERS} OR EXISTS (SELECT FROM {{schema}}.record "
    "WHERE address = ANY(%(removed)b::text[]) OR address = ANY(%(anew)b::text[]))",
)
"""``removed`` are addresses to remove, ``anew`` those that are removed and put in the same write: parts of
one statement do not see each other, so those get a new revision in place. The serial is above every
revision so far, so a new row repeats none."""

REPLACE = _fenced(
    f""",
gone AS (
    DELETE FROM {{schema}}.record WHERE {_IF_FENCED} AND NOT EXISTS (
        SELECT FROM unnest(%(addresses)b::text[]) AS new(address)
        WHERE record.address = new.address COLLATE "C")
),
put AS (
    INSERT INTO {{schema}}.record (address, revision, body, checksum, known)
    SELECT address, %(serial)s::bigint, body, checksum + %(serial)s::bigint, nullif(known, '')
    FROM {_NEW_ROWS} WHERE {_IF_FENCED}
    ON CONFLICT (address) DO UPDATE SET revision = excluded.revision, body = excluded.body,
        checksum = excluded.checksum, known = excluded.known
    WHERE record.body <> excluded.body OR NOT %(keeps_same)s::boolean
)""",
    changes=f"NOT %(keeps_same)s::boolean OR {_DIFFERS} OR EXISTS (SELECT FROM {{schema}}.record "
    "WHERE NOT EXISTS (SELECT FROM unnest(%(addresses)b::text[]) AS new(address) "
    'WHERE record.address = new.address COLLATE "C"))',
)

RENUMBER = _fenced(
    f""",
numbered AS (
    UPDATE {{schema}}.record SET checksum = checksum - revision + %(serial)s::bigint,
        revision = %(serial)s::bigint WHERE {_IF_FENCED}
)""",
    changes="true",
)

FINISH = _fenced(
    f""",
line AS (
    INSERT INTO {{schema}}.history (run, started, finished, digest, outcomes, starter)
    SELECT %(run)s::text, %(started)s::float8, %(finished)s::float8, %(digest)s::text, %(outcomes)s::text,
        %(starter)s::text
    FROM fence
),
newest AS (
    SELECT %(run)s::text AS run, 0 AS age
    UNION ALL (SELECT run, row_number() OVER (ORDER BY id DESC) FROM {{schema}}.history
        ORDER BY id DESC LIMIT %(kept)s::bigint)
),
old AS (
    DELETE FROM {{schema}}.journal WHERE {_IF_FENCED} AND id < (
        SELECT min(id) FROM {{schema}}.journal
        WHERE run = (SELECT run FROM newest ORDER BY age LIMIT 1 OFFSET %(kept)s::bigint - 1) COLLATE "C")
)"""
)
"""The new line of the history is not seen by the part that counts runs, so it stands there by hand."""

BACKUP = _fenced(
    f""",
copy AS (
    INSERT INTO {{schema}}.backup (id, made, lineage, serial, application, size)
    SELECT %(backup)s::text, {_NOW}, %(lineage)s::text, %(serial)s::bigint, %(application)s::text,
        (SELECT coalesce(sum(octet_length(body)), 0) FROM {{schema}}.record)
    FROM fence ON CONFLICT DO NOTHING
),
copied AS (
    INSERT INTO {{schema}}.backup_record (backup, address, revision, body, checksum)
    SELECT %(backup)s::text, address, revision, body, checksum FROM {{schema}}.record
    WHERE {_IF_FENCED} ON CONFLICT DO NOTHING
),
old AS (
    DELETE FROM {{schema}}.backup WHERE {_IF_FENCED} AND id <> %(backup)s::text AND id NOT IN (
        SELECT id FROM {{schema}}.backup WHERE id <> %(backup)s::text
        ORDER BY made DESC, serial DESC LIMIT %(kept)s::bigint - 1)
    RETURNING id
),
dropped AS (
    DELETE FROM {{schema}}.backup_record USING old WHERE backup_record.backup = old.id
)"""
)

RENEW = _fenced()
MARK_MOVED = _fenced(also=", moved = %(moved)s::text")

UPGRADE_LOCKED = """
SELECT format FROM {schema}.meta WHERE lock_id = %(lock)s::text AND token = %(token)s::bigint
    AND version = %(version)s::bigint FOR UPDATE
"""
UPGRADED = f"""
UPDATE {{schema}}.meta SET format = %(format)s::int, version = version + 1, last_write = %(write)s::text
WHERE {_DURABLE} RETURNING 1
"""

HAS_SCHEMA = (
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %(schema)s::text), "
    "pg_catalog.getdatabaseencoding()"
)

# --- a rate that several processes share ---------------------------------------------------------

_CLOCK = "extract(epoch FROM clock_timestamp())::float8"
_HASTY = "set_config('synchronous_commit', 'off', true) IS NOT NULL"
"""After a crash of the server, the turns of less than a second may be given twice. A commit that waits for
the disk would take twenty times as long."""
_GROWN = (
    "least(%(most)s::float8, rate + %(turns)s::bigint * CASE "
    "WHEN limited = 0 OR rate < 0.8 * limited THEN 0.4 ELSE 0.02 END)"
)
"""The rate grows with its use: by 2 % in a second near the rate at which a 429 came, else by 40 %."""
_SPAN = f"%(turns)s::bigint * %(margin)s::float8 / {_GROWN}"

BEGIN_PACE = f"""
INSERT INTO {{schema}}.pace (name, rate, next, held, limited)
VALUES (%(name)s::text, %(rate)s::float8, 0, 0, 0) ON CONFLICT (name) DO UPDATE
SET rate = least(pace.rate, %(most)s::float8) WHERE {_HASTY} RETURNING rate, limited
"""
TAKE_TURNS = f"""
UPDATE {{schema}}.pace SET rate = {_GROWN}, next = greatest(next, held, {_CLOCK}) + {_SPAN}
WHERE name = %(name)s::text AND {_HASTY}
RETURNING next - %(turns)s::bigint * %(margin)s::float8 / rate, rate, limited, {_CLOCK}
"""
"""Takes the next turns of the common timeline: when the first one is, and the rate that spaces them."""
HOLD_PACE = f"""
UPDATE {{schema}}.pace SET held = greatest(held, {_CLOCK} + %(seconds)s::float8)
WHERE name = %(name)s::text AND {_HASTY} RETURNING 1
"""
SLOW_PACE = f"""
UPDATE {{schema}}.pace SET limited = rate, rate = greatest(least(%(least)s::float8, rate), rate / 2)
WHERE name = %(name)s::text AND rate > 0.75 * %(seen)s::float8 AND {_HASTY} RETURNING 1
"""
"""Halves the rate, unless it was halved since the request left that got the 429: then its rate is far below
the one that the request ``seen``."""
