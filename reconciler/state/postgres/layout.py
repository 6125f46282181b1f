"""The layout of a schema that holds a state: tables, format, upgrades, and who may do what. Pure: SQL.

``{schema}`` stands for the quoted name of the schema, ``{owner}``, ``{writer}`` and ``{reader}`` for those
of roles, ``{environment}`` for a quoted text.
"""

from __future__ import annotations

from collections.abc import Mapping

FORMAT = 1
"""The format that this program reads and writes, noted in ``meta``."""

UPGRADES: Mapping[int, str] = {}
"""The statements that lead from a format to the next one."""

CREATE_SCHEMA = "CREATE SCHEMA IF NOT EXISTS {schema};"

CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.meta (
    one int PRIMARY KEY CHECK (one = 1),
    format int NOT NULL,
    environment text NOT NULL,
    lineage text,
    serial bigint NOT NULL,
    content text,
    application text,
    moved text,
    token bigint NOT NULL,
    version bigint NOT NULL,
    last_write text,
    lock_id text,
    holder text,
    process text,
    since float8,
    expires float8
) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS {schema}.record (
    address text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    body text COLLATE "C" NOT NULL,
    checksum bigint NOT NULL,
    known bytea
) WITH (fillfactor = 80);
CREATE TABLE IF NOT EXISTS {schema}.journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text COLLATE "C" NOT NULL,
    address text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    at float8 NOT NULL,
    action text NOT NULL,
    request text NOT NULL,
    detail text NOT NULL
);
CREATE INDEX IF NOT EXISTS journal_by_run ON {schema}.journal (run, id);
CREATE TABLE IF NOT EXISTS {schema}.history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text COLLATE "C" NOT NULL,
    started float8 NOT NULL,
    finished float8 NOT NULL,
    digest text NOT NULL,
    outcomes text NOT NULL,
    starter text NOT NULL DEFAULT '{{}}'
);
CREATE INDEX IF NOT EXISTS history_by_run ON {schema}.history (run);
CREATE TABLE IF NOT EXISTS {schema}.backup (
    id text COLLATE "C" PRIMARY KEY,
    made float8 NOT NULL,
    lineage text NOT NULL,
    serial bigint NOT NULL,
    application text,
    size bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.backup_record (
    backup text COLLATE "C",
    address text COLLATE "C",
    revision bigint NOT NULL,
    body text COLLATE "C" NOT NULL,
    checksum bigint NOT NULL,
    PRIMARY KEY (backup, address)
);
CREATE TABLE IF NOT EXISTS {schema}.pace (
    name text PRIMARY KEY,
    rate float8 NOT NULL,
    next float8 NOT NULL,
    held float8 NOT NULL,
    limited float8 NOT NULL
) WITH (fillfactor = 10);
INSERT INTO {schema}.meta (one, format, environment, serial, token, version)
    VALUES (1, {format}, {environment}, 0, 0, 0) ON CONFLICT (one) DO NOTHING;
"""
"""One schema is one state. ``meta`` has one row, whose lock orders all writers. ``version`` rises with every
write, which ``last_write`` names; ``token`` rises when the lock is taken or taken away; ``content`` names the
last write that changed a record. Times are Unix seconds by the server's clock, but for those in journal
and history, which are the client's."""

GRANT_WRITER = """
GRANT USAGE ON SCHEMA {schema} TO {writer};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {writer};
GRANT UPDATE ON {schema}.meta TO {writer};
GRANT INSERT, UPDATE, DELETE ON {schema}.record TO {writer};
GRANT INSERT, DELETE ON {schema}.journal, {schema}.history TO {writer};
GRANT INSERT, DELETE ON {schema}.backup, {schema}.backup_record TO {writer};
GRANT INSERT, UPDATE ON {schema}.pace TO {writer};
"""
"""What `apply`, `refresh` and the commands on the state need."""

LIMIT_WRITER = """
ALTER ROLE {writer} SET statement_timeout = '10min';
ALTER ROLE {writer} SET lock_timeout = '10s';
"""
"""These limits end a statement that hangs; a statement cannot set them for itself. To set them takes rights
over the role, which the owner of the schema need not have."""

GRANT_READER = """
GRANT USAGE ON SCHEMA {schema} TO {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader};
GRANT INSERT, UPDATE ON {schema}.pace TO {reader};
"""
"""What `plan` needs. With `--refresh` it sends requests, and takes turns of a rate that is shared."""
