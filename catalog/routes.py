"""The JSON routes of the catalogue: what may be chosen, publishing, review, own event types."""

from typing import Any

from flask import Blueprint, request

from catalog import (
    bundles,
    deeds,
    event_types,
    manifests,
    releases,
    schemas,
    search,
    shapes,
    slots,
    vendors,
)
from catalog.tables import CustomEventType
from identity.guard import principal, principal_or_none, public, require
from kernel.database import EVERY, reading, transaction
from kernel.web import Page, json_response, operation, page_of

blueprint = Blueprint("catalog_api", __name__, url_prefix="/api/v1")


# --- what may be chosen --------------------------------------------------------------------------


@blueprint.get("/slots")
@public
@operation(summary="List the slots and their sub-scenarios", returns=schemas.SlotOut, many=True)
def list_slots() -> Any:
    return slots.all_slots()


@blueprint.get("/layers")
@public
@operation(summary="List the layers", returns=schemas.LayerOut, many=True)
def list_layers() -> Any:
    return slots.all_layers()


@blueprint.get("/apps")
@public
@operation(summary="Search the apps", returns=schemas.ResultsOut)
def search_apps() -> Any:
    with reading(EVERY) as session:
        found = search.search(
            session,
            request.args.get("q", ""),
            {name: request.args.getlist(name) for name in search.FACETS},
            cursor=request.args.get("cursor"),
            order=request.args.get("order", "relevance"),
        )
    items = [schemas.HitOut.model_validate(hit, from_attributes=True) for hit in found.hits]
    return schemas.ResultsOut(
        items=items,
        total=found.total,
        facets=found.facets,
        is_partial=found.is_partial,
        instead=found.instead,
        without=found.without,
        next_cursor=found.next_cursor,
    )


@blueprint.get("/apps/suggestions")
@public
@operation(summary="Complete an app's name", returns=schemas.HitOut, many=True)
def suggest_apps() -> Any:
    with reading(EVERY) as session:
        return search.suggest(session, request.args.get("q", ""))


@blueprint.get("/apps/<key>")
@public
@operation(summary="Describe an app", returns=schemas.AppOut)
def show_app(key: str) -> Any:
    with reading(EVERY) as session:
        return shapes.app_detail(session, key)


@blueprint.get("/bundles")
@public
@operation(summary="List the bundles", returns=schemas.BundleOut, many=True)
def list_bundles() -> Any:
    with reading(EVERY) as session:
        return bundles.all_bundles(session)


@blueprint.get("/bundles/<key>")
@public
@operation(summary="Describe a bundle", returns=schemas.BundleOut)
def show_bundle(key: str) -> Any:
    with reading(EVERY) as session:
        return bundles.by_key(session, key)


# --- event types ---------------------------------------------------------------------------------


def _organization_id() -> str | None:
    who = principal_or_none()
    return who.organization_id if who else None


@blueprint.get("/event-types")
@public
@operation(summary="List the event types", returns=schemas.EventTypeOut, many=True)
def list_event_types() -> Any:
    with reading(EVERY) as session:
        found = event_types.all_types(session, _organization_id())
    wanted = request.args.get("sub_scenario")
    return [shapes.event_type(t) for t in found if wanted in (None, t.sub_scenario)]


@blueprint.get("/event-types/<name>")
@public
@operation(summary="Describe an event type: its JSON Schema and a sample")
def show_event_type(name: str) -> Any:
    version = request.args.get("version", type=int)
    with reading(EVERY) as session:
        found = event_types.find(session, _organization_id(), name, version)
    return json_response(shapes.event_type_detail(found))


@blueprint.get("/custom-event-types")
@require("event_types:read")
@operation(summary="List our own event types", returns=schemas.CustomEventTypeOut, many=True)
def list_custom_event_types() -> Page:
    who = principal()
    with reading(who.organization_id) as session:
        return page_of(
            session,
            CustomEventType.of(who.organization_id),
            CustomEventType.id,
            cursor=request.args.get("cursor"),
        )


