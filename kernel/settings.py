"""Settings, read once from the environment; every one is documented here and in .env.example."""

import base64
import dataclasses
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

VERSION = "0.1.0"
DEMO_VENDORS = 3  # neighbouring ports: shop, ERP, chat


def _setting(env: str, doc: str, default: Any) -> Any:
    return field(default=default, metadata={"env": env, "doc": doc})


@dataclass(frozen=True)
class Settings:
    """What an operator may choose; see each field's doc."""

    base_url: str = _setting(
        "YANGFAN_BASE_URL",
        "Address under which people and vendors reach the hub.",
        "http://127.0.0.1:8000",
    )
    bind: str = _setting(
        "YANGFAN_BIND", "Address and port the web server listens on.", "127.0.0.1:8000"
    )
    web_threads: int = _setting("YANGFAN_WEB_THREADS", "Request threads in each web process.", 16)
    web_processes: int = _setting(
        "YANGFAN_WEB_PROCESSES", "Web processes; embedded mode always has one.", 2
    )
    worker_threads: int = _setting(
        "YANGFAN_WORKER_THREADS", "Drains that run at once in a worker.", 4
    )
    database_url: str = _setting(
        "YANGFAN_DATABASE_URL",
        "SQLAlchemy URL: sqlite:///file (embedded) or postgresql+psycopg://… (scaled).",
        "sqlite:///var/yangfan.db",
    )
    owner_database_url: str = _setting(
        "YANGFAN_OWNER_DATABASE_URL",
        "URL of the role that owns the tables, used by migrate alone; empty: the same as above.",
        "",
    )
    broker_url: str = _setting(
        "YANGFAN_BROKER_URL", "memory:// (embedded) or amqp://… (scaled).", "memory://"
    )
    data_dir: str = _setting("YANGFAN_DATA_DIR", "Folder for the hub's own files.", "var")
    archive_dir: str = _setting(
        "YANGFAN_ARCHIVE_DIR",
        "Folder for archived events and exports, the same one for every process; "
        "empty: `archive` in the data folder.",
        "",
    )
    secret_keys: tuple[str, ...] = _setting(
        "YANGFAN_SECRET_KEYS",
        "Comma-separated kid:base64 keys of 32 bytes; the first seals, all open. "
        "Empty: one is made in the data folder.",
        (),
    )
    outbound_allow: tuple[str, ...] = _setting(
        "YANGFAN_OUTBOUND_ALLOW",
        "Comma-separated host:port that calls may reach although they are private addresses.",
        (),
    )
    demo: bool = _setting(
        "YANGFAN_DEMO", "1: start the demo vendors beside the hub and seed demo data.", False
    )
    demo_port: int = _setting("YANGFAN_DEMO_PORT", "First port of the demo vendors.", 9801)
    time_zone: str = _setting(
        "YANGFAN_TIME_ZONE", "Zone in which pages show times.", "Asia/Shanghai"
    )
    log_format: str = _setting("YANGFAN_LOG_FORMAT", "console or json.", "console")
    log_level: str = _setting("YANGFAN_LOG_LEVEL", "debug, info, warning or error.", "info")
    trusted_proxies: int = _setting(
        "YANGFAN_TRUSTED_PROXIES", "How many reverse proxies stand in front of the hub.", 0
    )
    sweep_seconds: float = _setting(
        "YANGFAN_SWEEP_SECONDS", "How often each process looks for work a lost nudge left.", 5.0
    )
    quota_per_minute: int = _setting(
        "YANGFAN_QUOTA_PER_MINUTE", "Events an organization may send in a minute.", 600_000
    )
    quota_burst: int = _setting(
        "YANGFAN_QUOTA_BURST", "Events an organization may send at once after a pause.", 600_000
    )
    quota_per_day: int = _setting(
        "YANGFAN_QUOTA_PER_DAY", "Events an organization may send in a day.", 50_000_000
    )
    backlog_limit: int = _setting(
        "YANGFAN_BACKLOG_LIMIT",
        "Events, deliveries and runs of an organization that may wait before more is refused.",
        200_000,
    )
    resting_limit: int = _setting(
        "YANGFAN_RESTING_LIMIT",
        "Runs of an organization that may wait for a time, a person, an event or another run.",
        20_000,
    )
    store_limit_values: int = _setting(
        "YANGFAN_STORE_LIMIT_VALUES", "Values that the flows of an organization may keep.", 100_000
    )
    store_limit_bytes: int = _setting(
        "YANGFAN_STORE_LIMIT_BYTES", "Bytes that these values may take up together.", 64_000_000
    )
    operator_contact: str = _setting(
        "YANGFAN_OPERATOR_CONTACT",
        "Whom people ask about the hub itself, as an e-mail address, a phone number or both.",
        "",
    )
    metrics_token: str = _setting(
        "YANGFAN_METRICS_TOKEN", "Bearer token for /metrics; empty: loopback callers only.", ""
    )

    @property
    def mode(self) -> str:
        """`embedded` on SQLite, else `scaled`."""
        return "embedded" if self.database_url.startswith("sqlite") else "scaled"

    @cached_property
    def keys(self) -> Mapping[str, bytes]:
        """Key-encryption keys by id, the current one first."""
        texts = self.secret_keys or (_own_key(Path(self.data_dir)),)
        return {kid: base64.b64decode(key) for kid, _, key in (t.partition(":") for t in texts)}


def _own_key(data_dir: Path) -> str:
    """Read the data folder's key, making it at the first start; never written twice."""
    path = data_dir / "secret.key"
    data_dir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        text = "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(text)
        draft.chmod(0o600)
        try:
            # link refuses when another process was first, so both end up with the same key
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


def _from_text(text: str, kind: Any) -> Any:
    if kind is bool:
        return text.strip().lower() in {"1", "true", "yes", "on"}
    if kind in (int, float):
        return kind(text)
    if kind is str:
        return text
    return tuple(part.strip() for part in text.split(",") if part.strip())


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Build Settings from an environment; an unknown YANGFAN_ name stops the start."""
    fields = {f.metadata["env"]: f for f in dataclasses.fields(Settings)}
    unknown = {name for name in environ if name.startswith("YANGFAN_")} - set(fields)
    unknown -= {name for name in unknown if name.startswith("YANGFAN_TEST_")}
    if unknown:
        raise SystemExit(f"Unknown settings {sorted(unknown)}; known: {', '.join(sorted(fields))}")
    values = {
        f.name: _from_text(environ[env], f.type) for env, f in fields.items() if env in environ
    }
    chosen = Settings(**values)
    if chosen.demo:
        # the demo vendors live on loopback, which calls may not reach unless the operator says so
        vendors = tuple(f"127.0.0.1:{chosen.demo_port + n}" for n in range(DEMO_VENDORS))
        return dataclasses.replace(chosen, outbound_allow=(*chosen.outbound_allow, *vendors))
    return chosen


_current: Settings | None = None


def settings() -> Settings:
    """Return the settings of this process."""
    global _current
    if _current is None:
        _current = read_settings(os.environ)
    return _current


@contextmanager
def settings_override(**changes: Any) -> Iterator[Settings]:
    """Change some settings for the length of a test."""
    global _current
    before = settings()
    _current = dataclasses.replace(before, **changes)
    try:
        yield _current
    finally:
        _current = before
