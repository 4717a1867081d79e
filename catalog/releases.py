"""Releases: a manifest held against the contract, reviewed by a person, then published."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from sqlmodel import Session, col

from catalog import apps, listings, manifests
from catalog.findings import say
from catalog.tables import App, Listing, Release, Vendor
from kernel import clock, outbox
from kernel.errors import N_, Conflict, FieldError, Forbidden, Invalid, NotFound

_RANK = {"low": 0, "medium": 1, "high": 2}


def submit(session: Session, vendor: Vendor, text: str, submitted_by: str | None) -> Release:
    """Take a manifest into the review queue; Invalid says every error with its line and column."""
    checked = manifests.check(text)
    if checked.errors or checked.document is None:
        raise Invalid(N_("The manifest has errors"), errors=finding_errors(checked.errors))
    document = checked.document
    app = apps.claim(session, vendor, document)
    _refuse_spent_version(session, app, document["version"])
    release = Release(
        app_id=app.id,
        vendor_id=vendor.id,
        version=document["version"],
        manifest=document,
        source_text=text,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        findings=[asdict(finding) for finding in checked.findings],
        submitted_by=submitted_by,
    )
    session.add(release)
    session.flush()  # a version taken by a simultaneous submission fails here
    return release


def finding_errors(findings: Sequence[manifests.Finding]) -> list[FieldError]:
    """Shape findings as field errors whose messages name the line, keeping line and column."""
    errors: list[Any] = []
    for finding in findings:
        words = say(N_("Line %(line)s: %(message)s"), line=finding.line, message=finding.message)
        errors.append({**asdict(finding), "message": words})
    return errors


def _refuse_spent_version(session: Session, app: App, version: str) -> None:
    for other in of_app(session, app.id):
        if other.version == version and other.state != "rejected":
            words = N_("Version %(version)s was sent already; versions never change, raise it")
            raise Conflict(words, version=version)
        if other.state == "published" and version_key(version) < version_key(other.version):
            words = N_("Version %(version)s is older than the published %(published)s")
            raise Conflict(words, version=version, published=other.version)


def version_key(version: str) -> tuple[Any, ...]:
    """Return what sorts semantic versions: numbers by value, a pre-release before its release."""
    core, _, pre = version.partition("-")
    numbers = tuple(int(part) for part in core.split("."))
    parts = tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"[.-]", pre)
    )
    return (*numbers, (1,) if not pre else (0, parts))


def of_app(session: Session, app_id: str) -> list[Release]:
    """Return an App's Releases, newest first."""
    statement = (
        select(Release).where(col(Release.app_id) == app_id).order_by(col(Release.id).desc())
    )
    return list(session.execute(statement).scalars())


def of_vendor(session: Session, vendor_id: str) -> list[tuple[Release, App]]:
    """Return a Vendor's Releases with their Apps, newest first."""
    statement = (
        select(Release, App)
        .join(App, col(App.id) == col(Release.app_id))
        .where(col(Release.vendor_id) == vendor_id)
        .order_by(col(Release.id).desc())
    )
    return [(row[0], row[1]) for row in session.execute(statement).all()]


def find(session: Session, release_id: str) -> Release:
    """Return a Release; an unknown id is NotFound."""
    release = session.get(Release, release_id)
    if release is None:
        raise NotFound
    return release


def find_own(session: Session, vendor: Vendor, release_id: str) -> Release:
    """Return the Vendor's own Release; a stranger's is NotFound."""
    release = find(session, release_id)
    if release.vendor_id != vendor.id:
        raise NotFound
    return release


def waiting(session: Session) -> list[tuple[Release, App, Vendor]]:
    """Return the Releases in review, oldest first."""
    return _with_app(session, ["in_review"], newest_first=False, limit=200)


def decided(session: Session, limit: int = 10) -> list[tuple[Release, App, Vendor]]:
    """Return the Releases decided last."""
    return _with_app(session, ["approved", "rejected", "published"], newest_first=True, limit=limit)


def _with_app(
    session: Session, states: list[str], *, newest_first: bool, limit: int
) -> list[tuple[Release, App, Vendor]]:
    order = col(Release.decided_at).desc() if newest_first else col(Release.id)
    statement = (
        select(Release, App, Vendor)
        .join(App, col(App.id) == col(Release.app_id))
        .join(Vendor, col(Vendor.id) == col(Release.vendor_id))
        .where(col(Release.state).in_(states), col(App.is_demo).is_(False))
        .order_by(order)
        .limit(limit)
    )
    return [(row[0], row[1], row[2]) for row in session.execute(statement).all()]


# --- review --------------------------------------------------------------------------------------


def approve(
    session: Session, release_id: str, reason: str | None, decided_by: str | None
) -> Release:
    """Let a Release pass review; its vendor publishes it when ready."""
    return _decide(session, release_id, "approved", reason, decided_by)


def reject(session: Session, release_id: str, reason: str, decided_by: str | None) -> Release:
    """Turn a Release down with a reason its vendor reads; the version may be sent again."""
    if not (reason or "").strip():
        wrong: FieldError = {"pointer": "/reason", "message": say(N_("Give a reason"))}
        raise Invalid(errors=[wrong])
    return _decide(session, release_id, "rejected", reason, decided_by)


def _decide(
    session: Session, release_id: str, state: str, reason: str | None, decided_by: str | None
) -> Release:
    release = find(session, release_id)
    if release.state != "in_review":
        raise Conflict(N_("This release has been decided already"))
    if decided_by is not None and decided_by == release.submitted_by:
        raise Forbidden(N_("Somebody else must review what you submitted"))
    release.state, release.reason = state, reason
    release.decided_by, release.decided_at = decided_by, clock.now()
    session.add(release)
    return release


def publish(session: Session, release_id: str) -> Listing:
    """Put an approved Release on the shelf in place of the one before it."""
    release = find(session, release_id)
    if release.state != "approved":
        raise Conflict(N_("Only an approved release can be published"))
    app = session.get_one(App, release.app_id)
    vendor = session.get_one(Vendor, release.vendor_id)
    apps.apply_manifest(app, release.manifest)
    session.add(app)
    release.state, release.published_at = "published", clock.now()
    session.add(release)
    session.flush()  # the listing points at both
    listing = listings.put(
        session,
        app,
        tagline=release.manifest["tagline"],
        description=release.manifest["description"],
        release=release,
    )
    session.add(listing)
    if vendor.organization_id:
        news = {
            "product": app.key,
            "version": release.version,
            "notes": release.manifest["changelog"]["zh"],
            "published_at": release.published_at.isoformat(),
        }
        subject = f"{app.key}/{release.version}"
        outbox.emit(session, vendor.organization_id, "release.published", news, subject)
    return listing


def changes(session: Session, release: Release) -> dict[str, Any]:
    """Return what a Release asks for beyond the published one, by scope."""
    before: dict[str, Any] = {}
    version = None
    for other in of_app(session, release.app_id):
        if other.state == "published" and other.id != release.id:
            before = {scope["id"]: scope for scope in other.manifest.get("scopes", [])}
            version = other.version
            break
    after = {scope["id"]: scope for scope in release.manifest.get("scopes", [])}
    stronger = [
        after[name]
        for name in after.keys() & before.keys()
        if _RANK[after[name]["sensitivity"]] > _RANK[before[name]["sensitivity"]]
    ]
    return {
        "since": version,
        "added": [after[name] for name in after if name not in before],
        "dropped": [before[name] for name in before if name not in after],
        "stronger": stronger,
        "kept": [after[name] for name in after if name in before],
    }
