"""What an endpoint can be asked to do: kinds of signature, old secrets, headers, conditions."""

import base64
import json
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from factories import identity
from factories import webhooks as make
from standardwebhooks import Webhook

from kernel import clock, http
from kernel.errors import Conflict, Invalid
from webhooks import conditions, drain, endpoints, own_headers, parcels, replay, signing, trials
from webhooks.tables import Attempt, Delivery, Endpoint

pytestmark = pytest.mark.usefixtures("database")


def signed_request(endpoint, body=b'{"a":1}'):
    """The request that would go to the endpoint now."""
    parcel = trials.parcel(endpoint)
    return parcels.request_of(parcel, clock.now())


def checks_out(request, public_key: str) -> bool:
    """Tell whether one of the v1a signatures is right, with nothing of ours."""
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    head = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}."
    for one in request.headers["webhook-signature"].split(" "):
        version, _, signature = one.partition(",")
        try:
            if version == "v1a":
                key.verify(base64.b64decode(signature), head.encode() + request.body)
                return True
        except InvalidSignature:
            continue
    return False


def reads(request, secret: str) -> bool:
    """Tell whether the public library takes the request."""
    try:
        Webhook(secret).verify(request.body, dict(request.headers))
    except Exception:
        return False
    return True


def register(**over):
    return make.in_transaction(lambda s: make.make_endpoint(s, "org_a", **over))


def rotate(endpoint, **over):
    return make.in_transaction(lambda s: endpoints.rotate_secret(s, "org_a", endpoint.id, **over))


def test_a_key_pair_signs_so_that_its_public_half_alone_can_tell():
    endpoint = register(signature="ed25519")
    assert endpoint.public_key.startswith("whpk_")
    assert endpoints.secret_of(endpoint) is None
    assert "whsk_" not in endpoint.secret_sealed
    request = signed_request(endpoint)
    assert checks_out(request, endpoint.public_key)
    assert not checks_out(http.replace(request, body=b"{}"), endpoint.public_key)
    other = register(signature="ed25519")
    assert not checks_out(request, other.public_key)
    # what we send, we would take
    signing.verify(
        "standard_webhooks", request.body, request.headers, [endpoint.public_key], {}, clock.now()
    )


def test_the_public_key_is_the_same_in_both_spellings():
    secret = signing.new_private_key()
    public = signing.public_key_of(secret)
    pem = load_pem_public_key(signing.public_pem(public))
    assert pem.public_bytes_raw() == base64.b64decode(public.removeprefix("whpk_"))
    halves = base64.b64decode(secret.removeprefix("whsk_"))
    assert (len(halves), halves[32:]) == (64, pem.public_bytes_raw())


def test_switching_kinds_overlaps_and_ends():
    endpoint = register()
    old_secret = endpoints.secret_of(endpoint)
    endpoint = rotate(endpoint, signature="ed25519", overlap_hours=48)
    request = signed_request(endpoint)
    assert reads(request, old_secret)
    assert checks_out(request, endpoint.public_key)
    old_key = endpoint.public_key
    endpoint = rotate(endpoint, signature="hmac", overlap_hours=24)
    assert endpoint.public_key is None
    request = signed_request(endpoint)
    assert len(request.headers["webhook-signature"].split(" ")) == 3
    assert reads(request, old_secret)
    assert reads(request, endpoints.secret_of(endpoint))
    assert checks_out(request, old_key)
    with clock.shifted(seconds=25 * 3600):
        request = signed_request(endpoint)
        assert not checks_out(request, old_key)
        assert len(request.headers["webhook-signature"].split(" ")) == 2
    with clock.shifted(seconds=49 * 3600):
        assert len(signed_request(endpoint).headers["webhook-signature"].split(" ")) == 1


def test_a_secret_that_got_out_ends_at_once_with_all_old_ones():
    endpoint = register()
    secrets = [endpoints.secret_of(endpoint)]
    endpoint = rotate(endpoint)
    secrets.append(endpoints.secret_of(endpoint))
    endpoint = rotate(endpoint, overlap_hours=0)
    request = signed_request(endpoint)
    assert not any(reads(request, secret) for secret in secrets)
    assert reads(request, endpoints.secret_of(endpoint))


