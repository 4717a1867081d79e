"""Two firms under one roof: the neighbour, who has one of everything, and the stranger."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from factories import catalog as shelf
from factories.connectors import make_connection, make_flow, order_document
from factories.identity import make_api_key, make_member, make_organization, make_user
from factories.identity import start_session as start_login
from factories.marketplace import make_installation
from factories.webhooks import make_endpoint, make_event, make_source
from sqlalchemy import select, text
from sqlmodel import SQLModel

from catalog import event_types, releases
from connectors import approval_addresses, polls
from connectors.budgets.tables import Allowance
from connectors.drifting.tables import Drift, DriftReport
from connectors.health.tables import ConnectionHour
from connectors.incidents.tables import BulkRepair, Incident, IncidentRound
from connectors.lookups.tables import ChoiceList
from connectors.publishing import archives
from connectors.publishing.tables import ConnectorEdition
from connectors.reconnecting import links
from connectors.resting.tables import AwaitedType, EventArrival, EventWait
from connectors.sheets import uploads
from connectors.stages.tables import FlowInTest
from connectors.stores import values
from connectors.streams.tables import HeldStream
from connectors.subscriptions.tables import VendorHook
from connectors.tables import Approval, Reconciliation, Run, Step
from identity import invitations
from identity.tables import LoginSession, Member, Organization
from kernel import clock, ids
from kernel.database import EVERY, reading, transaction
from marketplace.tables import Installation, Rollout, RolloutStep
from webhooks import bulk_replays, endpoints, logos, portals, sources
from webhooks.keeping import chunks, records, rules, sealed_files, stores
from webhooks.keeping.rules import Rule
from webhooks.keeping.tables import DataExport, Erasure
from webhooks.keeping.turns import Lease
from webhooks.tables import Attempt, Backlog, Delivery, Event, Nonce, Quota, Refusals, Usage

MOMENT = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)
# every text of the neighbour's holds this word, and the tables keep it as it was written
WORD = "Zwiebelturm"
SECRET = "whsec_Zwiebelturm0123456789abcdefghijkl"


@dataclass
class Neighbour:
    """A firm with one of everything that has an id in an address."""

    organization_id: str
    owner: Member
    clerk: Member  # has the role `member`, which may do next to nothing
    ids: dict[str, list[str]] = field(default_factory=dict)  # URL parameter → what to ask for
    secrets: list[str] = field(default_factory=list)  # texts nobody else may ever read
    key: str = ""  # API keys
    clerk_key: str = ""


@dataclass
class Stranger:
    """The owner of another firm, which is a vendor too and has a flow."""

    organization_id: str
    owner: Member
    key: str
    flow_id: str

    @property
    def own(self) -> tuple[str, str]:
        """The ids whose rows are the stranger's."""
        return self.organization_id, self.owner.user_id


def make_neighbour(number: int = 1) -> Neighbour:
    """Build the neighbour in a transaction of its own; several may live side by side."""
    with transaction(EVERY) as session:
        made = _make_people(session, number)
        _make_intake(session, made)
        _make_counts(session, made)
        _make_kept(session, made)
        _make_flows(session, made)
        _make_installations(session, made)
        _make_catalogue(session, made, number)
    return made


def _make_people(session, number: int) -> Neighbour:
    organization = make_organization(session, name=f"{WORD} GmbH {number}", is_vendor=True)
    user = make_user(session, name=f"{WORD} Anna", email=f"anna.{number}@zwiebelturm.example")
    owner = make_member(session, organization, user)
    other = make_user(session, name=f"{WORD} Otto", email=f"otto.{number}@zwiebelturm.example")
    clerk = make_member(session, organization, other, "member")
    made = Neighbour(organization.id, owner, clerk)
    offer, secret = invitations.invite(
        session,
        organization.id,
        email=f"ida.{number}@zwiebelturm.example",
        role="admin",
        actor_role="owner",
        actor_id=user.id,
    )
    made.secrets += [WORD, "zwiebelturm", secret, start_login(session, owner)]
    made.key = make_api_key(session, organization, name=f"{WORD} key")
    made.clerk_key = make_api_key(session, organization, "member", name=f"{WORD} clerk's key")
    key_id = session.execute(
        text("SELECT id FROM api_key WHERE organization_id = :o ORDER BY id LIMIT 1"),
        {"o": organization.id},
    ).scalar_one()
    login = session.execute(
        select(LoginSession.id).where(LoginSession.user_id == user.id)
    ).scalar_one()
    made.ids |= {
        "organization_id": [organization.id],
        "member_id": [clerk.id],
        "invitation_id": [offer.id],
        "secret": [offer.id],
        "key_id": [key_id],
        "session_id": [login],
        "user_id": [user.id],
    }
    return made


