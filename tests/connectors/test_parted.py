"""Steps of several requests in runs: kept between requests, taken up by whoever comes next."""

import json

import pytest
from factories.connectors import make_connection, make_flow, ready, runs, settle, start_runs, vendor
from factories.connectors import steps as steps_of
from factories.identity import make_organization
from factories.webhooks import make_event

from connectors import advance, parted, stepping
from kernel import clock
from kernel.database import EVERY, transaction
from webhooks.tables import Event


class Gitea:
    """Fifty issues a page, three pages."""

    def __init__(self, target):
        self.pages, self.trouble = [], {}
        target.answer = self.answer

    def answer(self, path, headers, body):
        page = int(path.rpartition("page=")[2].partition("&")[0])
        self.pages.append(page)
        if page in self.trouble:
            return self.trouble.pop(page)
        count = 50 if page < 3 else 7
        issue = {"title": "t", "state": "open", "html_url": "https://git.example.com/i"}
        return 200, [{**issue, "id": page * 100 + n, "number": n} for n in range(count)], {}


class Woo:
    """Sets stock; what it set, by request."""

    def __init__(self, target):
        self.sent, self.bad = [], {}
        target.answer = self.answer

    def answer(self, path, headers, body):
        self.sent.append([one["id"] for one in body["update"]])
        done = [
            {"id": one["id"], "error": self.bad[one["id"]]}
            if one["id"] in self.bad
            else {"id": one["id"], "sku": str(one["id"])}
            for one in body["update"]
        ]
        return 200, {"update": done}, {}


@pytest.fixture
def app():
    with vendor() as target:
        yield target


def begin(url, connector, action, given, fields, auth):
    with transaction(EVERY) as session:
        organization_id = make_organization(session).id
        connection = make_connection(
            session,
            organization_id,
            url,
            connector_key=connector,
            fields=fields,
            auth=auth,
            settings={"base_url": url},
        )
        step = {"key": "many", "kind": "action", "connector": connector, "action": action}
        document = {
            "trigger": {"event": "order.paid", "version": None},
            "steps": [{**step, "connection": connection.id, "input": given}],
        }
        make_flow(session, organization_id, document)
        body = json.dumps({"ids": list(range(1, 251))}).encode()
        event_id = make_event(session, organization_id, type="order.paid", body=body)
        session.flush()
        start_runs(session, [ready(session.get(Event, (organization_id, event_id)))])


def list_issues(url):
    given = {"owner": "yangfan", "repo": "demo"}
    begin(url, "gitea", "list_issues", given, {"key": "key-0123456789"}, "token")


STOCKS = {"products": {"each": "${event.data.ids}", "do": {"id": "${item}", "stock_quantity": 1}}}


def set_stocks(url):
    fields = {"username": "user", "password": "pass-0123456"}
    begin(url, "woocommerce", "set_stocks", STOCKS, fields, "key")


def only_step():
    (run,) = runs()
    return run, steps_of(run.id)[0]


def test_all_pages_come_in_one_go(database, app):
    gitea = Gitea(app)
    list_issues(app.url)
    settle()
    run, step = only_step()
    assert run.state == "succeeded", (run.cause, run.say, run.detail)
    assert gitea.pages == [1, 2, 3]
    assert len(step.output["issues"]) == 107


def test_another_worker_goes_on_with_the_page_after_the_last_that_was_kept(
    database, app, monkeypatch
):
    gitea = Gitea(app)
    list_issues(app.url)
    monkeypatch.setattr(parted, "STRETCH_SECONDS", 0)
    assert advance.advance("worker-1") == 1
    run, step = only_step()
    assert (run.state, gitea.pages) == ("due", [1])
    assert len(step.output[stepping.PARTS]["items"]) == 50
    monkeypatch.setattr(parted, "STRETCH_SECONDS", 8)
    settle("worker-2")
    run, step = only_step()
    assert (run.state, gitea.pages) == ("succeeded", [1, 2, 3])
    assert len({issue["id"] for issue in step.output["issues"]}) == 107


def test_a_page_that_fails_is_tried_again_without_those_before_it(database, app):
    gitea = Gitea(app)
    gitea.trouble[2] = (503, {"message": "busy"}, {})
    list_issues(app.url)
    settle()
    run, step = only_step()
    assert (run.state, run.cause) == ("waiting", "down")
    with clock.shifted(seconds=60):
        settle()
    run, step = only_step()
    assert (run.state, gitea.pages) == ("succeeded", [1, 2, 2, 3])
    assert len(step.output["issues"]) == 107


def test_many_items_go_in_a_few_requests(database, app):
    woo = Woo(app)
    set_stocks(app.url)
    settle()
    run, step = only_step()
    assert run.state == "succeeded", (run.cause, run.say, run.detail)
    assert [len(one) for one in woo.sent] == [100, 100, 50]
    assert [one["id"] for one in step.output["results"]] == list(range(1, 251))


def test_items_that_were_refused_park_the_run_and_are_all_that_is_sent_again(database, app):
    from connectors import recovery

    woo = Woo(app)
    woo.bad = {7: {"code": "woocommerce_rest_product_invalid_id", "message": "Invalid ID."}}
    set_stocks(app.url)
    settle()
    run, step = only_step()
    assert (run.state, run.cause) == ("parked", "data")
    assert "1 of 250 items" in run.say["en"]
    assert len(woo.sent) == 3
    woo.bad = {}
    with transaction(run.organization_id) as session:
        recovery.replay_step(session, run.organization_id, run.id)
    settle()
    run, step = only_step()
    assert run.state == "succeeded"
    assert woo.sent[3:] == [[7]]
    assert step.output["count"] == 250
