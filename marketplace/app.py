"""The composition root: what the hub is made of, on one page."""

from pathlib import Path

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

import catalog.pages
import catalog.routes
import catalog.tables
import connectors.budgets.tables
import connectors.completing.tables
import connectors.drifting.tables
import connectors.health.tables
import connectors.hooks
import connectors.incidents.tables
import connectors.lookups.tables
import connectors.pages
import connectors.publishing.tables
import connectors.reconnecting.tables
import connectors.resting.tables
import connectors.routes
import connectors.stages.tables
import connectors.stores.tables
import connectors.subscriptions.tables
import connectors.tables
import identity.guard
import identity.hooks
import identity.pages
import identity.routes
import identity.tables
import marketplace.tables
import webhooks.hooks
import webhooks.keeping.tables
import webhooks.pages
import webhooks.routes
import webhooks.tables
import webhooks.tasks
from kernel import log, queue, web
from kernel.settings import settings
from marketplace import assets, headers, hooks, pages, routes, status, tasks
from marketplace.desk import routes as desk_routes

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("kernel", "identity", "catalog", "webhooks", "connectors", "marketplace")

# The largest thing anybody sends is a JSON document of 1 MiB, or 256 KiB of text in a form, where
# one byte may be written as three. Intake has a limit of its own.
MAX_REQUEST_BYTES = 2 << 20

# Importing them is what fills the metadata that migrations and tests look at.
TABLES = (
    identity.tables,
    catalog.tables,
    webhooks.tables,
    webhooks.keeping.tables,
    connectors.tables,
    connectors.budgets.tables,
    connectors.health.tables,
    connectors.reconnecting.tables,
    connectors.subscriptions.tables,
    connectors.resting.tables,
    connectors.stages.tables,
    connectors.stores.tables,
    connectors.lookups.tables,
    connectors.completing.tables,
    connectors.drifting.tables,
    connectors.incidents.tables,
    connectors.publishing.tables,
    marketplace.tables,
)

# Each adds what is no route: headers, the guard, hook lists, tasks, sweeps, template globals.
INSTALLED = (
    headers,
    identity.guard,
    identity.hooks,
    webhooks.hooks,
    connectors.hooks,
    hooks,
    tasks,
)

ROOMS = (
    identity.routes,
    identity.pages,
    catalog.routes,
    catalog.pages,
    webhooks.routes,
    webhooks.pages,
    connectors.routes,
    connectors.pages,
    routes,
    desk_routes,
    pages,
    status,
    assets,
)


def create_app() -> Flask:
    """Build the WSGI application; starts no thread and touches no database."""
    log.configure(settings().log_format, settings().log_level)
    app = Flask("marketplace", root_path=str(ROOT / "marketplace"), static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = MAX_REQUEST_BYTES
    # the redirect from //a to /a would name whatever host the request claims to be for
    app.url_map.merge_slashes = False
    queue.configure()
    web.install_problems(app)
    web.install_languages(app, [str(ROOT / package / "translations") for package in PACKAGES])
    for part in INSTALLED:
        part.install(app)
    for room in ROOMS:
        if hasattr(room, "install"):
            room.install(app)
        app.register_blueprint(room.blueprint)
    proxies = settings().trusted_proxies
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies)  # type: ignore[method-assign]
    return app