def _make_intake(session, made: Neighbour) -> None:
    owner = made.organization_id
    source = make_source(session, owner, name=f"{WORD} shop")
    endpoint = make_endpoint(
        session, owner, f"https://{WORD.lower()}.example/hook", description=WORD, secret=SECRET
    )
    body = json.dumps({"order_no": WORD}).encode()
    event = make_event(session, owner, source.id, type="order.paid", subject=f"{WORD}-1", body=body)
    delivery = Delivery(
        organization_id=owner,
        id=ids.new_id("dlv"),
        event_id=event,
        endpoint_id=endpoint.id,
        state="parked",
        attempt_count=1,
        last_problem="status",
        last_status=500,
    )
    session.add(delivery)
    session.flush()
    session.add(
        Attempt(
            organization_id=owner,
            id=ids.new_id("att"),
            delivery_id=delivery.id,
            number=1,
            started_at=MOMENT,
            elapsed_ms=12,
            status=500,
            request_headers={"x-note": WORD},
            response_body=WORD.encode(),
        )
    )
    bulk = bulk_replays.begin(session, owner, endpoint.id, since=MOMENT)
    made.secrets += [SECRET, endpoints.secret_of(endpoint), sources.secret_of(source)]
    made.secrets.append(sources.url_of(source).rpartition("/")[2])
    link = portals.create(
        session,
        owner,
        subscriber_name=f"{WORD} partner",
        event_types=["order.*"],
        expires_at=clock.now() + timedelta(days=9),
    )
    logos.choose(session, owner, PICTURE)
    address, _ = portals.offer(session, owner, link.id, 60)
    made.secrets.append(address.rpartition("/")[2])
    made.ids |= {
        "link_id": [link.id],
        "subscriber_id": [link.subscriber_id],
        "source_id": [source.id],
        "token": [source.id],
        "endpoint_id": [endpoint.id],
        "event_id": [event],
        "delivery_id": [delivery.id],
        "bulk_replay_id": [bulk.id],
    }


PICTURE = b"\x89PNG\r\n\x1a\n" + b"our sign" * 20


def _make_counts(session, made: Neighbour) -> None:
    owner, (source_id, *_) = made.organization_id, made.ids["source_id"]
    session.add(Quota(organization_id=owner, id=owner, per_minute=1234))
    session.add(Usage(organization_id=owner, id=f"0000001 {source_id}", hour=MOMENT, accepted=1))
    session.add(Backlog(organization_id=owner, id=owner, events=1, counted_at=MOMENT))
    session.add(Refusals(organization_id=owner, id=source_id, counts={}, latest=[]))
    session.add(Nonce(organization_id=owner, id="0" * 40, seen="0" * 64))
    session.add(
        Reconciliation(
            organization_id=owner,
            id=source_id,
            connection_id="con_none",
            input={"repo": WORD},
            next_at=MOMENT,
            look_at=MOMENT,
            cursor=MOMENT,
        )
    )
    session.flush()


