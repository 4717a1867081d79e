"""The baseline's web process: store a row, send a message, answer."""

import uuid

from flask import Flask, request

from bench.naive import store
from bench.naive.worker import deliver

app = Flask(__name__)


@app.post("/hook")
def take_in() -> tuple[str, int]:
    """Take one event in."""
    event = request.get_json()
    event_id = str(uuid.uuid4())
    store.connection().execute(
        "INSERT INTO event (id, body, state) VALUES (%s, %s, 'new')",
        (event_id, request.get_data(as_text=True)),
    )
    deliver.delay(event_id, event)
    return "", 202
