"""The vendor's desk: apply, check and submit manifests, follow the review, publish."""

from typing import Any

from flask import request

from catalog import apps, deeds, manifests, releases, schemas, vendors
from catalog.pages import fields
from catalog.pages.drawing import blueprint, draw, go, typed
from identity.guard import principal, require
from kernel.database import EVERY, reading, transaction
from kernel.errors import Problem, TooLarge


@blueprint.get("/vendor/apply")
@require("organization:write")
def vendor_apply() -> Any:
    """Show the application to become a vendor, or what became of it."""
    return _draw_application()


@blueprint.post("/vendor/apply")
@require("organization:write")
def vendor_apply_now() -> Any:
    """Send the application."""
    about = {"zh": typed("about_zh"), "en": typed("about_en")}
    try:
        body = fields.validated(
            schemas.VendorIn,
            {
                "name": {"zh": typed("name_zh"), "en": typed("name_en")},
                "contact_email": typed("contact_email"),
                "credit_code": typed("credit_code").upper() or None,
                "homepage": typed("homepage") or None,
                "about": about if any(about.values()) else None,
            },
        )
        deeds.apply_as_vendor(principal(), body)
    except Problem as problem:
        return _draw_application(problem)
    return go("/vendor/apply")


def _draw_application(problem: Problem | None = None) -> Any:
    with reading(EVERY) as session:
        vendor = vendors.of_organization(session, principal().organization_id)
    return draw("vendor_apply.html", vendor=vendor, problem=problem)


@blueprint.get("/vendor")
@require("releases:submit")
def vendor_desk() -> Any:
    """Show the vendor's apps and releases."""
    with transaction(EVERY) as session:
        vendor = vendors.publisher(session, principal().organization_id)
        own = apps.of_vendor(session, vendor.id)
        sent = releases.of_vendor(session, vendor.id)
        on_shelf = apps.by_keys(session, [app.key for app in own])
        queue = [release.id for release, _, _ in releases.waiting(session)]
    return draw(
        "vendor.html", vendor=vendor, apps=own, on_shelf=on_shelf, releases=sent, queue=queue
    )


@blueprint.get("/vendor/releases/new")
@require("releases:submit")
def release_new() -> Any:
    """Show the field for a manifest, with a complete example to start from."""
    return draw("manifest.html", text="", checked=None, example=manifests.example())


@blueprint.post("/vendor/releases/new")
@require("releases:submit")
def release_submit() -> Any:
    """Check a manifest, and submit it when that was asked for."""
    text = _manifest_text()
    checked = manifests.check(text)
    problem = None
    if "submit" in request.form and not checked.errors:
        try:
            release = deeds.submit_release(principal(), text)
        except Problem as refused:
            problem = refused
        else:
            return go(f"/vendor/releases/{release.id}")
    page = draw("manifest.html", text=text, checked=checked, example="", problem=problem)
    if checked.errors and problem is None:
        page.status_code = 422
    return page


def _manifest_text() -> str:
    """Return the uploaded file's text, or what was pasted."""
    upload = request.files.get("file")
    if upload is None or not upload.filename:
        return request.form.get("manifest", "")
    raw = upload.stream.read(manifests.MAX_BYTES + 1)
    if len(raw) > manifests.MAX_BYTES:
        raise TooLarge
    return raw.decode("utf-8", "replace")


@blueprint.get("/vendor/releases/<release_id>")
@require("releases:submit")
def release_page(release_id: str) -> Any:
    """Show one release: where it stands, what was found, what it asks for."""
    with transaction(EVERY) as session:
        vendor = vendors.publisher(session, principal().organization_id)
        release = releases.find_own(session, vendor, release_id)
        app = apps.of_release(session, release)
        asked = releases.changes(session, release)
        queue = [waiting.id for waiting, _, _ in releases.waiting(session)]
    return draw(
        "release.html",
        release=release,
        app=app,
        changes=asked,
        queue=queue,
        # checked anew, because what was said then was said in the sender's language
        findings=manifests.check(release.source_text).findings,
    )


@blueprint.post("/vendor/releases/<release_id>/publish")
@require("releases:submit")
def release_publish(release_id: str) -> Any:
    """Put an approved release on the shelf."""
    deeds.publish_release(principal(), release_id)
    return go(f"/vendor/releases/{release_id}")