def _make_kept(session, made: Neighbour) -> None:
    """Write rules, an archived event, an export that can be downloaded, and an erasure."""
    owner = made.organization_id
    rule = rules.decide(
        session, owner, Rule(event_types=f"{WORD}.*" if WORD.isidentifier() else "kept.*")
    )
    old = make_event(session, owner, type=f"{WORD}.old", subject=WORD, body=f'"{WORD}"'.encode())
    session.get(Event, (owner, old)).state = "routed"
    session.flush()
    lease = Lease(owner, "wrk_test", 1, MOMENT)
    chunk = chunks.write(lease, f"{WORD}.*", records.collect(session, owner, [old]))
    session.add(chunk)
    session.flush()
    records.drop(session, owner, [old], MOMENT)
    export = DataExport(
        organization_id=owner,
        id=ids.new_id("exp"),
        from_at=MOMENT,
        until_at=MOMENT,
        event_types=f"{WORD}.*",
        requested_by_name=WORD,
        state="done",
        key=f"{owner}/exports/exp.1.yfx",
        digest="00",
        byte_count=len(WORD),
        expires_at=MOMENT + timedelta(days=3650),
    )
    context = f"{owner}|data_export|{export.id}|{export.key}"
    stores.store().put(export.key, sealed_files.seal([WORD.encode()], context))
    session.add(export)
    erasure = Erasure(
        organization_id=owner,
        id=ids.new_id("ers"),
        kind="subject",
        value_mark=WORD,
        requested_by_name=WORD,
        state="done",
    )
    session.add(erasure)
    session.flush()
    made.ids |= {
        "rule_id": [rule.id],
        "chunk_id": [chunk.id],
        "day": [chunk.day],
        "archived_event_id": [old],
        "export_id": [export.id],
        "erasure_id": [erasure.id],
    }


def _make_flows(session, made: Neighbour) -> None:
    owner, password = made.organization_id, f"{WORD}-key-0123456789"
    erp = make_connection(session, owner, name=f"{WORD} ERP", fields={"key": password})
    chat = make_connection(
        session, owner, connector_key="demo-chat", name=f"{WORD} chat", fields={"key": password}
    )
    shop = make_connection(
        session, owner, connector_key="demo-shop", name=f"{WORD} shop", fields={"key": password}
    )
    session.flush()
    flow = make_flow(session, owner, order_document(erp.id, chat.id), name=f"{WORD} flow")
    run = Run(
        organization_id=owner,
        id=ids.new_id("run"),
        flow_id=flow.id,
        flow_version=1,
        event_id=made.ids["event_id"][0],
        event_type="order.paid",
        lane=erp.id,
        state="parked",
        cause="data",
        next_step=1,
    )
    session.add(run)
    session.flush()
    session.add(
        Step(
            organization_id=owner,
            id=ids.new_id("stp"),
            run_id=run.id,
            position=1,
            key="erp",
            kind="action",
            state="failed",
            input={"customer": WORD},
            problem={"cause": "data", "say": {"zh": WORD, "en": WORD}},
        )
    )
    asked = Approval(
        organization_id=owner,
        id=ids.new_id("apv"),
        flow_id=flow.id,
        run_id=run.id,
        position=2,
        key="ok",
        title=f"{WORD} pays",
        text=WORD,
        roles=["admin"],
        deadline_at=MOMENT + timedelta(days=3650),
    )
    session.add(asked)
    given = {"operation": "put", "collection": "customers", "entry": WORD, "value": {"name": WORD}}
    values.do(session, owner, given, run.id)
    kept = values.find(session, owner, "customers", WORD)
    sheet = f"公司,客户编号,客户名称\n{WORD},C-1,{WORD}\n".encode()
    upload = uploads.send_in(session, owner, name=f"{WORD}.csv", content=sheet, uploaded_by=WORD)
    made.secrets.append(password)
    link, address = links.make(session, owner, shop.id, note=WORD)
    # held for an owner who has not decided yet
    link.held_sealed, link.held_account = "sealed", {"id": WORD}
    made.secrets.append(address.rpartition("/")[2])
    session.add_all(
        [
            Allowance(
                organization_id=owner, id="bud_1", connector_key="demo-erp", budget_id="api",
                scope=WORD, full_at=MOMENT,
            ),
            ConnectionHour(
                organization_id=owner, id=f"0000001 {erp.id}"[:40], connection_id=erp.id,
                hour=MOMENT, ok=1, last_problem={"cause": "data", "say": {"zh": WORD, "en": WORD}},
            ),
            VendorHook(
                organization_id=owner, id=made.ids["source_id"][0], connection_id=shop.id,
                connector_key="demo-shop", trigger_key="order_paid", input={"repo": WORD},
                remote_id=WORD,
            ),
        ]
    )  # fmt: skip
    session.flush()
    incident = Incident(
        organization_id=owner,
        id=ids.new_id("inc"),
        kind="run",
        fingerprint=WORD,
        cause="data",
        say={"zh": WORD, "en": WORD},
        flow_ids=[flow.id],
        opened_at=MOMENT,
        last_at=MOMENT,
        note=WORD,
    )
    repair = BulkRepair(
        organization_id=owner,
        id=ids.new_id("rpr"),
        incident_id=incident.id,
        state="done",
        until=MOMENT,
        asked_by=WORD,
    )
    session.add_all([incident, repair, IncidentRound(organization_id=owner, id=owner)])
    run.incident_id = incident.id
    _make_waits(session, made, flow.id, run.id)
    _make_watched(session, made, shop.id)
    made.ids |= {
        "reconnect_link_id": [link.id],
        "reconnect_secret": [link.id],
        "collection": ["customers"],
        "value_id": [kept.id],
        "step_key": ["erp"],
        "upload_id": [upload.id],
        "incident_id": [incident.id],
        "repair_id": [repair.id],
        "connection_id": [shop.id, erp.id, chat.id],
        "completion_id": [_stopped_completion(session, made)],
        "lookup_key": ["customers"],
        "poll_id": [polls.start(session, owner, shop.id, "orders_asked").id],
        "approval_id": [asked.id],
        "decide_token": [approval_addresses.address_of(owner, asked.id).rpartition("/")[2]],
        "flow_id": [flow.id],
        "run_id": [run.id],
    }


