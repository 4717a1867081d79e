"""What people do in the catalogue, each with its transaction and its line in the audit trail."""

from catalog import event_types, releases, schemas, vendors
from catalog.tables import CustomEventType, Release, Vendor
from identity import audit
from identity.principals import Principal
from kernel.database import EVERY, transaction
from kernel.errors import N_

audit.name_actions(
    {
        "vendor.applied": N_("applied as a vendor"),
        "vendor.admitted": N_("admitted a vendor"),
        "vendor.refused": N_("refused a vendor"),
        "release.submitted": N_("submitted a release"),
        "release.approved": N_("approved a release"),
        "release.refused": N_("refused a release"),
        "release.published": N_("published a release"),
        "event_type.defined": N_("defined an event type"),
        "event_type.retired": N_("retired an event type"),
    }
)


def define_event_type(who: Principal, body: schemas.CustomEventTypeIn) -> CustomEventType:
    """Write an organization's own event type."""
    with transaction(who.organization_id) as session:
        row = event_types.define(
            session,
            who.organization_id,
            name=body.name,
            title=body.title.model_dump(),
            schema=body.json_schema,
            sample=body.sample,
            natural_key=body.natural_key,
        )
        audit.record(session, who, "event_type.defined", f"{row.name} v{row.version}")
        return row


def retire_event_type(who: Principal, type_id: str) -> CustomEventType:
    """Take an organization's own event type out of use."""
    with transaction(who.organization_id) as session:
        row = event_types.retire(session, who.organization_id, type_id)
        audit.record(session, who, "event_type.retired", f"{row.name} v{row.version}")
        return row


def apply_as_vendor(who: Principal, body: schemas.VendorIn) -> Vendor:
    """Send an organization's application as a vendor."""
    with transaction(EVERY) as session:
        vendor = vendors.apply(
            session,
            who.organization_id,
            name=body.name.model_dump(),
            contact_email=body.contact_email,
            credit_code=body.credit_code or None,
            homepage=body.homepage,
            about=body.about.model_dump() if body.about else None,
        )
        audit.record(session, who, "vendor.applied", vendor.id)
        return vendor


def decide_vendor(who: Principal, vendor_id: str, decision: str, reason: str | None) -> Vendor:
    """Admit a vendor or refuse it with a reason."""
    with transaction(EVERY) as session:
        if decision == "approve":
            vendor = vendors.verify(session, vendor_id, who.user_id)
            audit.record(session, who, "vendor.admitted", vendor.id)
        else:
            vendor = vendors.reject(session, vendor_id, reason or "", who.user_id)
            audit.record(session, who, "vendor.refused", vendor.id, detail={"reason": reason})
        return vendor


def submit_release(who: Principal, manifest: str) -> Release:
    """Submit a manifest for review."""
    with transaction(EVERY) as session:
        vendor = vendors.publisher(session, who.organization_id)
        release = releases.submit(session, vendor, manifest, who.user_id)
        audit.record(session, who, "release.submitted", release.id)
        return release


def decide_release(who: Principal, release_id: str, decision: str, reason: str | None) -> Release:
    """Approve a release or refuse it with a reason."""
    with transaction(EVERY) as session:
        if decision == "approve":
            release = releases.approve(session, release_id, reason, who.user_id)
            audit.record(session, who, "release.approved", release.id)
        else:
            release = releases.reject(session, release_id, reason or "", who.user_id)
            audit.record(session, who, "release.refused", release.id, detail={"reason": reason})
        return release


def publish_release(who: Principal, release_id: str) -> Release:
    """Put one's own approved release on the shelf."""
    with transaction(EVERY) as session:
        vendor = vendors.publisher(session, who.organization_id)
        release = releases.find_own(session, vendor, release_id)
        releases.publish(session, release.id)
        audit.record(session, who, "release.published", release.id)
        return release
