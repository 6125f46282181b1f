"""Where records are kept between runs.

A module imports only from those above it.

    location (edge)          the addresses of states; opens nothing
    liveness (edge)          is a process alive, and is it still the same one
    store (edge)             what every store offers; what all stores decide alike: lock, headers, revisions
    waiting (edge)           waiting for a lock that somebody else holds
    memory (edge)            a store in memory
    sqlite_errors            errors of SQLite and of the system → messages
    sqlite_format (edge)     the format of a state file: tables, upgrades, connections
    sqlite_records (edge)    reading a database with these tables: records in pages, journal, header, lock
    rollback_journal (edge)  is the journal beside a state file its own
    backups (edge)           copies of a state file, and how many are kept
    side_files (edge)        what SQLite keeps beside a state, as far as this program left it there
    sqlite_file (edge)       one state file: created, checked, read and written in transactions
    sqlite (edge)            a store in one SQLite file
    secret_command (edge)    a secret that a command prints
    postgres.failures        failed statements → whether to try again, and messages
    postgres.layout          the layout of a schema, and who may do what
    postgres.statements      the statements on a state: each write is one
    postgres.tls             how a connection is secured
    postgres.rows            rows → values
    postgres.link (edge)     one connection, by psycopg
    postgres.session (edge)  statements that outlive a connection
    postgres.reading (edge)  the head of a schema, and pages of rows
    postgres.writer (edge)   the right to write, and its writes
    postgres.setup (edge)    tables and rights, by the owner of a schema
    postgres.shared_turns (edge)  turns of a rate that several processes share
    postgres.store (edge)    a store in one schema
    postgres.opening (edge)  the store of a location
    objects.protocol         what the log of the state asks of a bucket and of a sealer
    objects.sealing (edge)   objects compressed, and encrypted under a key
    objects.credentials (edge)  where the credentials of a bucket are
    objects.google_tokens (edge)  tokens of Google for what google-auth knows
    objects.bucket (edge)    a bucket of S3, Google Cloud Storage or Azure Blob
    objects.names            the names of the objects of a state
    objects.segments         the entries of the log, and their JSON
    objects.head             the one object that changes: where snapshots and backups are
    objects.refusals         the errors of a state in a bucket
    objects.parts            rows in objects of a bounded size
    objects.cache (edge)     the state at one position of the log, in a database
    objects.cache_file (edge)  where that database lies, and who owns it
    objects.snapshots        the state at a position of the log, as objects
    objects.log (edge)       the log: read into the cache, and continued
    objects.compaction       snapshots in the place of segments; backups; what nobody needs any more
    objects.writer (edge)    the writer of a state in a bucket
    objects.store (edge)     a store in a bucket
    objects.keys (edge)      the keys of an encrypted state
    objects.opening (edge)   the store of a location in a bucket
    opening (edge)           the store of a location; loads what its kind needs
"""