def _make_waits(session, made: Neighbour, flow_id: str, run_id: str) -> None:
    """Let a run await an event, and the flow run in test too."""
    owner, type_ = made.organization_id, "shipment.dispatched"
    named = {"organization_id": owner, "event_type": type_}
    session.add_all(
        [
            AwaitedType(**named, id=ids.new_id("awt"), flow_id=flow_id, path="data.order_no"),
            EventWait(
                **named,
                id=ids.new_id("ewt"),
                flow_id=flow_id,
                run_id=run_id,
                position=3,
                match_hash=WORD,
                until=clock.now() + timedelta(days=1),
            ),
            EventArrival(
                **named,
                id=ids.new_id("arr"),
                event_id=made.ids["event_id"][0],
                match_hash=WORD,
                state="told",
            ),
            FlowInTest(organization_id=owner, id=flow_id, published_version=1, state="paused"),
        ]
    )


def _make_watched(session, made: Neighbour, connection_id: str) -> None:
    """Note what a connection's app has to choose from, where it departs, and its open line."""
    named, now = {"organization_id": made.organization_id}, clock.now()
    about = {**named, "connection_id": connection_id}
    session.add_all(
        [
            ChoiceList(
                **about,
                id=ids.new_id("chl"),
                key="warehouses",
                digest=WORD,
                options=[{"value": WORD, "label": WORD}],
                fetched_at=now,
                expires_at=now + timedelta(hours=1),
            ),
            Drift(
                **about,
                id=ids.new_id("drf"),
                part="action",
                part_key="get_stock",
                kind="new",
                path=f"/{WORD}",
                first_at=now,
                last_at=now,
            ),
            DriftReport(**named, id=connection_id, told_at=now),
            HeldStream(**about, id=made.ids["source_id"][0], state="off", next_at=now),
        ]
    )


def _stopped_completion(session, made: Neighbour) -> str:
    from connectors.completing.tables import Completion

    row = Completion(
        organization_id=made.organization_id,
        id=ids.new_id("cpl"),
        event_id=made.ids["event_id"][0],
        source_id=made.ids["source_id"][0],
        connector_key="pretix",
        trigger_key="order_paid",
        lane=WORD,
        state="dead",
        problem={"cause": "data", "say": {"zh": WORD, "en": WORD}, "detail": WORD},
    )
    session.add(row)
    session.flush()
    return row.id


