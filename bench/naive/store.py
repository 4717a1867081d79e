"""The baseline's only table, and one kept connection per thread."""

import os
import threading

import psycopg

CREATE = (
    "CREATE TABLE IF NOT EXISTS event (id text PRIMARY KEY, body text NOT NULL,"
    " state text NOT NULL, received_at timestamptz NOT NULL DEFAULT now(),"
    " delivered_at timestamptz)"
)
_here = threading.local()


def connection() -> psycopg.Connection:
    """Return this thread's connection."""
    if not hasattr(_here, "connection"):
        _here.connection = psycopg.connect(os.environ["NAIVE_DATABASE_URL"], autocommit=True)
    return _here.connection
