"""Answers: envelopes, ordered rules, ladders, and the outcome nobody knows."""

from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import pytest

from connectors.engine import answers, loader
from connectors.engine.connector import ErrorRule
from kernel import clock, documents
from kernel.http import Failure, Response

ERP = loader.find("demo-erp")
CHAT = loader.find("demo-chat")
GITHUB = loader.find("github")
SHOP = loader.find("demo-shop")


def response(status, body=None, **headers):
    raw = body if isinstance(body, bytes) else documents.dump(body) if body is not None else b""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, raw, truncated=False, elapsed_ms=3)


def erp(status, body=None, attempt=1, **headers):
    return answers.read(ERP, "create_sales_order", response(status, body, **headers), attempt)


def failure(connector, action, kind):
    return answers.read(connector, action, Failure(kind, "x"))


def test_http_200_is_not_success():
    chat = answers.read(CHAT, "post_message", response(200, {"ok": False, "error": "no_text"}))
    assert (chat.kind, chat.cause, chat.detail) == ("fail", "data", "no_text")
    assert erp(200, {"code": 7, "message": "故障"}).kind == "fail"
    assert erp(200, {"code": "0", "data": {}}).kind == "fail"
    assert erp(200, b"<html>Log in</html>").kind == "fail"
    assert erp(204).kind == "fail"


def test_the_first_rule_that_matches_wins():
    closed = erp(422, {"code": "PERIOD_CLOSED", "message": "m"})
    assert (closed.kind, closed.cause) == ("fail", "data")
    assert "账期已关闭" in closed.say["zh"]
    both = (
        ErrorRule({"status": 422}, "retry", "down", None, None),
        *ERP.actions["create_sales_order"].errors,
    )
    action = replace(ERP.actions["create_sales_order"], errors=both)
    first = replace(ERP, actions={"create_sales_order": action})
    answer = answers.read(first, "create_sales_order", response(422, {"code": "PERIOD_CLOSED"}))
    assert answer.kind == "retry"


@pytest.mark.parametrize(
    ("when", "status", "body", "matches"),
    [
        ({"status": "4xx"}, 418, {}, True),
        ({"status": "4xx"}, 518, {}, False),
        ({"status": [418, 429]}, 418, {}, True),
        ({"body.code": 40014}, 418, {"code": "40014"}, True),
        ({"body.code": [40014, 42001]}, 418, {"code": 42001}, True),
        ({"body.code": 40014}, 418, {}, False),
        ({"body.error.kind": "x"}, 418, {"error": {"kind": "x"}}, True),
        ({"body.errors[0].code": "x"}, 418, {"errors": [{"code": "x"}]}, True),
        ({"body.code": None}, 418, {}, True),
        ({"body.list": "x"}, 418, {"list": ["x"]}, False),
        ({"header.X-Reason": "quota"}, 418, {}, True),
        ({"test": "${size(body.items) > 1}"}, 418, {"items": [1, 2]}, True),
        ({"test": "${size(body.items) > 1}"}, 418, {}, False),
        ({"status": 418, "body.code": "x"}, 418, {"code": "y"}, False),
    ],
)
def test_what_a_rule_may_look_at(when, status, body, matches):
    rule = ErrorRule(when, "fail", "limit", {"zh": "额度用完", "en": "quota"}, None)
    action = replace(SHOP.actions["get_order"], errors=(rule,))
    shop = replace(SHOP, actions={"get_order": action})
    answer = answers.read(shop, "get_order", response(status, body, x_reason="quota"))
    assert (answer.cause == "limit") is matches


@pytest.mark.parametrize(
    ("status", "kind", "cause"),
    [
        (400, "fail", "data"),
        (401, "reauth", "auth"),
        (403, "fail", "auth"),
        (404, "fail", "data"),
        (405, "fail", "config"),
        (408, "retry", "down"),
        (425, "retry", "down"),
        (429, "retry", "limit"),
        (301, "fail", "config"),
        (500, "retry", "down"),
        (503, "retry", "down"),
    ],
)
def test_statuses_nobody_wrote_a_rule_for(status, kind, cause):
    action = replace(SHOP.actions["get_order"], errors=())
    shop = replace(SHOP, actions={"get_order": action})
    answer = answers.read(shop, "get_order", response(status, {"message": "m"}))
    assert (answer.kind, answer.cause, answer.detail) == (kind, cause, "m")
    assert answer.say["zh"]


