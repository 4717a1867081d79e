"""The shared servers: a private database, a private virtual host, and which processes they are.

Addresses come from YANGFAN_TEST_POSTGRES and YANGFAN_TEST_BROKER, as `python -m
tests.dependencies` sets them.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
from amqp import AMQPError
from kombu import Connection
from kombu.exceptions import KombuError
from psycopg import sql

from bench import processes

APP_ROLE = "yangfan_bench_app"


class ServerMissingError(RuntimeError):
    """A server that the bench needs cannot be reached."""


@dataclass(frozen=True)
class Database:
    """A private database: as its owner sees it, and as a role that owns nothing."""

    name: str
    owner_url: str
    app_url: str

    @property
    def plain_url(self) -> str:
        """The owner's address as libpq writes it."""
        return self.owner_url.replace("+psycopg", "")


def _admin_url() -> str:
    url = os.environ.get("YANGFAN_TEST_POSTGRES")
    if not url:
        raise ServerMissingError("PostgreSQL: YANGFAN_TEST_POSTGRES is not set")
    return url


def _broker_url() -> str:
    url = os.environ.get("YANGFAN_TEST_BROKER")
    if not url:
        raise ServerMissingError("RabbitMQ: YANGFAN_TEST_BROKER is not set")
    return url


def _administer(*statements: sql.SQL | sql.Composed) -> None:
    try:
        connection = psycopg.connect(_admin_url().replace("+psycopg", ""), autocommit=True)
    except psycopg.OperationalError as error:
        raise ServerMissingError(f"PostgreSQL: {error}") from error
    with connection:
        for statement in statements:
            connection.execute(statement)


def missing() -> str | None:
    """Say which server cannot be reached, None when all can."""
    try:
        _administer()
        trouble = _answers(_broker_url())
    except ServerMissingError as error:
        return str(error)
    return f"RabbitMQ: {trouble}" if trouble else None


def _answers(broker_url: str) -> Exception | None:
    """Try a broker's address; return what is wrong with it."""
    try:
        with Connection(broker_url) as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except (KombuError, AMQPError, OSError) as error:
        return error
    return None


@contextmanager
def database(name: str) -> Iterator[Database]:
    """Make an empty database and drop it at the end."""
    word = sql.Identifier(name)
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(word)
    _administer(
        drop,
        sql.SQL("CREATE DATABASE {}").format(word),
        sql.SQL(
            "DO $$ BEGIN CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS; "
            "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        ).format(sql.Identifier(APP_ROLE)),
    )
    parts = urlsplit(_admin_url())
    place = parts.netloc.rpartition("@")[2]
    try:
        yield Database(
            name=name,
            owner_url=urlunsplit(parts._replace(path=f"/{name}")),
            app_url=urlunsplit(parts._replace(netloc=f"{APP_ROLE}@{place}", path=f"/{name}")),
        )
    finally:
        _administer(drop)


def postgres_pids() -> list[int]:
    """Return the server's first process; empty when it is not on this machine."""
    with psycopg.connect(_admin_url().replace("+psycopg", "")) as connection:
        backend = connection.info.backend_pid
        try:
            return [processes.parent(backend)]
        except ProcessLookupError:
            return []


def rabbitmq_pids() -> list[int]:
    """Return the Erlang machines that run here; the bench's broker is one of them."""
    return processes.named("beam.smp")


@contextmanager
def virtual_host(name: str) -> Iterator[str]:
    """Give the address of a virtual host of one's own, which goes at the end with all in it.

    Where this machine's RabbitMQ does not listen to us, it is the address of the usual one.
    """
    url = _broker_url()
    user = urlsplit(url).username or "guest"
    own_url = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    is_made = _control("add_vhost", name) and _control(
        "set_permissions", "-p", name, user, ".*", ".*", ".*"
    )
    try:
        # what rabbitmqctl speaks to may be another server than the one at the address
        yield own_url if is_made and _answers(own_url) is None else url
    finally:
        if is_made:
            _control("delete_vhost", name)


@contextmanager
def queue(name: str) -> Iterator[str]:
    """Give the address of the usual virtual host, with a queue on it that goes at the end."""
    url = _broker_url()
    _delete_queue(url, name)
    try:
        yield url
    finally:
        _delete_queue(url, name)


def _delete_queue(url: str, name: str) -> None:
    with Connection(url) as connection:
        connection.default_channel.queue_delete(name)


def _control(*command: str) -> bool:
    """Tell RabbitMQ something; False when this machine or user may not."""
    program = shutil.which("rabbitmqctl")
    if program is None:
        return False
    done = subprocess.run([program, "-q", *command], capture_output=True, check=False, timeout=60)
    return done.returncode == 0
