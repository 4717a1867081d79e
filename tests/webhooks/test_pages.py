"""Pages: every one draws in both languages, every button does what it says."""

import json
import subprocess

import pytest
from factories import identity
from factories import webhooks as make

from kernel import clock
from kernel.http import Response
from webhooks import drain, examples, intake, signing, sources
from webhooks.tables import Delivery, Endpoint, Event, Source

SAID = "<script>alert(1)</script>"


@pytest.fixture
def seat(client):
    return make.seat_of_integrator(client)


@pytest.fixture
def filled(seat):
    """An organization with a source, an endpoint, and events in several states."""

    def setup(session):
        source = make.make_source(session, seat, name=SAID)
        endpoint = make.make_endpoint(session, seat, description=SAID, event_types=["test.*"])
        good = make.make_event(session, seat, source.id, subject=SAID)
        problem = {"code": "rejected", "errors": [{"pointer": "/a", "message": SAID}]}
        bad = make.make_event(session, seat, source.id, type="order.paid", problem=problem)
        return source.id, endpoint.id, good, bad

    ids = make.in_transaction(setup)
    failed = Response(500, {"x": SAID}, SAID.encode(), truncated=False, elapsed_ms=3)
    drain.drain("w1", lambda requests: [failed] * len(requests))
    return ids


def post(client, path, **form):
    return client.post(path, data={"csrf_token": identity.csrf_of(client, "/sources"), **form})


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_draws_and_escapes(client, filled, language):
    source_id, endpoint_id, good, bad = filled
    (delivery,) = make.rows(Delivery)
    for path in (
        "/events", "/events?state=rejected&type=order.*", "/events?state=quarantined",
        f"/events/{good}", f"/events/{bad}", "/sources", "/sources/new",
        *(f"/sources/new?scheme={scheme}" for scheme in signing.SCHEMES),
        f"/sources/{source_id}", "/endpoints", "/endpoints/new", f"/endpoints/{endpoint_id}",
        f"/endpoints/{endpoint_id}?state=delivered", f"/deliveries/{delivery.id}",
    ):  # fmt: skip
        answer = client.get(path, query_string=None if "?" in path else {"lang": language})
        page = answer.get_data(as_text=True)
        assert answer.status_code == 200, path
        assert SAID not in page, path
        assert page.count("<h1") == 1, path


def test_empty_pages_say_what_to_do(client, seat):
    for path, link in (
        ("/events", "/sources/new"),
        ("/sources", "/sources/new"),
        ("/endpoints", "/endpoints/new"),
    ):
        assert f'href="{link}"' in client.get(path).get_data(as_text=True)


def test_a_source_is_opened_through_the_wizard(client, seat):
    form = {"scheme": "standard_webhooks", "name": "商城", "type_from": "fixed"}
    answer = post(client, "/sources", **form)
    assert answer.status_code == 422
    assert "商城" in answer.get_data(as_text=True)
    answer = post(client, "/sources", **form, type_value="shop.opened")
    (source,) = make.rows(Source)
    page = answer.get_data(as_text=True)
    assert sources.url_of(source) in page
    assert sources.secret_of(source) in page
    assert sources.secret_of(source) not in client.get(f"/sources/{source.id}").get_data(
        as_text=True
    )


def test_source_buttons(client, filled):
    source_id = filled[0]
    base = f"/sources/{source_id}"
    before = make.row(Source, source_id)
    old = sources.url_of(before), sources.secret_of(before)
    assert post(client, f"{base}/pause").status_code == 303
    assert make.row(Source, source_id).state == "paused"
    assert post(client, f"{base}/resume").status_code == 303
    assert old[1] in post(client, f"{base}/reveal").get_data(as_text=True)
    assert post(client, f"{base}/rotate-secret").status_code == 200
    assert post(client, f"{base}/rotate-token").status_code == 200
    now = make.row(Source, source_id)
    assert sources.url_of(now) != old[0]
    assert sources.secret_of(now) != old[1]
    assert post(client, f"{base}/unknown-types", unknown_types="reject").status_code == 303
    assert make.row(Source, source_id).unknown_types == "reject"


