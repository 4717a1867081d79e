"""Never twice: a number of ours in the body, or a look before; and bodies of every kind."""

import json

import pytest
from factories import apps
from factories.connectors import make_flow, runs, settle, start_runs, steps
from factories.connectors import ready as seen
from factories.identity import make_organization
from factories.webhooks import make_event
from hypothesis import given
from hypothesis import strategies as st

from connectors import claims, connections, lanes, recovery
from connectors.engine import check, keys, requests
from connectors.engine.auth import CannotBuild
from connectors.engine.connector import ConnectionValues, KeyField
from kernel import clock, documents
from kernel.database import EVERY, transaction
from webhooks.tables import Event

OPEN = """
auth: [{id: open, kind: none, title: {zh: 无, en: None}}]
http:
  base: "${settings.base_url}"
  retry: {ladder_seconds: [5, 30], jitter: 0}
  errors:
    - {when: {status: 5xx}, do: retry, class: down}
"""
BOOK = """
book:
  title: {zh: 记账, en: Book}
  effect: create
  input: {type: object}
  output: {type: object, required: [id]}
  request:
    method: POST
    path: /bills
    json: {order: "${input.order}", no: {optional: "${input.no}"}}
  idempotency: %s
  sample: {input: {order: A}, output: {id: "1"}}
find_bill:
  title: {zh: 查单, en: Find}
  effect: read
  input: {type: object, required: [no], properties: {no: {type: string}}}
  output: {type: object, properties: {bills: {type: array}}}
  request: {method: GET, path: /bills, query: {no: "${input.no}"}}
  sample: {input: {no: A}, output: {bills: []}}
"""
BY_FIELD = "{field: /no, max: 20, shape: alnum}"
BY_LOOK = """
    field: /no
    max: 20
    shape: alnum
    find:
      action: find_bill
      with: {no: "${effect_key}"}
      then: "${data.bills[0]}"
"""
HERE = ConnectionValues({"base_url": "https://api.made-up.example"}, "open")


class Books:
    """Takes every bill it is sent, even twice, and finds bills by number."""

    def __init__(self):
        self.bills: list[dict] = []
        self.silent = self.looks_fail = 0

    def __call__(self, call):
        if call.method == "GET":
            if self.looks_fail:
                self.looks_fail -= 1
                return 503, {}
            found = [one for one in self.bills if one["no"] == call.query["no"]]
            return 200, {"bills": found}
        made = {**call.json, "id": str(len(self.bills) + 1)}
        self.bills.append(made)
        if self.silent:
            self.silent -= 1
            return 200, None
        return 200, made


@pytest.fixture
def books():
    return Books()


@pytest.fixture
def shop(database, tmp_path, monkeypatch, books):
    """A flow that books each order with a vendor who cannot tell a repetition."""
    apps.in_library(monkeypatch, apps.connector(tmp_path, OPEN, BOOK % BY_LOOK))
    lanes._slice.clear()
    with apps.serve(books) as app:
        with transaction(EVERY) as session:
            owner = make_organization(session).id
            settings = {"base_url": app.url}
            one = connections.create(session, owner, "made-up", settings=settings).id
            step = {"key": "book", "kind": "action", "connector": "made-up", "connection": one}
            step |= {"action": "book", "input": {"order": "${event.data.order_no}"}}
            document = {"trigger": {"event": "order.paid", "version": None}, "steps": [step]}
            make_flow(session, owner, document)

        def order(number):
            with transaction(EVERY) as session:
                body = json.dumps({"order_no": f"SO-{number}"}).encode()
                event_id = make_event(session, owner, type="order.paid", body=body)
                session.flush()
                start_runs(session, [seen(session.get(Event, (owner, event_id)))])

        app.order, app.owner = order, owner
        yield app


def test_what_is_not_there_is_created_after_a_look(shop, books):
    for number in range(6):
        shop.order(number)
    settle()
    assert {run.state for run in runs()} == {"succeeded"}
    assert sorted(one["order"] for one in books.bills) == [f"SO-{n}" for n in range(6)]
    assert len({one["no"] for one in books.bills}) == 6
    methods = [call.method for call in shop.calls]
    assert methods.count("GET") == methods.count("POST") == 6


def test_a_lost_answer_is_looked_up_and_not_repeated(shop, books):
    books.silent = 1
    shop.order(1)
    settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("waiting", "down")
    with clock.shifted(seconds=10):
        settle()
    (run,) = runs()
    assert run.state == "succeeded"
    assert len(books.bills) == 1
    assert steps(run.id)[0].output["id"] == "1"


def test_a_crash_after_sending_is_looked_up_and_not_repeated(shop, books, monkeypatch):
    class Killed(BaseException):
        pass

    def land(self, patience_seconds):
        real(self, 5)
        raise Killed

    shop.order(1)
    real = lanes.Flight.land
    monkeypatch.setattr(lanes.Flight, "land", land)
    with pytest.raises(Killed):
        settle("doomed")
    monkeypatch.setattr(lanes.Flight, "land", real)
    assert len(books.bills) == 1
    with clock.shifted(seconds=claims.LEASE_SECONDS + 1):
        settle()
    assert [run.state for run in runs()] == ["succeeded"]
    assert len(books.bills) == 1


def test_a_look_that_fails_creates_nothing(shop, books):
    books.looks_fail = 1
    shop.order(1)
    settle()
    assert [(run.state, run.cause) for run in runs()] == [("waiting", "down")]
    assert books.bills == []
    with clock.shifted(seconds=10):
        settle()
    assert len(books.bills) == 1


