"""Editions: a version of a vendor's connector, from the first upload to its last day.

uploaded → checked by the machine → sent to review → published (never changed again) → deprecated,
withdrawn or recalled. Vendors see their own, reviewers what is in review, all what is offered.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlmodel import Session, col

from catalog import vendors
from catalog.tables import Vendor
from connectors.errors import NotNow, Unfit, finding
from connectors.publishing import archives
from connectors.publishing.archives import Files
from connectors.publishing.tables import OFFERED, OPEN, WORKING, ConnectorEdition
from kernel import clock, ids, outbox
from kernel.database import store_now
from kernel.errors import N_, Forbidden, NotFound

MOST_OPEN = 20  # of one vendor, that are no longer or not yet in review
MOST_NAMES = 50  # connectors of one vendor
MOST_KEPT = 200  # editions of one vendor
MAX_REASON = 2_000


def upload(
    session: Session, vendor: Vendor, files: Files, edition_id: str | None = None
) -> ConnectorEdition:
    """Take a folder to be checked: as a new edition, or in place of one that is still open."""
    raw = archives.pack(files)
    if edition_id is None:
        _keep_bounds(session, vendor)
        edition = ConnectorEdition(
            id=ids.new_id("edn"),
            vendor_id=vendor.id,
            vendor_key=vendor.key,
            name="",
            archive=raw,
            digest="",
        )
    else:
        edition = _locked(session, vendor, edition_id)
        if edition.state not in OPEN:
            raise NotNow(
                N_("What was sent to review never changes"), N_("Raise its version and upload it.")
            )
    edition.archive, edition.digest = raw, archives.digest(raw)
    edition.state, edition.next_at = "checking", store_now(session)
    edition.findings, edition.trial, edition.changes = [], {}, []
    edition.lease_owner = edition.lease_until = edition.reason = None
    edition.try_count = 0
    session.add(edition)
    session.flush()
    return edition


def _keep_bounds(session: Session, vendor: Vendor) -> None:
    mine = select(col(ConnectorEdition.state), func.count()).where(
        col(ConnectorEdition.vendor_id) == vendor.id
    )
    counts = {row[0]: int(row[1]) for row in session.execute(mine.group_by("state"))}
    if sum(counts.get(state, 0) for state in OPEN) >= MOST_OPEN:
        raise NotNow(
            N_("You have too many open drafts"),
            N_("Delete drafts that you no longer need, then upload again."),
        )
    if sum(counts.values()) >= MOST_KEPT:
        raise NotNow(N_("You have published as many versions as one vendor may"))


def write_file(
    session: Session, vendor: Vendor, edition_id: str, name: str, text: str
) -> ConnectorEdition:
    """Change one text file of an open edition; it is checked anew."""
    edition = find_own(session, vendor, edition_id)
    files = archives.read(edition.archive)
    archives.check_name(name)
    return upload(session, vendor, {**files, name: text.replace("\r\n", "\n").encode()}, edition_id)


def submit(
    session: Session, vendor: Vendor, edition_id: str, submitted_by: str | None
) -> ConnectorEdition:
    """Send an edition that passed the check to review; its folder never changes from now on."""
    edition = _locked(session, vendor, edition_id)
    if edition.state != "checked":
        raise NotNow(
            N_("Only what passed the check can be sent to review"),
            N_("Cure what the check found; it is done anew with every change."),
        )
    if not edition.is_allowed:
        raise NotNow(
            N_("The version does not allow for the changes"),
            N_("Raise the first number for a breaking change, any number for another."),
        )
    for other in of_name(session, vendor.id, edition.name):
        is_spent = other.id != edition.id and other.state not in OPEN
        if is_spent and version_key(edition.version) <= version_key(other.version):
            raise NotNow(
                N_("Version %(version)s was sent already"),
                N_("Versions only go up; raise it in the manifest."),
                version=other.version,
            )
    names = {one.name for one in of_vendor(session, vendor.id) if one.state not in OPEN}
    if edition.name not in names and len(names) >= MOST_NAMES:
        raise NotNow(N_("You have published as many connectors as one vendor may"))
    edition.state, edition.submitted_by = "in_review", submitted_by
    session.add(edition)
    session.flush()
    return edition


def decide(
    session: Session, edition_id: str, decision: str, reason: str, decided_by: str | None
) -> ConnectorEdition:
    """Publish an edition in review, or refuse it with a reason that its vendor reads."""
    edition = find(session, edition_id)
    session.refresh(edition, with_for_update=True)
    if edition.state != "in_review":
        raise NotNow(N_("This has been decided already"))
    if decided_by is not None and decided_by == edition.submitted_by:
        raise Forbidden(N_("Somebody else must review what you submitted"))
    if decision not in ("approve", "reject"):
        raise Unfit([finding("/decision", "请选择通过或退回", "Choose to approve or to refuse")])
    reason = reason.strip()[:MAX_REASON]
    if decision == "reject" and not reason:
        raise Unfit([finding("/reason", "请写明理由", "Give a reason")])
    edition.state = "published" if decision == "approve" else "rejected"
    edition.reason = reason or None
    edition.decided_by, edition.decided_at = decided_by, clock.now()
    if decision == "approve":
        edition.published_at = clock.now()
        _tell(session, edition)
    session.add(edition)
    session.flush()
    return edition


def _tell(session: Session, edition: ConnectorEdition) -> None:
    vendor = session.get(Vendor, edition.vendor_id)
    if vendor is not None and vendor.organization_id:
        data = {
            "product": key_of(edition),
            "version": edition.version,
            "notes": edition.summary.get("zh"),
            "published_at": clock.now().isoformat(),
        }
        outbox.emit(session, vendor.organization_id, "release.published", data, key_of(edition))


def change_state(
    session: Session, edition: ConnectorEdition, state: str, reason: str
) -> ConnectorEdition:
    """Deprecate, withdraw or offer an edition again; an operator may recall it.

    Withdrawn, nobody connects it anew and what is connected goes on; recalled, it works no more.
    """
    session.refresh(edition, with_for_update=True)
    ways = {
        "deprecated": ("published",),
        "published": ("deprecated", "withdrawn"),
        "withdrawn": OFFERED,
        "recalled": WORKING,
    }
    if edition.state not in ways[state]:
        raise NotNow(N_("This version is not in a state for that"))
    if state in ("withdrawn", "recalled") and not reason.strip():
        raise Unfit([finding("/reason", "请写明理由", "Give a reason")])
    edition.state, edition.reason = state, reason.strip()[:MAX_REASON] or None
    session.add(edition)
    session.flush()
    return edition


def delete(session: Session, vendor: Vendor, edition_id: str) -> None:
    """Throw an edition away that was never sent to review."""
    edition = _locked(session, vendor, edition_id)
    if edition.state not in OPEN:
        raise NotNow(N_("What was sent to review is kept"))
    session.delete(edition)


# --- looks ----------------------------------------------------------------------------------------


def find(session: Session, edition_id: str) -> ConnectorEdition:
    """Return an edition; an unknown id is NotFound."""
    edition = session.get(ConnectorEdition, edition_id)
    if edition is None:
        raise NotFound
    return edition


def find_own(session: Session, vendor: Vendor, edition_id: str) -> ConnectorEdition:
    """Return the vendor's own edition; a stranger's is NotFound."""
    edition = find(session, edition_id)
    if edition.vendor_id != vendor.id:
        raise NotFound
    return edition


def _locked(session: Session, vendor: Vendor, edition_id: str) -> ConnectorEdition:
    edition = find_own(session, vendor, edition_id)
    session.refresh(edition, with_for_update=True)
    return edition


def of_vendor(session: Session, vendor_id: str) -> list[ConnectorEdition]:
    """Return a vendor's editions, the newest first."""
    statement = select(ConnectorEdition).where(col(ConnectorEdition.vendor_id) == vendor_id)
    return list(session.execute(statement.order_by(col(ConnectorEdition.id).desc())).scalars())


