"""The node's SQLite file: opened with durability that survives a power cut, and brought to the newest schema."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import structlog

from engines.errors import InvalidInput
from node.errors import SettingsRefused
from node.storage.durable import sync_path

log = structlog.get_logger(__name__)

FILE_MODE = 0o640
BUSY_SECONDS = 30.0
"""How long a writer waits for another process's transaction before it gives up."""


def open_database(path: Path) -> sqlite3.Connection:
    """Returns a connection to the node's database, with every migration applied.

    WAL lets the receiver write while workers read; synchronous=FULL makes each commit survive a power cut.
    The connection is in autocommit mode: use :func:`write_transaction` for anything that changes more than one row.

    Args:
        path: the file; its folder exists.

    Raises:
        SettingsRefused: the file was written by a newer version of this product, or is no database.
    """
    _create(path)
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError:  # locked, full, not readable: not the file's content
        connection.close()
        raise
    except sqlite3.DatabaseError as error:
        connection.close()
        raise SettingsRefused(
            [
                f"{path} is damaged or was never the node's ({error}): put a backup in its place, or move it away; "
                "the received objects are found again at the start"
            ]
        ) from error
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    _migrate(connection, path)
    return connection


@contextmanager
def write_transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Holds the write lock from the first statement on; commits at the end, rolls back when that fails or an error passes."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has ended it by itself where the disk is full
            connection.execute("ROLLBACK")
        raise


def back_up_database(source: Path, target: Path) -> None:
    """Writes a consistent copy of a database to ``target``, also while the node uses it; an older copy is replaced.

    The copy has no journal beside it, and appears under its name when it is whole and on disk.

    Raises:
        InvalidInput: the copy does not pass SQLite's integrity check.
    """
    draft = target.with_name(f"{target.name}.draft")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
    with (
        closing(sqlite3.connect(source, timeout=BUSY_SECONDS)) as present,
        closing(sqlite3.connect(draft)) as copy,
    ):
        present.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        raise InvalidInput(f"the copy of {source} is damaged: {verdict}")
    sync_path(draft)
    os.rename(draft, target)
    sync_path(target.parent)


def encode_time(moment: datetime) -> str:
    """Returns an aware time as text of fixed width, so that order of text is order of time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def decode_time(text: str) -> datetime:
    """Returns the aware UTC time of :func:`encode_time`."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def _create(path: Path) -> None:
    """Makes an empty database file with our mode, which SQLite gives to its journals too; an existing one is not touched.

    Opening and closing a file ends every lock that this process holds on it (POSIX). Done to a database that is in
    use, the next process to leave would take itself for the last one and remove the journal under everybody's hands.
    Source: sqlite.org/howtocorrupt.html, section 2.2.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))


def schema_version() -> int:
    """Returns the newest schema version this product knows."""
    return len(_migrations())


def _migrations() -> list[str]:
    folder = resources.files("node.storage").joinpath("schema")
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name
    )
    return [entry.read_text(encoding="utf-8") for entry in files]


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Brings the schema up to date in one transaction; a database of an older version is copied first."""
    migrations = _migrations()
    (before,) = connection.execute("PRAGMA user_version").fetchone()
    if 0 < before < len(migrations):
        backup = path.with_name(f"{path.name}.version-{before}")
        back_up_database(path, backup)
        log.warning(
            "the database is brought to a newer schema; a copy of the old one is kept",
            before=before,
            after=len(migrations),
            copy=backup.name,
        )
    with write_transaction(connection):
        (present,) = connection.execute("PRAGMA user_version").fetchone()
        if present > len(migrations):
            raise SettingsRefused(
                [
                    f"{path} has schema version {present}, this version of the node knows {len(migrations)}: "
                    "install the newer version again, or restore the backup made before the upgrade"
                ]
            )
        for number, script in enumerate(migrations[present:], start=present + 1):
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def _statements(script: str) -> Iterator[str]:
    """Yields the statements one by one: ``executescript`` would commit the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