def test_a_person_may_ask_for_it_once_more(shop, books):
    shop.order(1)
    books.looks_fail = 9
    settle()
    for seconds in (10, 60, 120):
        with clock.shifted(seconds=seconds):
            settle()
    (run,) = runs()
    assert (run.state, run.cause) == ("parked", "down")
    books.looks_fail = 0
    with transaction(EVERY) as session:
        recovery.replay_step(session, shop.owner, run.id)
    settle()
    assert len(books.bills) == 1


def test_the_key_goes_into_the_body_unless_the_input_brought_one(tmp_path):
    made = apps.connector(tmp_path, OPEN, BOOK % BY_FIELD)
    key = "eff_" + "0123456789abcdef" * 3
    sent = requests.build(made, "book", {"order": "A"}, HERE, key)
    number = documents.parse(sent.body)["no"]
    assert len(number) == 20
    assert number.isalnum()
    assert sent.may_repeat
    again = requests.build(made, "book", {"order": "A"}, HERE, key)
    assert again.body == sent.body
    given = requests.build(made, "book", {"order": "A", "no": "MINE-1"}, HERE, key)
    assert documents.parse(given.body)["no"] == "MINE-1"


def test_an_input_is_never_changed_by_the_key(tmp_path):
    body = BOOK.replace('json: {order: "${input.order}", no: {optional: "${input.no}"}}',
                        'json: "${input}"')  # fmt: skip
    made = apps.connector(tmp_path, OPEN, body % "{field: /deep/no}")
    given = {"order": "A", "deep": {"x": 1}}
    sent = requests.build(made, "book", given, HERE, "eff_1")
    assert documents.parse(sent.body)["deep"] == {"x": 1, "no": "eff_1"}
    assert given == {"order": "A", "deep": {"x": 1}}
    with pytest.raises(CannotBuild):
        requests.build(made, "book", {"order": "A", "deep": "text"}, HERE, "eff_1")


@given(st.text(min_size=1, max_size=80), st.integers(8, 64))
def test_keys_fit_their_field_and_stay_the_same(effect_key, most):
    for shape in ("text", "alnum", "digits"):
        field = KeyField("/no", most, shape)
        made = keys.shaped(effect_key, field)
        assert made == keys.shaped(effect_key, field)
        assert len(made) <= most
        if shape == "digits":
            assert made.isdecimal()
        if shape == "alnum" and made:
            assert made.isascii()
            assert made.isalnum()


def test_one_that_looks_first_is_not_sent_again_by_the_wire(tmp_path):
    made = apps.connector(tmp_path, OPEN, BOOK % BY_LOOK)
    assert made.finds
    assert made.actions["book"].is_idempotent
    assert not requests.build(made, "book", {"order": "A"}, HERE, "eff_1").may_repeat


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ('{find: {action: book, then: "${data}"}}', "book"),
        ('{find: {action: nothing, then: "${data}"}}', "nothing"),
        ('{find: {action: find_bill, with: {}, then: "${data}"}}', "no"),
        ('{find: {action: find_bill, with: {no: "${effect_key}"}, then: "${body.x}"}}', "body"),
    ],
)
def test_a_look_that_cannot_work_is_told_when_it_is_saved(tmp_path, how, words):
    made = apps.connector(tmp_path, OPEN, BOOK % how)
    found = check.c01_manifest(folder(made, tmp_path))
    assert any(words in one.say["en"] for one in found), found


def folder(made, tmp_path):
    from connectors.engine import loader

    found = object.__new__(check.Folder)
    found.path, found.connector = tmp_path / "made-up", made
    found.manifest = loader.read_manifest(found.path)
    return found


BODY = """
send:
  title: {zh: 发, en: Send}
  effect: read
  input: {type: object}
  output: {}
  request: {method: POST, path: /x, %s}
  sample: {input: {}, output: {}}
"""


def test_forms_are_written_as_forms(tmp_path):
    body = 'form: {name: "${input.name}", biz: "${json(input.biz)}", tags: "${input.tags}"'
    body += ', n: {optional: "${input.none}"}}'
    made = apps.connector(tmp_path, OPEN, BODY % body)
    given = {"name": "a b&=中", "biz": {"q": "12.50", "n": 9007199254740993}, "tags": ["1", "2"]}
    sent = requests.build(made, "send", given, HERE, "k")
    assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert sent.body.startswith(b"name=a+b%26%3D%E4%B8%AD&biz=%7B%22q%22")
    assert apps.Call("", "", {}, {}, sent.body).form["biz"] == '{"q":"12.50","n":9007199254740993}'
    assert sent.body.endswith(b"tags=1&tags=2")


def test_a_form_takes_no_objects(tmp_path):
    made = apps.connector(tmp_path, OPEN, BODY % 'form: {biz: "${input.biz}"}')
    with pytest.raises(CannotBuild) as refused:
        requests.build(made, "send", {"biz": {"a": 1}}, HERE, "k")
    assert refused.value.cause == "data"


def test_a_raw_body_is_sent_as_it_is_written(tmp_path):
    body = 'raw: {text: "<x>${input.name}</x>", type: application/xml}'
    made = apps.connector(tmp_path, OPEN, BODY % body)
    sent = requests.build(made, "send", {"name": "中"}, HERE, "k")
    assert (sent.body, sent.headers["Content-Type"]) == ("<x>中</x>".encode(), "application/xml")


def test_only_one_kind_of_body(tmp_path):
    from connectors.engine import loader

    with pytest.raises(loader.Unfit):
        apps.connector(tmp_path, OPEN, BODY % "form: {a: b}, json: {a: b}")
