"""The edge: bodies in, problems out, languages, cursors, OpenAPI."""

import json
from decimal import Decimal

import pytest
from flask import Flask
from pydantic import BaseModel, Field

from identity.tables import AuditEntry
from kernel import clock, ids, web
from kernel.database import EVERY, StoreUnavailable, reading, transaction
from kernel.errors import Conflict, Malformed, NotFound, TooMany


class ThingIn(BaseModel):
    name: str = Field(min_length=2)
    price: Decimal = Decimal("0")


class ThingOut(BaseModel):
    id: str
    name: str


@pytest.fixture
def small():
    app = Flask("small")
    web.install_problems(app)
    web.install_languages(app, [])

    @app.post("/api/v1/things/<place>")
    @web.operation(summary="Make a thing", body=ThingIn, returns=ThingOut, status=201)
    def make(place, body):
        return {"id": place, "name": body.name}

    @app.get("/api/v1/things")
    @web.operation(summary="List things", returns=ThingOut, many=True)
    def listing():
        return [{"id": "a", "name": "A"}]

    @app.get("/api/v1/raise/<kind>")
    def fail(kind):
        raise {
            "conflict": Conflict(detail="%(name)s is taken", name="Li"),
            "busy": TooMany(retry_after_seconds=7),
            "away": StoreUnavailable(),
            "crash": ZeroDivisionError("secret detail"),
            "gone": NotFound(),
        }[kind]

    return app.test_client()


def test_a_body_is_validated_and_the_result_shaped(small):
    answer = small.post("/api/v1/things/x", json={"name": "Sail"})
    assert (answer.status_code, answer.json) == (201, {"id": "x", "name": "Sail"})
    assert small.get("/api/v1/things").json == {
        "items": [{"id": "a", "name": "A"}],
        "next_cursor": None,
    }


def test_wrong_values_come_with_pointers(small):
    answer = small.post("/api/v1/things/x", json={"name": "S", "price": "much"})
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"
    assert sorted(e["pointer"] for e in answer.json["errors"]) == ["/name", "/price"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[" * 1000 + b"]" * 1000, "application/json", 400),
        (b'{"name": "\xff\xfe"}', "application/json", 400),
        ('{"name": "扬帆"}'.encode("utf-16"), "application/json", 400),
        (b'{"name": "' + b"x" * (1 << 20) + b'"}', "application/json", 413),
        (b"name=x", "application/x-www-form-urlencoded", 415),
        (b'["a"]', "application/json", 422),
    ],
)
def test_bad_bodies_get_a_clear_refusal(small, body, kind, status):
    answer = small.post("/api/v1/things/x", data=body, content_type=kind)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert answer.json["title"]
    assert answer.json["trace_id"].startswith("trc_")


def test_problems_have_a_status_a_code_and_filled_in_words(small):
    answer = small.get("/api/v1/raise/conflict", headers={"Accept-Language": "en"})
    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert answer.json["detail"] == "Li is taken"
    assert small.get("/api/v1/raise/gone").status_code == 404
    assert small.get("/api/v1/nowhere").status_code == 404


def test_a_refusal_says_when_to_come_back(small):
    assert small.get("/api/v1/raise/busy").headers["Retry-After"] == "7"
    away = small.get("/api/v1/raise/away")
    assert (away.status_code, away.headers["Retry-After"]) == (503, "5")


def test_a_crash_shows_a_trace_id_and_nothing_else(small):
    answer = small.get("/api/v1/raise/crash")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert answer.json["trace_id"]


@pytest.mark.parametrize(
    ("query", "cookie", "header", "language"),
    [
        ("", None, None, "zh"),
        ("", None, "en-GB,en;q=0.9", "en"),
        ("", None, "fr", "zh"),
        ("", "en", "zh-CN", "en"),
        ("?lang=zh", "en", "en", "zh"),
        ("?lang=xx", None, None, "zh"),
    ],
)
def test_the_language_is_the_addresss_then_the_cookies_then_the_browsers(
    query, cookie, header, language
):
    app = Flask("small")
    headers = {"Accept-Language": header} if header else {}
    if cookie:
        headers["Cookie"] = f"yf_lang={cookie}"
    with app.test_request_context(f"/{query}", headers=headers):
        assert web.current_language() == language
        assert web.localized({"zh": "帆", "en": "sail"}) == {"zh": "帆", "en": "sail"}[language]
        assert web.localized({"en": "only"}) == "only"


def test_the_openapi_document_describes_every_operation(small):
    document = web.openapi(small.application, "1")
    assert set(document["paths"]) == {"/api/v1/things", "/api/v1/things/{place}"}
    posted = document["paths"]["/api/v1/things/{place}"]["post"]
    assert posted["parameters"][0]["name"] == "place"
    assert "ThingIn" in json.dumps(posted["requestBody"])
    assert document["components"]["schemas"]["ThingIn"]["properties"]["name"]["minLength"] == 2


def test_cursor_pages_walk_through_everything_once(database):
    with transaction(EVERY) as session:
        session.add_all(
            AuditEntry(
                organization_id="org_1",
                id=ids.new_id("aud"),
                action=f"n{n}",
                actor_kind="member",
                actor_id="m",
                actor_name="m",
                at=clock.now(),
            )
            for n in range(25)
        )
    seen, cursor = [], None
    with reading("org_1") as session:
        while True:
            page = web.page_of(
                session, AuditEntry.of("org_1"), AuditEntry.id, cursor=cursor, limit=10
            )
            seen += [row.action for row in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [f"n{n}" for n in reversed(range(25))]
        with pytest.raises(Malformed):
            web.page_of(session, AuditEntry.of("org_1"), AuditEntry.id, cursor="%%%")