def test_event_and_delivery_buttons(client, filled):
    _, _, good, bad = filled
    assert post(client, f"/events/{good}/replay").status_code == 303
    assert make.row(Event, good).state == "new"
    assert post(client, f"/events/{good}/replay").status_code == 409
    answer = post(client, f"/events/{bad}/reconsider")
    assert answer.headers["location"].endswith("still_rejected")
    delivery = make.rows(Delivery)[0]
    assert post(client, f"/deliveries/{delivery.id}/cancel").status_code == 303
    assert make.row(Delivery, delivery.id).state == "cancelled"
    assert post(client, f"/deliveries/{delivery.id}/resend").status_code == 303
    assert make.row(Delivery, delivery.id).state == "due"


def test_endpoint_buttons(client, filled):
    endpoint_id = filled[1]
    base = f"/endpoints/{endpoint_id}"
    assert post(client, f"{base}/pause").status_code == 303
    assert make.row(Endpoint, endpoint_id).state == "paused"
    assert post(client, f"{base}/recover", hours="24").status_code in (404, 409)
    assert post(client, f"{base}/disable").status_code == 303
    assert post(client, f"{base}/resume").status_code == 303
    assert make.row(Endpoint, endpoint_id).state == "active"
    assert "whsec_" in post(client, f"{base}/reveal").get_data(as_text=True)
    assert post(client, f"{base}/rotate-secret").status_code == 200
    refused = post(client, f"{base}/change", url="http://127.0.0.1/x", event_types="a.b")
    assert refused.status_code == 422
    with make.sink() as target:
        changed = post(client, f"{base}/change", url=target.url, event_types="test.*\na.b")
        assert changed.status_code == 303
        assert post(client, f"{base}/test").status_code == 200
        assert json.loads(target.requests[0][2])["type"] == "endpoint.tested"
        assert post(client, f"{base}/recover", hours="24").status_code == 303
        drain.drain("w1")
        assert len(target.requests) == 2
    assert {d.state for d in make.rows(Delivery)} == {"delivered"}


def test_strangers_and_readers_get_nothing(app, client, filled):
    source_id, endpoint_id, good, _ = filled
    delivery = make.rows(Delivery)[0]
    stranger = app.test_client()
    make.in_transaction(
        lambda s: identity.sign_in(stranger, s, identity.make_member(s, role="owner"))
    )
    paths = [f"/sources/{source_id}", f"/endpoints/{endpoint_id}", f"/events/{good}"]
    paths.append(f"/deliveries/{delivery.id}")
    for path in paths:
        assert client.get(path).status_code == 200
        assert stranger.get(path).status_code == 404
        assert stranger.get(f"/api/v1{path}").status_code == 404
    plain = app.test_client()
    make.in_transaction(
        lambda s: identity.sign_in(plain, s, identity.make_member(s, role="member"))
    )
    for path in ("/sources", "/endpoints", "/events", *paths):
        assert plain.get(path).status_code == 403


@pytest.mark.parametrize(
    ("scheme", "options", "rules"),
    [
        ("standard_webhooks", {}, {}),
        ("github", {}, {"from": "header", "value": "X-GitHub-Event", "prefix": "github."}),
        ("hmac", {"header": "x-sig", "prefix": "sha256="}, {}),
        ("hmac", {"header": "x-sig", "encoding": "base64", "algorithm": "sha512"}, {}),
        (
            "hmac",
            {"header": "x-sig", "timestamp_header": "x-time"},
            {"from": "fixed", "value": "order.paid"},
        ),
        (
            "hmac",
            {"header": "x-sig", "style": "stripe"},
            {"from": "pointer", "value": "/event/name"},
        ),
        (
            "token",
            {"header": "authorization", "prefix": "Bearer "},
            {"from": "header", "value": "X-Event"},
        ),
        ("none", {}, {"from": "pointer", "value": "/topic", "data_pointer": "/payload/order"}),
    ],
)
def test_the_curl_example_is_sent_verified_and_accepted(client, seat, scheme, options, rules):
    """The lines people copy are run by a shell, and the source takes what they send."""
    source = make.in_transaction(
        lambda s: make.make_source(
            s,
            seat,
            scheme=scheme,
            scheme_options=options,
            rules=rules or None,
            unknown_types="reject",
        )
    )
    secret = sources.secret_of(source)
    with make.sink() as target:
        script = examples.curl(source, target.url, secret)
        subprocess.run(["bash", "-c", script], check=True, capture_output=True)
        ((_, headers, body),) = target.requests
    assert signing.verify(scheme, body, headers, [secret or ""], options, clock.now()), script
    token = sources.url_of(source).rpartition("/")[2]
    taken = intake.take_in(token, headers, lambda _most: body)
    assert (len(taken.accepted), taken.rejected) == (1, []), script
    expected = "github.ping" if scheme == "github" else "order.paid"
    assert [event.type for event in make.rows(Event)] == [expected]


