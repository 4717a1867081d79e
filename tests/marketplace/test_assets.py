"""Assets: only what is named is served, under its digest, and a missing install says what to do."""

import gzip
import json
import re

import pytest
from flask import Flask

from marketplace import assets
from marketplace.assets import HOUSE
from marketplace.navigation import HALLS


@pytest.fixture
def client():
    app = Flask("assets-alone", static_folder=None)
    assets.install(app)
    app.register_blueprint(assets.blueprint)
    return app.test_client()


def url_of(name):
    return f"/assets/{assets.load(name).digest}/{name}"


@pytest.mark.parametrize("name", [*assets.FROM_NPM, assets.SPRITE, "yangfan.css", "logo.svg"])
def test_a_named_file_is_served_for_ever_under_its_digest(client, name):
    answer = client.get(url_of(name))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.mimetype == kinds[name.rpartition(".")[2]]


def test_a_browser_that_reads_gzip_gets_less(client):
    plain = client.get(url_of("tabler.css"))
    zipped = client.get(url_of("tabler.css"), headers={"Accept-Encoding": "gzip, br"})
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert zipped.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert "Content-Encoding" not in plain.headers
    assert gzip.decompress(zipped.data) == plain.data
    assert len(zipped.data) * 5 < len(plain.data)


def test_a_foreign_digest_gets_the_present_file_but_is_not_kept(client):
    answer = client.get("/assets/0123456789abcdef/yangfan.css")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name",
    [
        "nothing.css",
        "../assets.py",
        "%2e%2e/assets.py",
        "marketplace/../assets.py",
        "kernel/../../pyproject.toml",
        "node_modules/htmx.org/package.json",
        "htmx.org/dist/htmx.js",
        "tests/../package.json",
        "/etc/passwd",
        "yangfan.css%00",
        "x" * 5000 + ".css",
    ],
)
def test_nothing_else_can_be_reached(client, name):
    assert client.get(f"/assets/x/{name}", follow_redirects=True).status_code == 404
    assert assets.load(name) is None


def test_another_packages_static_file_is_served_without_being_registered(tmp_path):
    script = tmp_path / "connectors" / "static" / "lab.js"
    script.parent.mkdir(parents=True)
    script.write_text("1")
    first = assets.load("connectors/lab.js", tmp_path)
    script.write_text("22")
    second = assets.load("connectors/lab.js", tmp_path)
    assert (first.body, second.body) == (b"1", b"22")
    assert first.digest != second.digest
    assert assets.load("stranger/lab.js", tmp_path) is None


def test_a_link_out_of_the_static_folder_is_not_followed(tmp_path):
    static = tmp_path / "webhooks" / "static"
    static.mkdir(parents=True)
    (tmp_path / "secret.js").write_text("secret")
    (static / "out.js").symlink_to(tmp_path / "secret.js")
    assert assets.load("webhooks/out.js", tmp_path) is None


def test_without_node_modules_the_start_says_what_to_run(tmp_path):
    with pytest.raises(assets.AssetsMissingError, match="make setup"):
        assets.check_installed(tmp_path)


def test_a_template_that_names_no_asset_fails_loudly(client):
    with client.application.test_request_context(), pytest.raises(LookupError, match=r"nope\.css"):
        assets.asset_url("nope.css")


def test_the_sprite_holds_every_icon_without_the_bounding_box():
    sprite = assets.load(assets.SPRITE).body.decode()
    assert set(re.findall(r'<symbol id="([^"]+)"', sprite)) == assets.ICONS
    assert "M0 0h24v24H0z" not in sprite
    assert 'id="star-filled" viewBox="0 0 24 24" fill="currentColor"' in sprite


def test_templates_and_the_side_bar_use_icons_of_the_sprite_only():
    used = {}
    for template in HOUSE.glob("*/templates/**/*.html"):
        for name in re.findall(
            r"""icon(?:_name)?(?:\(|=)\s*["']([^"']+)["']""", template.read_text("utf-8")
        ):
            used.setdefault(name, template.name)
    used |= {door.icon: door.href for hall in HALLS for door in hall.doors}
    assert len(used) > 30
    assert {name: page for name, page in used.items() if name not in assets.ICONS} == {}


def test_shown_json_keeps_chinese_order_and_exact_numbers():
    from decimal import Decimal

    text = assets.indented({"单号": "A<1>", "amount": Decimal("129.90"), "a": 10**20})
    assert text == '{\n  "单号": "A<1>",\n  "amount": 129.90,\n  "a": 100000000000000000000\n}'
    assert assets.indented(b'{"raw": "\xe5\xb8\x86"}') == '{"raw": "帆"}'


def test_the_npm_lock_is_exact_and_names_no_registry():
    wanted = json.loads((HOUSE / "package.json").read_text())
    for version in {**wanted["dependencies"], **wanted["devDependencies"]}.values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    lock = json.loads((HOUSE / "package-lock.json").read_text())
    packages = [entry for path, entry in lock["packages"].items() if path]
    assert all(entry["integrity"].startswith("sha512-") for entry in packages)
    assert not any("resolved" in entry or entry.get("hasInstallScript") for entry in packages)