def of_name(session: Session, vendor_id: str, name: str) -> list[ConnectorEdition]:
    """Return the editions of one of a vendor's connectors, the newest first."""
    return [one for one in of_vendor(session, vendor_id) if one.name == name]


def waiting(session: Session) -> list[tuple[ConnectorEdition, Vendor]]:
    """Return what is in review, the oldest first."""
    return _with_vendor(session, ("in_review",), col(ConnectorEdition.id))


def decided(session: Session) -> list[tuple[ConnectorEdition, Vendor]]:
    """Return what was decided last."""
    states = ("published", "rejected", "deprecated", "withdrawn", "recalled")
    return _with_vendor(session, states, col(ConnectorEdition.decided_at).desc(), 20)


def _with_vendor(
    session: Session, states: Sequence[str], order: Any, most: int = 200
) -> list[tuple[ConnectorEdition, Vendor]]:
    statement = (
        select(ConnectorEdition, Vendor)
        .join(Vendor, col(Vendor.id) == col(ConnectorEdition.vendor_id))
        .where(col(ConnectorEdition.state).in_(list(states)))
        .order_by(order)
        .limit(most)
    )
    return [(row[0], row[1]) for row in session.execute(statement)]


def offered(session: Session) -> list[tuple[ConnectorEdition, Vendor]]:
    """Return what may be connected, the newest version of each connector, by vendor and name."""
    found: dict[str, tuple[ConnectorEdition, Vendor]] = {}
    for edition, vendor in _with_vendor(session, OFFERED, col(ConnectorEdition.id), 2_000):
        known = found.get(stem_of(edition))
        if known is None or version_key(known[0].version) < version_key(edition.version):
            found[stem_of(edition)] = edition, vendor
    return [found[stem] for stem in sorted(found)]


