"""Rows by the hundred thousand, made inside PostgreSQL: what a hub holds after years.

A bench cannot sign 100,000 organizations up over HTTP, so these rows go straight into the hub's
tables; nothing is measured while they do.
"""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    Text,
    cast,
    create_engine,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
)
from sqlmodel import SQLModel

from bench import orders
from bench.firms import flow_document
from bench.servers import Database
from catalog.tables import App, Vendor
from connectors.tables import Flow, FlowVersion
from identity.tables import Organization
from kernel import clock
from webhooks.tables import Event

Varied = Callable[[Any], Any]  # from the row's number, as an SQL expression, to a column's value


def tenants(database: Database, organizations: int, apps: int, flows: int) -> None:
    """Store organizations, apps, and active flows dealt out over the organizations."""
    words = {"zh": "示例", "en": "Example"}
    vendor = Vendor(id=_id_text("ven", 1), key="bench-vendor", name=words, state="verified")
    app = App(
        id="", vendor_id=vendor.id, key="", name=words, layer="cloud", slots=[], sub_scenarios=[]
    )
    document = flow_document(_id_text("src", 1), _id_text("con", 1))
    flow = Flow(
        organization_id="",
        id="",
        name="Orders",
        state="active",
        published_version=1,
        listens_to=orders.TYPE,
        listens_version=1,
        lane=_id_text("con", 1),
    )
    version = FlowVersion(
        organization_id="",
        id="",
        flow_id="",
        number=1,
        document=document,
        published_at=clock.now(),
    )
    owner: Varied = lambda n: _id("org", (n - 1) % organizations + 1)  # noqa: E731
    engine = create_engine(database.owner_url)
    with engine.begin() as connection:
        _act_for_all(connection)
        _insert(
            connection, Organization(id="", name="示例工厂"), organizations, {"id": _ids("org")}
        )
        _insert(connection, vendor, 1, {})
        _insert(connection, app, apps, {"id": _ids("app"), "key": _ids("bench-app")})
        of_flow: dict[str, Varied] = {"organization_id": owner, "id": _ids("flw")}
        _insert(connection, flow, flows, of_flow)
        _insert(connection, version, flows, {**of_flow, "id": _ids("flv"), "flow_id": _ids("flw")})
        _analyze(connection)
    _write_out(engine)


def backlog(database: Database, organization_id: str, source_id: str, count: int) -> None:
    """Store events that came in at a source before anything that is sent now, and wait."""
    order = orders.order(0, seed=0)
    order |= {"order_no": "OLD-1", "lines": order["lines"][:1]}
    moment = clock.now()
    event = Event(
        organization_id=organization_id,
        id="",
        source_id=source_id,
        origin=source_id,
        type=orders.TYPE,
        dedupe_key="",
        occurred_at=moment,
        received_at=moment,
        body=json.dumps(order, ensure_ascii=False, separators=(",", ":")).encode(),
    )
    engine = create_engine(database.owner_url)
    with engine.begin() as connection:
        _act_for_all(connection)
        _insert(connection, event, count, {"id": _ids("evt"), "dedupe_key": _ids("old")})
        _analyze(connection)
    _write_out(engine)


def undrained(database: Database) -> int:
    """Count the events that wait to be routed."""
    engine = create_engine(database.owner_url)
    with engine.begin() as connection:
        _act_for_all(connection)
        waiting = select(func.count()).select_from(Event).where(text("state = 'new'"))
        count = connection.execute(waiting).scalar_one()
    engine.dispose()
    return count


def _act_for_all(connection: Connection) -> None:
    """Step over row security, and let these rows be lost in a power cut."""
    connection.execute(text("SELECT set_config('app.organization_id', '*', true)"))
    connection.execute(text("SET LOCAL synchronous_commit = off"))


def _analyze(connection: Connection) -> None:
    """Let the planner know in the same commit, as it would had the rows come in over hours."""
    connection.execute(text("ANALYZE"))


def _write_out(engine: Engine) -> None:
    """Have everything on disk before the next measurement, not during it."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


def _insert(
    connection: Connection, pattern: SQLModel, count: int, varied: dict[str, Varied]
) -> None:
    """Insert copies of a row that differ in some columns, in one statement."""
    table: Any = type(pattern).__table__  # type: ignore[attr-defined]
    series, number = func.generate_series(1, count).alias("n"), literal_column("n", Integer)
    values = {
        column: varied[column.name](number)
        if column.name in varied
        else literal(getattr(pattern, column.name), column.type)
        for column in table.columns
        if column.name in varied or getattr(pattern, column.name) is not None
    }
    rows = select(*values.values()).select_from(series)
    connection.execute(insert(table).from_select(list(values), rows, include_defaults=False))


def _id_text(prefix: str, number: int) -> str:
    return f"{prefix}_{number:026d}"


def _id(prefix: str, number: Any) -> Any:
    return func.concat(f"{prefix}_", func.lpad(cast(number, Text), 26, "0"))


def _ids(prefix: str) -> Varied:
    return lambda n: _id(prefix, n)