def test_ten_old_secrets_are_kept_and_an_eleventh_is_refused():
    endpoint = register()
    secrets = [endpoints.secret_of(endpoint)]
    for _ in range(10):
        endpoint = rotate(endpoint, overlap_hours=168)
        secrets.append(endpoints.secret_of(endpoint))
    request = signed_request(endpoint)
    assert all(reads(request, secret) for secret in secrets)
    with pytest.raises(Conflict):
        rotate(endpoint)
    assert reads(signed_request(make.row(Endpoint, endpoint.id)), secrets[-1])
    with clock.shifted(seconds=169 * 3600):
        assert len(rotate(endpoint).old_secrets) == 1
    with pytest.raises(Invalid):
        rotate(endpoint, overlap_hours=169)


OWN = [
    {"name": "X-Gateway-Token", "value": "s3cret-value", "is_secret": True},
    {"name": "X-Tenant", "value": "a", "is_secret": False},
]


def test_own_headers_go_along_and_secret_ones_are_seen_nowhere():
    with make.sink() as target:
        endpoint = register(url=target.url, headers=OWN)
        make.in_transaction(lambda s: make.make_event(s, "org_a"))
        drain.drain("w1")
        (_, headers, _) = target.requests[0]
    assert (headers["x-gateway-token"], headers["x-tenant"]) == ("s3cret-value", "a")
    assert headers["content-type"] == "application/cloudevents+json"
    (attempt,) = make.rows(Attempt)
    assert attempt.request_headers["X-Gateway-Token"] == own_headers.MASK
    assert attempt.request_headers["X-Tenant"] == "a"
    kept = json.dumps(make.row(Endpoint, endpoint.id).headers)
    assert "s3cret-value" not in kept
    assert "X-Gateway-Token" in kept


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Transfer-Encoding", "Connection", "TE", "Trailer", "Upgrade",
     "Keep-Alive", "Expect", "Proxy-Authorization", "webhook-id", "Webhook-Extra", "svix-id",
     "ce-id", "Content-Type", "User-Agent", "X Y", "X:Y", "", "X\r\nY", "naïve"],
)  # fmt: skip
def test_headers_of_the_message_itself_are_refused(name):
    with pytest.raises(Invalid) as refused:
        own_headers.to_rows([{"name": name, "value": "x"}], "org_a", "ep_1")
    assert refused.value.errors[0]["pointer"] == "/headers/0/name"


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "\x00", "ä", " x", "x ", "", None])
def test_values_that_break_a_request_are_refused(value):
    with pytest.raises(Invalid) as refused:
        own_headers.to_rows([{"name": "X-A", "value": value}], "org_a", "ep_1")
    assert refused.value.errors[0]["pointer"] == "/headers/0/value"


def test_what_may_be_saved_can_be_sent():
    """A header kernel.http refused would be our fault, and tried for days."""
    with make.sink() as target:
        names = [chr(code) for code in range(33, 127) if own_headers._NAME.fullmatch(chr(code))]
        rows = own_headers.to_rows(
            [{"name": f"X-{name}", "value": "!~ \"'"} for name in names[:20]], "org_a", "ep_1"
        )
        sent = own_headers.read_headers(rows, "org_a", "ep_1")
        assert http.send(http.Request("POST", target.url, sent)).status == 200


def test_at_most_twenty_headers_and_none_twice():
    many = [{"name": f"X-{number}", "value": "x"} for number in range(21)]
    assert len(own_headers.to_rows(many[:20], "org_a", "ep_1")) == 20
    for wanted in (many, [many[0], {"name": "x-0", "value": "y"}],
                   [{"name": f"X-{n}", "value": "x" * 2000} for n in range(5)]):  # fmt: skip
        with pytest.raises(Invalid):
            own_headers.to_rows(wanted, "org_a", "ep_1")


def test_a_sealed_header_opens_at_its_own_endpoint_alone():
    rows = own_headers.to_rows(OWN, "org_a", "ep_1")
    with pytest.raises(Exception, match=r"open|fit|decrypt"):
        own_headers.read_headers(rows, "org_a", "ep_2")


