"""A real PostgreSQL of the tests' own: on loopback, in a folder that is thrown away."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER, PASSWORD = "owner_of_it_all", "pg pass&word=1/2"
_NO_SAFETY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True)
class Postgres:
    """A server that runs; the database is called ``db``."""

    port: int

    @property
    def url(self) -> str:
        """The URL for a spec."""
        return f"jdbc:postgresql://127.0.0.1:{self.port}/db"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run the statements by psycopg, each committed, and return the rows of the last."""
        import psycopg

        place = {"host": "127.0.0.1", "port": self.port, "dbname": "db", "user": USER, "password": PASSWORD, "options": "-c timezone=UTC"}
        with psycopg.connect(**place, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs, the newest of those installed; None where there is none."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(installed[-1]) if installed else shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def server(programs: Path) -> Iterator[Postgres]:
    """Start a server that asks for a password, and stop it when the block ends.

    PostgreSQL does not run as root, so that its own user, or nobody, runs it then.
    """
    folder = Path(tempfile.mkdtemp(prefix="tidemill-postgres-"))
    account = _account()
    if account is not None:
        os.chown(folder, account.pw_uid, account.pw_gid)
    who = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}

    def call(program: str, *arguments: str) -> None:
        subprocess.run([str(programs / program), *arguments], check=True, capture_output=True, text=True, cwd=folder, **who)

    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    data, port = str(folder / "data"), _free_port()
    call("initdb", "-D", data, "-U", USER, "--pwfile", str(secret), "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync")
    settings = [*_NO_SAFETY, f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "timezone=Asia/Kolkata"]
    call("pg_ctl", "-D", data, "-l", str(folder / "log"), "-w", "-o", " ".join(f"-c {setting}" for setting in settings), "start")
    try:
        environ = {**os.environ, "PGPASSWORD": PASSWORD}
        create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, "db"]
        subprocess.run(create, check=True, capture_output=True, env=environ)
        yield Postgres(port)
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