def test_the_ladder_ends_and_asks_for_a_person():
    waits = [erp(503, attempt=number).after_seconds for number in range(1, 7)]
    ladder = ERP.http.ladder_seconds
    assert all(step <= wait <= step * 1.2 + 1 for step, wait in zip(ladder, waits, strict=True))
    last = erp(503, attempt=7)
    assert (last.kind, last.cause, last.after_seconds) == ("fail", "down", None)


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ("120", 120, 120),
        ("0", 5, 7),
        ("-5", 5, 7),
        ("soon", 5, 7),
        ("", 5, 7),
        ("9" * 30, 86_400, 86_400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 5, 7),
    ],
)
def test_retry_after_is_honoured_within_a_day(given, least, most):
    answer = erp(429, {"code": "TOO_MANY"}, retry_after=given)
    assert least <= answer.after_seconds <= most


def test_retry_after_may_be_a_date():
    later = format_datetime(clock.now() + timedelta(minutes=5), usegmt=True)
    assert 290 <= erp(429, {}, retry_after=later).after_seconds <= 300


def test_an_outcome_nobody_knows_is_never_sent_again_blindly():
    for kind in ("timeout", "protocol", "too_large"):
        answer = failure(GITHUB, "create_issue", kind)
        assert (answer.kind, answer.cause) == ("fail", "unknown")
    assert answers.read(GITHUB, "create_issue", response(500)).cause == "unknown"
    assert answers.read(GITHUB, "create_issue", response(502)).kind == "retry"
    for kind in ("dns", "connect", "tls"):
        assert failure(GITHUB, "create_issue", kind).kind == "retry"


def test_an_idempotent_action_is_repeated_after_a_timeout():
    assert failure(ERP, "create_sales_order", "timeout").kind == "retry"
    assert failure(ERP, "get_stock", "protocol").kind == "retry"


@pytest.mark.parametrize("kind", ["refused_address", "invalid_request"])
def test_an_address_we_refuse_is_a_matter_of_configuration(kind):
    answer = failure(ERP, "create_sales_order", kind)
    assert (answer.kind, answer.cause) == ("fail", "config")


def test_a_read_that_answers_something_else_fails_but_a_write_that_worked_is_not_repeated():
    odd = {"code": 0, "data": {"unexpected": 1}}
    read = answers.read(ERP, "get_stock", response(200, odd))
    assert (read.kind, read.cause) == ("fail", "config")
    write = erp(201, odd)
    assert (write.kind, write.output) == ("ok", {"unexpected": 1})
    assert "document_no" in write.detail


def test_a_duplicate_the_app_reports_is_success():
    answer = erp(409, {"code": "DUPLICATE", "data": {"document_no": "XS-1", "status": "booked"}})
    assert (answer.kind, answer.is_duplicate) == ("ok", True)
    assert answer.output["document_no"] == "XS-1"


def test_what_is_already_gone_counts_as_removed():
    gone = answers.read_lifecycle(SHOP, "unsubscribe", response(404, {"code": "NO_SUBSCRIPTION"}))
    assert (gone.kind, gone.is_duplicate) == ("ok", True)
    down = answers.read_lifecycle(SHOP, "unsubscribe", response(503))
    assert down.kind == "retry"


def test_an_install_that_answers_without_a_key_fails():
    answer = answers.read_lifecycle(SHOP, "install", response(200, {"account": "x"}))
    assert (answer.kind, answer.cause) == ("fail", "config")


def test_details_are_cut_and_long_ids_survive():
    answer = answers.read(GITHUB, "create_issue", response(422, {"message": "x" * 5000}))
    assert len(answer.detail) == 500
    body = b'{"id": 12345678901234567890, "number": 1, "html_url": "https://x"}'
    made = answers.read(GITHUB, "create_issue", response(201, body))
    assert made.output["id"] == 12345678901234567890