def order(session, total, **over):
    body = json.dumps({"total": total, "currency": "CNY"}).encode()
    return make.make_event(session, "org_a", type="order.seen", body=body, **over)


def sent_of(endpoint):
    return {d.event_id: d for d in make.rows(Delivery) if d.endpoint_id == endpoint.id}


def test_a_condition_lets_through_what_it_is_true_for(app):
    text = 'event.data.total > 100 && event.type == "order.seen" && event.subject == "s"'
    endpoint, all_of_it = register(condition=text), register()
    small, large = (
        make.in_transaction(lambda s, n=number: order(s, n, subject="s")) for number in (5, 500)
    )
    drain.drain("w1", lambda requests: [ok() for _ in requests])
    assert set(sent_of(all_of_it)) == {small, large}
    assert {i: d.state for i, d in sent_of(endpoint).items()} == {large: "delivered"}


def test_an_event_is_read_once_however_many_conditions_ask(app, monkeypatch):
    wanted = [register(condition=f"event.data.total > {number}") for number in range(5)]
    broken = [register(condition="event.data.missing > 1") for _ in range(2)]
    make.in_transaction(lambda s: [order(s, 50) for _ in range(3)])
    make.in_transaction(lambda s: make.make_event(s, "org_a", body=b"no json"))
    real, read = conditions.documents.parse, []

    def parse(raw, *more, **given):
        read.append(raw)
        return real(raw, *more, **given)

    monkeypatch.setattr(conditions, "documents", SimpleNamespace(parse=parse))
    drain.drain("w1", lambda requests: [ok() for _ in requests])
    assert len(read) == 4
    assert [len(sent_of(one)) for one in (*wanted, *broken)] == [4] * 7
    make.in_transaction(
        lambda s: replay.recover(s, "org_a", broken[0].id, clock.now() - timedelta(hours=1))
    )
    assert len(read) == 8


def ok():
    return http.Response(200, {}, b"", truncated=False, elapsed_ms=1)


def test_what_cannot_be_computed_is_set_aside_with_a_reason_and_can_be_sent(app):
    endpoint = register(condition="event.data.total > 100")
    event_id = make.in_transaction(lambda s: order(s, "many"))
    other_id = make.in_transaction(
        lambda s: make.make_event(s, "org_a", body=b"<a/>", content_type="application/xml")
    )
    drain.drain("w1", lambda requests: pytest.fail("nothing may be sent"))
    for one in (event_id, other_id):
        delivery = sent_of(endpoint)[one]
        assert (delivery.state, delivery.last_problem) == ("parked", "condition_failed")
    make.in_transaction(lambda s: replay.resend(s, "org_a", sent_of(endpoint)[event_id].id))
    drain.drain("w1", lambda requests: [ok() for _ in requests])
    assert sent_of(endpoint)[event_id].state == "delivered"


def test_a_condition_that_breaks_does_not_stop_the_batch(app, monkeypatch):
    def breaks(_text, _event):
        raise RecursionError

    monkeypatch.setattr(conditions, "LANGUAGES", [conditions.Language(lambda _: None, breaks)])
    broken, other = register(condition="anything"), register()
    make.in_transaction(lambda s: order(s, 5))
    drain.drain("w1", lambda requests: [ok() for _ in requests])
    assert [one.state for one in sent_of(broken).values()] == ["parked"]
    assert [one.state for one in sent_of(other).values()] == ["delivered"]


def test_sending_what_was_missed_asks_the_condition_too(app):
    ids = [make.in_transaction(lambda s, n=number: order(s, n)) for number in (5, 500)]
    drain.drain("w1")
    endpoint = register(condition="event.data.total > 100")
    since = clock.now() - timedelta(hours=1)
    make.in_transaction(lambda s: replay.recover(s, "org_a", endpoint.id, since))
    assert set(sent_of(endpoint)) == {ids[1]}


