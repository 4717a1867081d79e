"""The library against the apps' own kits: their clients call our stand-ins, their verifiers read
what the lab signs, and ours what they sign.
"""

import json
import time

import cloudevents.core.bindings.http as ce_http
import gitlab
import pydiscourse
import pytest
import redminelib
import stripe
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from slack_sdk.signature import SignatureVerifier

from connectors.engine import deliveries, fixtures, loader, requests, triggers
from connectors.lab import mock_vendor, vendor_signing
from kernel import clock
from webhooks import signing
from webhooks.errors import BadSignature
from webhooks.recipes import Refused, Surroundings
from webhooks.recipes.reading import Delivery, Given


@pytest.fixture
def lab(tmp_path):
    running = []

    def start(key):
        vendors = mock_vendor.serve([key], base_port=0, state_dir=tmp_path)
        running.append(vendors)
        return vendors.running[0]

    yield start
    for vendors in running:
        vendors.close()


def verify(key, trigger, headers, raw, secret):
    config = triggers.source_config(loader.find(key), trigger)
    lower = {name.lower(): value for name, value in headers.items()}
    options = config["scheme_options"]
    return signing.verify(config["scheme"], raw, lower, [secret], options, clock.now())


def signed_by_the_lab(key, trigger, secret):
    connector = loader.find(key)
    headers, raw = triggers.sample_delivery(connector, trigger)
    one = connector.triggers[trigger]
    return {**headers, **vendor_signing.seal(one, headers, raw, secret, clock.now())}, raw


def test_stripes_kit_reads_what_the_lab_signs_and_we_read_what_it_signs():
    headers, raw = signed_by_the_lab("stripe", "payment_succeeded", "whsec_example")
    event = stripe.Webhook.construct_event(raw, headers["stripe-signature"], "whsec_example")
    assert event["type"] == "payment_intent.succeeded"
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(raw, headers["stripe-signature"], "whsec_other")
    stamp = str(int(time.time()))
    proof = stripe.WebhookSignature._compute_signature(f"{stamp}.{raw.decode()}", "whsec_example")
    verify("stripe", "any", {"Stripe-Signature": f"t={stamp},v1={proof}"}, raw, "whsec_example")
    with pytest.raises(BadSignature):
        verify("stripe", "any", {"Stripe-Signature": f"t={stamp},v1={proof}"}, raw, "whsec_other")


def test_we_read_what_slacks_kit_signs():
    kit = SignatureVerifier("example-signing-secret")
    raw = b"command=%2Forder&text=SO-2026-1189&user_id=U1&trigger_id=1.2.3"
    [fired] = slack("slash_command", kit, raw, "example-signing-secret")
    assert (fired.type, fired.dedupe_key) == ("slack.slash_command", "1.2.3")
    assert fired.data["text"] == "SO-2026-1189"
    with pytest.raises(Refused):
        slack("slash_command", kit, raw, "another")
    raw = json.dumps({"type": "event_callback", "event_id": "Ev1", "event_time": 1795311000,
                      "event": {"type": "message", "text": "在吗"}}).encode()  # fmt: skip
    [fired] = slack("any", kit, raw, "example-signing-secret")
    assert (fired.type, fired.dedupe_key) == ("slack.message", "Ev1")


def slack(trigger, kit, raw, secret):
    stamp = str(int(time.time()))
    header = {
        "x-slack-request-timestamp": stamp,
        "x-slack-signature": kit.generate_signature(timestamp=stamp, body=raw),
    }
    delivery = Delivery("POST", "/in/example", b"", header, raw)
    given, around = Given({"signing_secret": secret}), Surroundings(clock.now())
    return deliveries.read(loader.find("slack").triggers[trigger], delivery, given, around)[0]


def test_gitlabs_client_works_with_the_stand_in(lab):
    vendor = lab("gitlab")
    with gitlab.Gitlab(vendor.url, private_token="example") as client:
        project = client.projects.get("yangfan/demo", lazy=True)
        made = project.issues.create({"title": "流程失败", "description": "请查看"})
        assert made.iid
        note = project.issues.get(13, lazy=True).notes.create({"body": "已修复"})
        assert note.id
        assert [one.iid for one in project.issues.list(state="opened", get_all=False)] == [13]
        vendor.app.behave({"mode": "unauthorized", "times": 1})
        with pytest.raises(gitlab.GitlabAuthenticationError):
            project.issues.get(13)
    with gitlab.Gitlab(vendor.url) as stranger, pytest.raises(gitlab.GitlabAuthenticationError):
        stranger.projects.get("yangfan/demo", lazy=True).issues.get(13)


def test_redmines_client_works_with_the_stand_in(lab):
    client = redminelib.Redmine(lab("redmine").url, key="example")
    issue = client.issue.get(13)
    assert (issue.subject, issue.status.name) == ("流程失败", "新建")
    # it creates issues at another of Redmine's addresses, which takes projects by number alone
    assert client.issue.update(13, status_id=3, notes="已修复")
    entry = client.time_entry.create(issue_id=13, hours="1.5", spent_on="2026-11-22")
    assert entry.id


def test_discourses_client_works_with_the_stand_in(lab):
    vendor = lab("discourse")
    client = pydiscourse.DiscourseClient(vendor.url, "bot", "example", timeout=5)
    topic = client._get("/t/412.json")
    assert topic["title"] == "轴承 6204 的保养周期"
    vendor.app.behave({"mode": "unauthorized", "times": 1})
    with pytest.raises(pydiscourse.exceptions.DiscourseClientError):
        client._get("/t/412.json")


def test_a_cloud_event_goes_there_and_back():
    connector = loader.find("cloudevents")
    fixture = next(
        one for one in fixtures.load(connector.folder)[0] if one.name == "send_event.ok.yaml"
    )
    built = requests.build(
        connector, "send_event", fixture.value["input"], fixtures.connection_of(fixture), "e"
    )
    message = ce_http.HTTPMessage(headers=dict(built.headers), body=built.body)
    event = ce_http.from_http_event(message, JSONFormat())
    assert event.get_type() == "order.paid"
    assert event.get_data()["order_no"] == "SO-2026-1189"
    sent = ce_http.to_structured_event(
        CloudEvent({"id": "A-1", "source": "/line", "type": "machine.state_changed",
                    "specversion": "1.0", "subject": "press-7"}, {"to": "running"}),
        JSONFormat(),
    )  # fmt: skip
    raw = sent.body if isinstance(sent.body, bytes) else sent.body.encode()
    [fired] = triggers.read(connector.triggers["signed"], dict(sent.headers), raw)
    assert (fired.type, fired.subject) == ("machine.state_changed", "press-7")
    assert fired.data == {"to": "running"}
    assert json.loads(raw)["id"] == "A-1"