def test_the_blank_after_bearer_is_kept(client, seat):
    post(client, "/sources", name="Form", scheme="token", header="authorization", prefix="Bearer ")
    (source,) = make.rows(Source)
    assert source.scheme_options["prefix"] == "Bearer "


@pytest.mark.parametrize(
    ("language", "said"), [("zh", "不开放端口 9999"), ("en", "port 9999 is not open")]
)
def test_a_refused_address_is_told_in_the_readers_language(client, seat, language, said):
    client.get(f"/endpoints/new?lang={language}")
    page = post(client, "/endpoints", url="https://erp.example.com:9999/in", event_types="*")
    assert page.status_code == 422
    assert said in page.get_data(as_text=True)


def test_a_new_sources_page_looks_for_its_first_event(client, seat):
    source = make.in_transaction(lambda s: make.make_source(s, seat))
    looking = f'hx-get="/sources/{source.id}" hx-select="#latest"'
    assert looking in client.get(f"/sources/{source.id}").get_data(as_text=True)
    make.in_transaction(lambda s: make.make_event(s, seat, source.id))
    assert looking not in client.get(f"/sources/{source.id}").get_data(as_text=True)


def test_pages_say_what_an_ordered_delivery_waits_for(client, seat):
    """The endpoint's page offers to skip what holds the others, theirs leads to it."""

    def setup(session):
        endpoint = make.make_endpoint(session, seat, ordering="endpoint")
        return endpoint.id, [make.make_event(session, seat) for _ in range(2)]

    endpoint_id, _ = make.in_transaction(setup)
    make.routed_by("w1")
    head, behind = make.rows(Delivery)
    make.in_transaction(
        lambda session: session.merge(head).sqlmodel_update({"state": "parked", "next_at": None})
    )
    page = client.get(f"/endpoints/{endpoint_id}").text
    assert f"/deliveries/{head.id}/cancel" in page
    assert f'href="/deliveries/{head.id}"' in client.get(f"/deliveries/{behind.id}").text
    token = identity.csrf_of(client, "/help")
    skipped = client.post(f"/deliveries/{head.id}/cancel", data={"csrf_token": token})
    assert skipped.status_code == 303
    assert make.row(Delivery, behind.id).state == "due"
    assert f"/deliveries/{head.id}/cancel" not in client.get(f"/endpoints/{endpoint_id}").text


def test_a_bulk_replay_has_a_page_that_tells_how_far_it_is_and_stops_it(client, filled):
    _, endpoint_id, *_ = filled
    token = identity.csrf_of(client, "/help")
    form = {"csrf_token": token, "bulk_hours": "24", "bulk_types": "test.*", "only_failed": "1"}
    started = client.post(f"/endpoints/{endpoint_id}/bulk-replays", data=form)
    assert started.status_code == 303
    path = started.headers["Location"].partition("?")[0]
    page = client.get(path).text
    assert 'hx-trigger="every 2s"' in page
    assert client.get(f"{path}/live").status_code == 200
    assert path in client.get(f"/endpoints/{endpoint_id}").text
    again = client.post(f"/endpoints/{endpoint_id}/bulk-replays", data=form)
    assert again.status_code == 409
    assert client.post(f"{path}/cancel", data={"csrf_token": token}).status_code == 303
    page = client.get(path).text
    assert "hx-trigger" not in page.partition('id="bulk-replay"')[2].partition(">")[0]
    assert client.post(f"{path}/cancel", data={"csrf_token": token}).status_code == 409