def newest(session: Session, key: str) -> ConnectorEdition | None:
    """Return the newest edition on offer of the connector that a key names a version of."""
    some = _working(key.partition("@")[0], OFFERED)
    if some is None:
        return None
    found = list(session.execute(some).scalars())
    return max(found, key=lambda one: version_key(one.version), default=None)


def by_key(session: Session, key: str) -> ConnectorEdition | None:
    """Return the edition that a key names, if it works."""
    stem, _, version = key.partition("@")
    some = _working(stem, WORKING)
    if some is None:
        return None
    found: ConnectorEdition | None = session.execute(
        some.where(col(ConnectorEdition.version) == version)
    ).scalar_one_or_none()
    return found


def _working(stem: str, states: Sequence[str]) -> Select[Any] | None:
    vendor_key, dot, name = stem.partition(".")
    if not dot:
        return None
    return select(ConnectorEdition).where(
        col(ConnectorEdition.vendor_key) == vendor_key,
        col(ConnectorEdition.name) == name,
        col(ConnectorEdition.state).in_(list(states)),
    )


def stem_of(edition: ConnectorEdition) -> str:
    """Return what all versions of a connector are called: `<vendor>.<name>`."""
    return f"{edition.vendor_key}.{edition.name}"


def key_of(edition: ConnectorEdition) -> str:
    """Return what connections and flows call this version: `<vendor>.<name>@<version>`.

    The library's keys have neither a dot nor an @, so that none of them can be taken.
    """
    return f"{stem_of(edition)}@{edition.version}"


def version_key(version: str) -> tuple[int, ...]:
    """Return what sorts versions by value."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def publisher(session: Session, organization_id: str) -> Vendor:
    """Return the vendor that may publish for this organization; Forbidden says why not."""
    return vendors.publisher(session, organization_id)


def before(session: Session, edition: ConnectorEdition, name: str) -> ConnectorEdition | None:
    """Return the newest version of a connector that was published before an edition."""
    found = [
        one
        for one in of_name(session, edition.vendor_id, name)
        if one.state in WORKING and one.id != edition.id
    ]
    return max(found, key=lambda one: version_key(one.version), default=None)
