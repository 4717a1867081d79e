"""The shop's JSON routes: installing, watching, cancelling, removing, linking."""

from typing import Any

from flask import Blueprint, request

from identity.guard import principal, require
from kernel.database import reading, transaction
from kernel.web import operation, page_of
from marketplace import installations, rollout_progress, rollouts, schemas
from marketplace.tables import Installation

blueprint = Blueprint("marketplace_api", __name__, url_prefix="/api/v1")


@blueprint.post("/bundles/<bundle_key>/install")
@require("apps:install")
@operation(
    summary="Install a bundle; asking again while it runs returns the same rollout",
    returns=schemas.RolloutOut,
    status=202,
)
def install_bundle(bundle_key: str) -> Any:
    """Start installing a bundle."""
    who = principal()
    with transaction(who.organization_id) as session:
        return rollout_progress.of(session, rollouts.install_bundle(session, who, bundle_key))


@blueprint.post("/apps/<app_key>/install")
@require("apps:install")
@operation(
    summary="Install one app; asking again while it runs returns the same rollout",
    returns=schemas.RolloutOut,
    status=202,
)
def install_app(app_key: str) -> Any:
    """Start installing an app."""
    who = principal()
    with transaction(who.organization_id) as session:
        return rollout_progress.of(session, rollouts.install_app(session, who, app_key))


@blueprint.get("/rollouts/<rollout_id>")
@require("installations:read")
@operation(summary="Read how an install or uninstall is doing", returns=schemas.RolloutOut)
def read_rollout(rollout_id: str) -> Any:
    """Return a rollout with its steps."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        rollout = rollouts.find(session, organization_id, rollout_id)
        rollouts.wake_if_due(rollout)
        return rollout_progress.of(session, rollout)


@blueprint.post("/rollouts/<rollout_id>/cancel")
@require("apps:install")
@operation(
    summary="Stop an install and undo it; one that has ended well is removed again",
    body=schemas.CancelIn,
    returns=schemas.RolloutOut,
    status=202,
)
def cancel_rollout(rollout_id: str, body: schemas.CancelIn) -> Any:
    """Return the rollout to watch: the same one, or the removal that undoes it."""
    who = principal()
    with transaction(who.organization_id) as session:
        found = rollouts.cancel(session, who, rollout_id, is_confirmed=body.is_confirmed)
        return rollout_progress.of(session, found)


@blueprint.get("/installations")
@require("installations:read")
@operation(summary="List the installed apps", returns=schemas.InstallationOut, many=True)
def list_installations() -> Any:
    """Return a page of the toolbox, newest first; ?all=1 also gives what was removed."""
    organization_id = principal().organization_id
    statement = installations.of_organization(
        organization_id, with_absent=request.args.get("all") == "1"
    )
    cursor = request.args.get("cursor")
    limit = request.args.get("limit", 50, type=int)
    with reading(organization_id) as session:
        return page_of(session, statement, Installation.id, cursor=cursor, limit=limit)


@blueprint.post("/installations")
@require("apps:install")
@operation(
    summary="Add an app that you run yourself, with its own address",
    body=schemas.ExternalInstallationIn,
    returns=schemas.InstallationOut,
    status=201,
)
def add_link(body: schemas.ExternalInstallationIn) -> Any:
    """Put a link into the toolbox."""
    who = principal()
    with transaction(who.organization_id) as session:
        return installations.add_link(session, who, **body.model_dump())


@blueprint.get("/installations/<installation_id>")
@require("installations:read")
@operation(summary="Read an installed app", returns=schemas.InstallationOut)
def read_installation(installation_id: str) -> Any:
    """Return one installation."""
    organization_id = principal().organization_id
    with reading(organization_id) as session:
        return installations.find(session, organization_id, installation_id)


@blueprint.patch("/installations/<installation_id>")
@require("apps:install")
@operation(
    summary="Change an app that you run yourself",
    body=schemas.ExternalInstallationPatch,
    returns=schemas.InstallationOut,
)
def change_link(installation_id: str, body: schemas.ExternalInstallationPatch) -> Any:
    """Change what is given and leave the rest."""
    who, changes = principal(), body.model_dump(exclude_unset=True)
    with transaction(who.organization_id) as session:
        there = installations.find(session, who.organization_id, installation_id)
        now = {"name": there.title.get("zh", ""), "open_url": there.open_url, "slot": there.slot}
        kept = {name: value for name, value in changes.items() if value is not None}
        return installations.change_link(session, who, installation_id, **{**now, **kept})


@blueprint.delete("/installations/<installation_id>")
@require("apps:install")
@operation(
    summary="Remove an installed app; ?confirmed=1 also gives up runs that still wait",
    returns=schemas.RolloutOut,
    status=202,
)
def remove_installation(installation_id: str) -> Any:
    """Return the removal to watch; a link of one's own is gone at once (204)."""
    who, is_confirmed = principal(), request.args.get("confirmed") == "1"
    with transaction(who.organization_id) as session:
        there = installations.find(session, who.organization_id, installation_id)
        if there.kind == "external":
            installations.remove_link(session, who, installation_id)
            return None
        started = rollouts.remove_installation(session, who, there, is_confirmed=is_confirmed)
        return rollout_progress.of(session, started)
