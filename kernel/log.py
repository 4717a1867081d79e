"""Structured logs that never show a secret."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_NAME = re.compile(
    r"pass(word|phrase)|secret|token|api_?key|authorization|cookie|signature|digest", re.IGNORECASE
)
_SECRET_TEXT = re.compile(
    r"(whsec_|yfk_|yfi_|yfs_|yrl_|Bearer\s+)[A-Za-z0-9+/=_\-.]{6,}"
    r"|/(in|decide)/[A-Za-z0-9_-]{12,}"
)
SHOWN_NAMES = frozenset({"token_type"})


def redact(text: str) -> str:
    """Hide what looks like a credential inside a text."""
    return _SECRET_TEXT.sub(lambda found: found.group(0)[:8] + "…", text)


def _redact(_logger: Any, _name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in entry.items():
        if _SECRET_NAME.search(key) and key not in SHOWN_NAMES:
            entry[key] = "…"
        elif isinstance(value, str):
            entry[key] = redact(value)
    return entry


def configure(log_format: str, level: str) -> None:
    """Send our own and the libraries' records through one redacting chain to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("alembic", "amqp", "celery", "gunicorn.access", "kombu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def get_logger(name: str) -> Any:
    """Return a structured logger."""
    return structlog.stdlib.get_logger(name)


def bind(**values: Any) -> None:
    """Add values to every record of the present request or task."""
    structlog.contextvars.bind_contextvars(**values)


def clear() -> None:
    """Forget what was bound."""
    structlog.contextvars.clear_contextvars()