@pytest.mark.parametrize(
    "text", ["event.data.total >", "steps.x.y == 1", "event.nothing == 1", "import os", "a" * 2001]
)
def test_a_condition_that_cannot_work_is_refused_when_it_is_saved(app, text):
    with pytest.raises(Invalid) as refused:
        conditions.checked(text)
    (error,) = refused.value.errors
    assert error["pointer"] == "/condition"
    assert error["message"]


def test_an_empty_condition_is_none():
    assert conditions.checked("  ") is conditions.checked(None) is None


@pytest.fixture
def api(client):
    """JSON calls with an API key."""

    def setup(session):
        organization = identity.make_organization(session)
        return identity.make_api_key(session, organization, role="integrator")

    key = make.in_transaction(setup)

    def call(method, path, body=None):
        headers = {"Authorization": f"Bearer {key}"}
        return client.open(f"/api/v1{path}", method=method, json=body, headers=headers)

    return call


def test_all_of_it_over_json(api):
    with make.sink() as target:
        body = {
            "url": target.url, "event_types": ["*"], "signature": "ed25519", "headers": OWN,
            "condition": "event.data.total > 1",
        }  # fmt: skip
        made = api("POST", "/endpoints", body)
        assert made.status_code == 201, made.json
        path = f"/endpoints/{made.json['id']}"
        assert made.json["secret"] is None
        assert made.json["public_key"].startswith("whpk_")
        shown = api("GET", path).json
        assert shown["headers"][0] == {**OWN[0], "value": None}
        assert shown["headers"][1] == OWN[1]
        assert shown["condition"] == body["condition"]
        # a secret stays when it comes back without its value
        changed = api("PATCH", path, {"headers": shown["headers"], "condition": ""})
        assert (changed.status_code, changed.json["condition"]) == (200, None)
        assert api("POST", f"{path}/test").json["status"] == 200
        assert target.requests[-1][1]["x-gateway-token"] == "s3cret-value"
    rotated = api("POST", f"{path}/rotate-secret", {"signature": "hmac", "overlap_hours": 0})
    assert rotated.json["secret"].startswith("whsec_")
    assert api("POST", f"{path}/rotate-secret", {"overlap_hours": 169}).status_code == 422
    bad = api("PATCH", path, {"condition": "event.data.total >"})
    assert (bad.status_code, bad.json["errors"][0]["pointer"]) == (422, "/condition")
    bad = api("PATCH", path, {"headers": [{"name": "Host", "value": "x"}]})
    assert bad.json["errors"][0]["pointer"] == "/headers/0/name"


@pytest.fixture
def seat(client):
    return make.seat_of_integrator(client)


def post(client, path, **form):
    return client.post(path, data={"csrf_token": identity.csrf_of(client, "/sources"), **form})


def test_all_of_it_on_the_page(client, seat):
    endpoint = make.in_transaction(lambda s: make.make_endpoint(s, seat))
    base = f"/endpoints/{endpoint.id}"
    assert client.get(f"{base}/public-key.pem").status_code == 409
    assert post(client, f"{base}/rotate-secret", overlap_hours="1", signature="ed25519")
    kept = make.row(Endpoint, endpoint.id)
    (old,) = kept.old_secrets
    left = datetime.fromisoformat(old["until"]) - clock.now()
    assert timedelta(minutes=50) < left <= timedelta(hours=1)
    assert kept.public_key in client.get(base).get_data(as_text=True)
    pem = client.get(f"{base}/public-key.pem")
    assert pem.data == signing.public_pem(kept.public_key)
    added = post(client, f"{base}/headers", name="X-Key", value="hush-hush", is_secret="1")
    assert added.status_code == 303
    page = client.get(base).get_data(as_text=True)
    assert "X-Key" in page
    assert "hush-hush" not in page
    refused = post(client, f"{base}/headers", name="Host", value="other-secret", is_secret="1")
    assert refused.status_code == 422
    assert "other-secret" not in refused.get_data(as_text=True)
    assert post(client, f"{base}/headers/remove", name="x-key").status_code == 303
    assert make.row(Endpoint, endpoint.id).headers == []
    wrong = post(client, "/endpoints", url="http://93.184.216.34/", event_types="*",
                 condition="event.data.a >")  # fmt: skip
    assert wrong.status_code == 422
