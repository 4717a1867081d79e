"""Makes the smallest rows of the catalogue."""

import json

import yaml

from catalog import apps, listings, releases
from catalog.tables import App, Vendor

MANIFEST = {
    "schema_version": 1,
    "id": "acme-desk",
    "version": "1.0.0",
    "name": {"zh": "小帮手", "en": "Acme Desk"},
    "tagline": {"zh": "一个台子接所有消息", "en": "One desk for every message"},
    "description": {
        "zh": "把各渠道的消息收进一个台子。",
        "en": "Gathers every channel on one desk.",
    },
    "slots": ["marketing"],
    "sub_scenarios": ["marketing.service"],
    "layer": "low_threshold",
    "licence": {"kind": "proprietary"},
    "deployment": ["docker"],
    "plans": [
        {
            "id": "standard",
            "name": {"zh": "标准版", "en": "Standard"},
            "price_fen": 9900,
            "period": "month",
        }
    ],
    "scopes": [
        {
            "id": "events:read",
            "reason": {"zh": "读取消息", "en": "Reads messages"},
            "sensitivity": "low",
        }
    ],
    "data_table": [
        {
            "object": {"zh": "消息", "en": "Messages"},
            "access": "read",
            "reason": {"zh": "显示", "en": "Shows them"},
            "sensitivity": "low",
            "region": {"zh": "中国大陆", "en": "Mainland China"},
            "retention_days": 30,
        }
    ],
    "exports": ["csv"],
    "support": {"email": "help@example.com"},
    "changelog": {"zh": "第一版", "en": "First version"},
}


def manifest(**over):
    """A complete manifest as a document; `over` replaces whole fields."""
    return {**MANIFEST, **over}


def manifest_text(**over) -> str:
    """A complete manifest as YAML."""
    # through JSON, so that repeated parts are written out instead of becoming YAML aliases
    plain = json.loads(json.dumps(manifest(**over)))
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False)


def make_vendor(session, **over) -> Vendor:
    """A verified vendor; name its organization with organization_id=…"""
    values = {"key": "acme", "name": {"zh": "艾克美", "en": "Acme"}, "state": "verified", **over}
    vendor = Vendor(**values)
    session.add(vendor)
    session.flush()
    return vendor


def make_app(session, vendor=None, *, tagline=None, **over) -> App:
    """An app on the shelf, without a release."""
    vendor = vendor or make_vendor(session, key=f"vendor-of-{over.get('key', 'app')}")
    values = {
        "key": "app",
        "name": {"zh": "应用", "en": "App"},
        "layer": "cloud",
        "slots": ["marketing"],
        "sub_scenarios": ["marketing.crm"],
        "facts": {"licence": {"kind": "open-source"}, "deployment": ["docker"]},
        **over,
    }
    app = App(vendor_id=vendor.id, **values)
    session.add(app)
    session.flush()
    session.add(listings.put(session, app, tagline=tagline or {"zh": "一句话", "en": "A line"}))
    session.flush()
    return app


def publish(session, vendor, **over):
    """A release that went all the way to the shelf; returns it."""
    release = releases.submit(session, vendor, manifest_text(**over), "usr_vendor")
    releases.approve(session, release.id, None, "usr_operator")
    releases.publish(session, release.id)
    session.flush()
    assert apps.by_key(session, release.manifest["id"]).id == release.app_id
    return release
