"""Serves the front end's files straight from node_modules and the packages' static folders."""

import gzip
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import simplejson
from flask import Blueprint, Flask, Response, abort, request

from identity.guard import public
from marketplace import states

HOUSE = Path(__file__).resolve().parent.parent
PACKAGES = ("kernel", "identity", "catalog", "webhooks", "connectors", "marketplace")

# What a page may name → the file an installed npm package ships it as. Nothing else in
# node_modules can be reached from outside.
FROM_NPM = {
    "tabler.css": "@tabler/core/dist/css/tabler.min.css",
    "tabler.js": "@tabler/core/dist/js/tabler.min.js",
    "htmx.js": "htmx.org/dist/htmx.min.js",
    "htmx-alpine.js": "htmx.org/dist/ext/hx-alpine-compat.min.js",
    "alpine.js": "@alpinejs/csp/dist/cdn.min.js",
    "echarts.js": "echarts/dist/echarts.common.min.js",
    "react.js": "react/umd/react.production.min.js",
    "react-dom.js": "react-dom/umd/react-dom.production.min.js",
    "xyflow.js": "@xyflow/react/dist/umd/index.js",
    "xyflow.css": "@xyflow/react/dist/base.css",
}

SPRITE = "icons.svg"
ICON_FOLDER = "@tabler/icons/icons"

# The icons that pages may use, by Tabler's name; a test keeps the templates inside this list.
_ICON_NAMES = """
activity adjustments affiliate alert-circle alert-triangle apps archive arrow-back-up
arrow-down arrow-left arrow-right arrow-up arrows-exchange arrows-maximize award ban bell
binary-tree bolt box braces briefcase building building-bank building-factory-2 building-store
building-warehouse bulb calculator calendar calendar-event certificate chart-bar chart-line
chart-radar check checklist chevron-down chevron-left chevron-right chevron-up circle
circle-check circle-dashed circle-dot circle-x click clipboard-check clipboard-list clock
clock-pause clock-play cloud cloud-upload code coin-yuan compass copy credit-card currency-yuan
database device-desktop device-floppy device-mobile discount door-exit dots dots-vertical
download external-link eye eye-off file-export file-import file-invoice file-text filter
fingerprint flag flask folder gauge git-branch git-fork hand-click hand-stop headset heart
heartbeat help-circle history home hourglass id id-badge-2 inbox info-circle key keyboard
language layout-dashboard layout-grid link list list-check loader-2 lock lock-open login logout
mail map-pin math-function menu-2 message message-circle microscope minus moon package packages
palette password-user pencil phone pig-money pin player-pause player-play player-skip-forward
player-stop plug plug-connected plug-connected-x plus point puzzle qrcode receipt receipt-yuan
refresh repeat report-analytics robot rocket rosette-discount-check rotate route scale search
send server server-2 settings share shield-check shield-lock shopping-bag shopping-cart sitemap
sort-descending sparkles speakerphone stack-2 star star-filled sun switch-horizontal table tag
tags target terminal-2 test-pipe thumb-up tool tools transform trash trash-x truck
truck-delivery unlink upload user user-plus users variable wallet webhook world x zoom-in
zoom-out
"""
ICONS = frozenset(_ICON_NAMES.split())

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
}
COMPRESSIBLE = frozenset({".css", ".js", ".json", ".svg", ".webmanifest"})
NAME = re.compile(r"\w[\w.-]{0,80}(/\w[\w.-]{0,80}){0,4}", re.ASCII)
ONE_YEAR_SECONDS = 31_536_000


class AssetsMissingError(RuntimeError):
    """Says which front-end file is absent and what to run."""


@dataclass(frozen=True)
class Asset:
    """Holds one file ready to send: raw and gzipped bytes, media type and content digest."""

    body: bytes
    zipped: bytes | None
    media_type: str
    digest: str


def find_file(name: str, house: Path = HOUSE) -> Path | None:
    """Return the file behind an allowed asset name, or None for a name that is not allowed."""
    if name in FROM_NPM:
        return house / "node_modules" / FROM_NPM[name]
    if not NAME.fullmatch(name):
        return None
    package, _, rest = name.partition("/")
    folder = house / (package if rest else "marketplace") / "static"
    if rest and package not in PACKAGES:
        return None
    path = (folder / (rest or name)).resolve()
    inside = path.is_relative_to(folder.resolve()) and path.suffix in TYPES
    return path if inside and path.is_file() else None