@blueprint.post("/custom-event-types")
@require("event_types:write")
@operation(
    summary="Define an event type, or its next version",
    body=schemas.CustomEventTypeIn,
    returns=schemas.CustomEventTypeOut,
    status=201,
)
def define_event_type(body: schemas.CustomEventTypeIn) -> Any:
    return deeds.define_event_type(principal(), body)


@blueprint.delete("/custom-event-types/<type_id>")
@require("event_types:write")
@operation(summary="Take an own event type out of use", status=204)
def retire_event_type(type_id: str) -> None:
    deeds.retire_event_type(principal(), type_id)


# --- vendors and their releases ------------------------------------------------------------------


@blueprint.get("/vendor")
@require("organization:read")
@operation(summary="Show our vendor record", returns=schemas.VendorOut, many=True)
def show_vendor() -> Any:
    with reading(EVERY) as session:
        found = vendors.of_organization(session, principal().organization_id)
    return [found] if found else []


@blueprint.post("/vendor")
@require("organization:write")
@operation(
    summary="Apply to become a vendor",
    body=schemas.VendorIn,
    returns=schemas.VendorOut,
    status=201,
)
def apply_as_vendor(body: schemas.VendorIn) -> Any:
    return deeds.apply_as_vendor(principal(), body)


@blueprint.post("/releases/check")
@require("releases:submit")
@operation(
    summary="Check a manifest without submitting it",
    body=schemas.ReleaseIn,
    returns=schemas.CheckOut,
)
def check_manifest(body: schemas.ReleaseIn) -> Any:
    checked = manifests.check(body.manifest)
    findings = [vars(finding) for finding in checked.findings]
    return {"is_valid": not checked.errors, "findings": findings}


@blueprint.post("/releases")
@require("releases:submit")
@operation(
    summary="Submit a release for review",
    body=schemas.ReleaseIn,
    returns=schemas.ReleaseOut,
    status=201,
)
def submit_release(body: schemas.ReleaseIn) -> Any:
    return deeds.submit_release(principal(), body.manifest)


@blueprint.get("/releases")
@require("releases:submit")
@operation(summary="List our releases", returns=schemas.ReleaseOut, many=True)
def list_releases() -> Any:
    with transaction(EVERY) as session:
        vendor = vendors.publisher(session, principal().organization_id)
        return [release for release, _ in releases.of_vendor(session, vendor.id)]


@blueprint.get("/releases/<release_id>")
@require("releases:submit")
@operation(summary="Show one of our releases", returns=schemas.ReleaseDetailOut)
def show_release(release_id: str) -> Any:
    with transaction(EVERY) as session:
        vendor = vendors.publisher(session, principal().organization_id)
        return releases.find_own(session, vendor, release_id)


@blueprint.post("/releases/<release_id>/publish")
@require("releases:submit")
@operation(summary="Put an approved release on the shelf", returns=schemas.ReleaseOut)
def publish_release(release_id: str) -> Any:
    return deeds.publish_release(principal(), release_id)


# --- review --------------------------------------------------------------------------------------


@blueprint.get("/reviews")
@require("releases:review")
@operation(
    summary="List the releases that wait for review",
    returns=schemas.ReleaseDetailOut,
    many=True,
)
def list_reviews() -> Any:
    with reading(EVERY) as session:
        return [release for release, _, _ in releases.waiting(session)]


@blueprint.post("/reviews/<release_id>")
@require("releases:review")
@operation(
    summary="Approve or refuse a release",
    body=schemas.DecisionIn,
    returns=schemas.ReleaseOut,
)
def decide_release(release_id: str, body: schemas.DecisionIn) -> Any:
    return deeds.decide_release(principal(), release_id, body.decision, body.reason)


@blueprint.get("/vendor-applications")
@require("vendors:review")
@operation(summary="List the vendors that wait for admission", returns=schemas.VendorOut, many=True)
def list_applications() -> Any:
    with reading(EVERY) as session:
        return vendors.waiting(session)


@blueprint.post("/vendor-applications/<vendor_id>")
@require("vendors:review")
@operation(summary="Admit or refuse a vendor", body=schemas.DecisionIn, returns=schemas.VendorOut)
def decide_vendor(vendor_id: str, body: schemas.DecisionIn) -> Any:
    return deeds.decide_vendor(principal(), vendor_id, body.decision, body.reason)