def _make_installations(session, made: Neighbour) -> None:
    owner = made.organization_id
    rollout = Rollout(
        organization_id=owner,
        id=ids.new_id("rol"),
        app_key="demo-erp",
        title={"zh": WORD, "en": WORD},
        state="active",
        requested_by_name=WORD,
        started_at=MOMENT,
        finished_at=MOMENT,
    )
    session.add(rollout)
    session.flush()
    session.add(
        RolloutStep(
            organization_id=owner,
            rollout_id=rollout.id,
            position=0,
            kind="validate",
            state="done",
            title={"zh": WORD, "en": WORD},
        )
    )
    hub_made = Installation(
        organization_id=owner,
        id=ids.new_id("ins"),
        app_key="demo-erp",
        live_key="demo-erp",
        title={"zh": WORD, "en": WORD},
        state="active",
        account=WORD,
        connection_id=made.ids["connection_id"][1],
        source_id=made.ids["source_id"][0],
        rollout_id=rollout.id,
    )
    session.add(hub_made)
    link = make_installation(
        session, owner, title={"zh": WORD, "en": WORD}, open_url="https://zwiebelturm.example/erp"
    )
    made.ids |= {"rollout_id": [rollout.id], "installation_id": [link.id, hub_made.id]}


def _make_catalogue(session, made: Neighbour, number: int) -> None:
    """Write a vendor, an app nobody has seen yet, its release in review, an own event type."""
    words = {"zh": f"{WORD} 台", "en": f"{WORD} Desk"}
    vendor = shelf.make_vendor(
        session, key=f"zt-{number}", name=words, organization_id=made.organization_id
    )
    key = f"zt-desk-{number}"
    manifest = shelf.manifest_text(id=key, name=words, tagline=words, description=words)
    release = releases.submit(session, vendor, manifest, made.owner.user_id)
    name = "zt.ordered"
    own = event_types.define(
        session,
        made.organization_id,
        name=name,
        title=words,
        schema={"type": "object", "title": WORD},
        sample={},
        natural_key=[],
    )
    edition = ConnectorEdition(
        id=ids.new_id("edn"),
        vendor_id=vendor.id,
        vendor_key=vendor.key,
        name="zt-desk",
        version="1.0.0",
        title=words,
        summary=words,
        archive=archives.pack({"manifest.yaml": f"# {WORD}\n".encode()}),
        digest="sha256:0",
        state="in_review",
        submitted_by=made.owner.user_id,
    )
    session.add(edition)
    session.flush()
    made.ids |= {
        "edition_id": [edition.id],
        "vendor_id": [vendor.id],
        "release_id": [release.id],
        "app_id": [release.app_id],
        "app_key": [key],
        "event_type": [name],
        "version": ["1"],
        "type_id": [own.id],
    }


def make_stranger() -> Stranger:
    """Build the stranger in a transaction of its own."""
    with transaction(EVERY) as session:
        owner = make_member(session, make_organization(session, name="别家五金", is_vendor=True))
        organization = session.get(Organization, owner.organization_id)
        shelf.make_vendor(session, key="other", organization_id=organization.id)
        key = make_api_key(session, organization)
        mine = make_connection(session, organization.id)
        chat = make_connection(session, organization.id, connector_key="demo-chat")
        flow = make_flow(session, organization.id, order_document(mine.id, chat.id))
        return Stranger(organization.id, owner, key, flow.id)


OWNERS = ("id", "organization_id", "user_id")


def everything_but(*own: str) -> dict[str, set[str]]:
    """Return every row of every table as text, but for rows of these organizations and people.

    How often somebody has tried to sign in belongs to an address and not to a firm.
    """
    found: dict[str, set[str]] = {}
    with reading(EVERY) as session:
        for table in SQLModel.metadata.sorted_tables:
            if table.name == "login_throttle":
                continue
            rows = session.execute(text(f'SELECT * FROM "{table.name}"'))
            owners = [number for number, name in enumerate(rows.keys()) if name in OWNERS]
            found[table.name] = {
                repr(row) for row in rows if not any(row[number] in own for number in owners)
            }
    return found


def changed(before: dict[str, set[str]], after: dict[str, set[str]]) -> list[str]:
    """Name the tables in which a row is new, gone or another one."""
    return [name for name in before if before[name] != after[name]]