def check_installed(house: Path = HOUSE) -> None:
    """Raise AssetsMissingError when a named npm file or icon is not installed."""
    modules = house / "node_modules"
    wanted = [modules / path for path in FROM_NPM.values()]
    wanted += [_icon_file(name, modules) for name in sorted(ICONS)]
    absent = [str(path.relative_to(modules)) for path in wanted if not path.is_file()]
    if absent:
        shown = ", ".join(absent[:3]) + (" …" if len(absent) > 3 else "")
        raise AssetsMissingError(
            f"The front-end packages are not installed ({len(absent)} files are missing: {shown})."
            " Run `make setup`, which installs them from package-lock.json."
        )


def load(name: str, house: Path = HOUSE) -> Asset | None:
    """Return the asset of that name, or None; a changed file on disk is read again."""
    if name == SPRITE:
        return _sprite(house / "node_modules")
    path = find_file(name, house)
    if path is None:
        return None
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise AssetsMissingError(f"{path.name} is not installed. Run `make setup`.") from None


def draw_sprite(names: Iterable[str], modules: Path) -> bytes:
    """Return one SVG document with a <symbol> for each named icon, drawn in the current colour."""
    symbols = []
    for name in sorted(names):
        drawing = _icon_file(name, modules).read_text("utf-8")
        inner = drawing[drawing.index(">", drawing.index("<svg")) + 1 : drawing.rindex("</svg>")]
        inner = re.sub(r'<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*/>', "", inner)
        paint = (
            'fill="currentColor"'
            if name.endswith("-filled")
            else 'fill="none" stroke="currentColor" stroke-width="1.75"'
            ' stroke-linecap="round" stroke-linejoin="round"'
        )
        shape = re.sub(r"\s*\n\s*", "", inner)
        symbols.append(f'<symbol id="{name}" viewBox="0 0 24 24" {paint}>{shape}</symbol>')
    return f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(symbols)}</svg>'.encode()


def install(app: Flask) -> None:
    """Check once that the files are there, then give templates what the frame uses."""
    check_installed()
    app.jinja_env.filters["indented"] = indented
    app.jinja_env.globals["asset_url"] = asset_url
    states.install(app)


def asset_url(name: str) -> str:
    """Return the path of an asset, with its digest; unknown names raise LookupError."""
    asset = load(name)
    if asset is None:
        raise LookupError(f"No asset is called {name!r}; see marketplace/assets.py")
    return f"{request.script_root}/assets/{asset.digest}/{name}"


def indented(value: Any) -> str:
    """Return a value as JSON for people: two spaces, Chinese as it is, decimals exact."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return simplejson.dumps(value, ensure_ascii=False, indent=2, use_decimal=True, default=str)


blueprint = Blueprint("assets", __name__)


@blueprint.get("/assets/<digest>/<path:name>")
@public(csrf=False)
def send(digest: str, name: str) -> Response:
    """Send one asset: for ever cacheable under its digest, never cached under another one."""
    asset = load(name)
    if asset is None:
        abort(404)
    zip_it = asset.zipped is not None and request.accept_encodings["gzip"] > 0
    response = Response(asset.zipped if zip_it else asset.body, content_type=asset.media_type)
    if zip_it:
        response.headers["Content-Encoding"] = "gzip"
    if asset.zipped is not None:
        response.headers["Vary"] = "Accept-Encoding"
    # During a rolling update an old page may ask for a digest this process never had.
    current = digest == asset.digest
    lasting = f"public, max-age={ONE_YEAR_SECONDS}, immutable"
    response.headers["Cache-Control"] = lasting if current else "no-cache"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _icon_file(name: str, modules: Path) -> Path:
    folder = modules / ICON_FOLDER
    if name.endswith("-filled"):
        return folder / "filled" / f"{name.removesuffix('-filled')}.svg"
    return folder / "outline" / f"{name}.svg"


@lru_cache(maxsize=2)
def _sprite(modules: Path) -> Asset:
    return _pack(draw_sprite(ICONS, modules), ".svg")


@lru_cache(maxsize=256)
def _read(path: Path, changed_at_ns: int) -> Asset:  # noqa: ARG001 - part of the cache's key
    return _pack(path.read_bytes(), path.suffix)


def _pack(body: bytes, suffix: str) -> Asset:
    zipped = gzip.compress(body, 6, mtime=0) if suffix in COMPRESSIBLE else None
    digest = hashlib.sha256(body).hexdigest()[:16]
    return Asset(body, zipped, TYPES[suffix], digest)
