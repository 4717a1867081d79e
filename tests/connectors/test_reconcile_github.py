"""Missing events of GitHub: its list of deliveries, read in any order, and what failed asked for.

The answers have the shapes of GitHub's reference: `GET …/hooks/{id}/deliveries` with a Link header,
`POST …/deliveries/{id}/attempts` with 202.
"""

import hmac
import json
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from factories.connectors import make_connection
from factories.identity import make_organization
from factories.webhooks import make_source, row, rows

from connectors import looking, reconcile_threads, reconcile_turns, reconciliations
from connectors.engine import loader, triggers
from connectors.errors import Unfit
from connectors.tables import Reconciliation
from kernel import clock, documents, http
from kernel.database import EVERY, reading, transaction
from kernel.errors import Conflict, NotFound
from kernel.http import Failure, Response
from webhooks import quotas, sources
from webhooks.tables import Event, Source

PLACE = {"owner": "yangfan-demo", "repo": "demo", "hook_id": "6001"}
HOOK = "/repos/yangfan-demo/demo/hooks/6001/deliveries"


class GitHub:
    """A repository's webhook, its deliveries and its API."""

    def __init__(self, client, owner, source_id, url, secret) -> None:
        self.client, self.owner, self.source = client, owner, source_id
        self.path, self.secret = urlsplit(url).path, secret
        self.deliveries: list[dict] = []
        self.bodies: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.answers: list[Response | Failure] = []
        self.ahead = timedelta(0)  # how far its clock is ahead of ours
        self.per_page = 100
        self.shuffles = False
        self.is_deaf = False  # takes the request to redeliver and does nothing
        self.calls: list[tuple[str, str, dict]] = []

    def now(self) -> datetime:
        return clock.now() + self.ahead

    def push(self, *, arrives: bool, age: timedelta = timedelta(0), status: int = 502) -> str:
        """Something is pushed; GitHub tries once to tell."""
        guid = f"0b989ba4-242f-11e5-81e1-{len(self.bodies):012d}"
        sample = loader.find("github").triggers["push"].sample["body"]
        self.bodies[guid] = documents.dump({**sample, "ref": f"refs/heads/{len(self.bodies)}"})
        taken = self.send(guid) if arrives else status
        self.note(guid, taken, self.now() - age)
        return guid

    def send(self, guid: str) -> int:
        """Post a delivery to the hub, signed as GitHub signs."""
        raw = self.bodies[guid]
        seal = hmac.digest(self.secret.encode(), raw, "sha256").hex()
        headers = {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/044aadd",
            "x-github-event": "push",
            "x-github-delivery": guid,
            "x-hub-signature-256": f"sha256={seal}",
        }
        return self.client.post(self.path, data=raw, headers=headers).status_code

    def note(self, guid: str, status: int, at: datetime, *, redelivery: bool = False) -> None:
        self.deliveries.append(
            {
                "id": 12345678 + len(self.deliveries),
                "guid": guid,
                "delivered_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "redelivery": redelivery,
                "duration": 0.27,
                "status": "OK" if status < 300 else f"Invalid HTTP Response: {status}",
                "status_code": status,
                "event": "push",
                "action": None,
                "installation_id": None,
                "repository_id": 901234567,
                "throttled_at": None,
            }
        )

    def serve(self, request: http.Request) -> Response | Failure:
        """Answer a call of the hub's."""
        parts = urlsplit(request.url)
        query = parse_qs(parts.query)
        self.calls.append((request.method, parts.path, query))
        assert (parts.scheme, parts.netloc) == ("https", "api.github.com")
        assert request.headers["Authorization"] == "Bearer ghp-example-0123456789"
        if self.answers:
            return self.answers.pop(0)
        if request.method == "POST":
            return self._redeliver(parts.path)
        if parts.path != HOOK:
            return self.answer(404, {"message": "Not Found", "status": "404"})
        newest = list(reversed(self.deliveries))
        if self.shuffles:
            random.Random(7).shuffle(newest)
        start = int(query["cursor"][0].removeprefix("v1_")) if "cursor" in query else 0
        page, end = newest[start : start + self.per_page], start + self.per_page
        address = f"https://api.github.com/repositories/1/hooks/6001/deliveries?cursor=v1_{end}"
        link = f'<{address}>; rel="next"'
        return self.answer(200, page, {"link": link} if end < len(newest) else {})

    def _redeliver(self, path: str) -> Response:
        number = path.removeprefix(HOOK + "/").removesuffix("/attempts")
        found = [one for one in self.deliveries if str(one["id"]) == number]
        if not found:
            return self.answer(404, {"message": "Not Found"})
        self.asked.append(found[0]["guid"])
        if not self.is_deaf:
            status = self.send(found[0]["guid"])
            self.note(found[0]["guid"], status, self.now(), redelivery=True)
        return self.answer(202, {})

    def answer(self, status: int, body, headers=None) -> Response:
        told = {"date": format_datetime(self.now(), usegmt=True), **(headers or {})}
        return Response(status, told, json.dumps(body).encode(), truncated=False, elapsed_ms=1)


@pytest.fixture
def github(client, monkeypatch):
    quotas.forget()
    config = triggers.source_config(loader.find("github"), "push")
    with transaction(EVERY) as session:
        owner = make_organization(session).id
        source = make_source(
            session, owner, name="仓库", scheme="github", secret="it-is-a-secret",
            rules=config["type_rules"],
        )  # fmt: skip
        # it has been there for long: what was missed before is found, too
        source.created_at = clock.now() - timedelta(days=30)
        connection = make_connection(
            session, owner, connector_key="github", settings={},
            fields={"key": "ghp-example-0123456789"},
        )  # fmt: skip
        made = GitHub(client, owner, source.id, sources.url_of(source), "it-is-a-secret")
        made.connection = connection.id
    monkeypatch.setattr(http, "send", made.serve)
    return made


def set_up(github, **over) -> None:
    with transaction(github.owner) as session:
        reconciliations.set_up(
            session, github.owner, github.source, connection_id=github.connection,
            values={**PLACE, **over},
        )  # fmt: skip


def look(github, seconds: float = 0) -> Reconciliation:
    """Let a worker take the turns that are due so many seconds from now."""
    with clock.shifted(seconds=seconds):
        reconcile_threads.look_all("worker-1")
    return row(Reconciliation, github.source)


def ask_now(github) -> None:
    with transaction(github.owner) as session:
        reconciliations.look_now(session, github.owner, github.source)


def came() -> set[str]:
    """The ids of the messages whose events are here."""
    found = [event.dedupe_key.removeprefix("message:") for event in rows(Event)]
    assert len(found) == len(set(found))
    return set(found)


def test_what_failed_is_asked_for_and_comes_exactly_once(github):
    good = {github.push(arrives=True) for _ in range(5)}
    lost = [github.push(arrives=False, age=timedelta(minutes=9 - n)) for n in range(4)]
    set_up(github)
    one = look(github)
    assert github.asked == lost
    assert came() == good | set(lost)
    # that they are here is seen when the hub looks after them
    assert (one.found_count, one.asked_count, one.fetched_count) == (4, 4, 0)
    assert [entry["state"] for entry in one.missing] == ["asked"] * 4
    one = look(github, 61)
    assert (one.found_count, one.asked_count, one.fetched_count) == (4, 4, 4)
    assert one.missing == []
    assert one.cursor < clock.now() < one.look_at
    look(github, 20 * 60)
    assert len(github.asked) == 4


def test_a_failure_whose_event_is_here_all_the_same_is_not_missing(github):
    guid = github.push(arrives=True)
    github.deliveries[-1].update(status="timed out", status_code=504)
    set_up(github)
    assert look(github).found_count == 0
    assert came() == {guid}
    assert github.asked == []


def test_a_rejected_event_is_not_missing(github):
    with transaction(github.owner) as session:
        sources.change(session, github.owner, github.source, unknown_types="reject",
                       rules={"from": "fixed", "value": "nobody.knows"})  # fmt: skip
    github.push(arrives=True)
    assert github.deliveries[-1]["status_code"] == 422
    set_up(github)
    assert look(github).found_count == 0


def test_pages_are_followed_by_their_cursor_to_the_end(github):
    github.per_page = 10
    lost = {github.push(arrives=False, age=timedelta(hours=1)) for _ in range(35)}
    set_up(github)
    for number in range(8):
        one = look(github, 6 * number)
    assert came() == lost
    assert sorted(github.asked) == sorted(lost)
    assert one.last["pages"] == 3
    listed = [query.get("cursor", [""])[0] for method, _, query in github.calls if method == "GET"]
    assert listed == ["", "v1_10", "v1_20", "v1_30"]


def test_the_next_look_reads_no_further_back_than_it_must(github):
    github.per_page = 10
    for _ in range(25):
        github.push(arrives=True, age=timedelta(hours=2))
    set_up(github)
    look(github)
    github.calls.clear()
    ask_now(github)
    look(github, 6 * 60)
    look(github, 16 * 60)
    assert [method for method, _, _ in github.calls] == ["GET"]


def test_a_list_out_of_order_hides_nothing(github):
    github.per_page, github.shuffles = 7, True
    ages = [timedelta(minutes=minutes) for minutes in range(0, 300, 10)]
    lost = {github.push(arrives=number % 3 > 0, age=age) for number, age in enumerate(ages)}
    set_up(github)
    for number in range(10):
        look(github, 6 * number)
    assert came() == lost
    assert all(github.asked.count(guid) <= 1 for guid in lost)


def test_a_redelivery_that_fails_again_is_asked_for_anew_and_then_given_up(github):
    github.is_deaf = True
    guid = github.push(arrives=False)
    set_up(github)
    one, at = look(github), 0.0
    waits = [wait.total_seconds() for wait in looking.ASK_WAITS]
    for number, wait in enumerate(waits, 1):
        assert one.asked_count == number
        at += wait + 5
        one = look(github, at)
    assert github.asked == [guid] * 3
    (entry,) = one.missing
    assert (entry["state"], one.failed_count) == ("lost", 1)
    assert entry["why"] == dict(looking.UNANSWERED)
    look(github, at + 3600)
    assert len(github.asked) == 3
    # a person may ask for it once more, and then it comes
    github.is_deaf = False
    ask_now(github)
    look(github, at + 4000)
    one = look(github, at + 4100)
    assert came() == {guid}
    assert (one.missing, one.fetched_count, one.failed_count) == ([], 1, 1)


def test_what_github_keeps_no_longer_is_given_up_and_not_asked_for(github):
    github.is_deaf = True
    guid = github.push(arrives=False)
    set_up(github)
    look(github)
    assert github.asked == [guid]
    one = look(github, 73 * 3600)
    assert github.asked == [guid]
    (entry,) = one.missing
    assert (entry["state"], entry["why"]) == ("lost", dict(looking.TOO_OLD))
    assert one.failed_count == 1
    assert look(github, 8 * 24 * 3600).missing == []


def test_one_delivery_that_github_refuses_does_not_hold_up_the_others(github):
    first = github.push(arrives=False, age=timedelta(minutes=1))
    second = github.push(arrives=False)
    set_up(github)
    listing = github.serve
    refused = []

    def serve(request):
        if request.method == "POST" and not refused:
            refused.append(request.url)
            body = {"message": "Deliveries older than 3 days cannot be redelivered"}
            return github.answer(422, body)
        return listing(request)

    github_send, http.send = http.send, serve
    try:
        one = look(github)
    finally:
        http.send = github_send
    assert came() == {second}
    (lost,) = [entry for entry in one.missing if entry["state"] == "lost"]
    assert first in lost["key"]
    assert "older than 3 days" in lost["why"]["en"]
    assert one.problem is None


LIMITED = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795770000"}
TROUBLE = [
    (401, {}, "auth", 900, "GitHub 不认可这个令牌，请换一个新的。"),
    (403, {}, "auth", 900, "令牌没有这个仓库的 Webhooks 读写权限。"),
    (404, {}, "config", 900, "找不到这个仓库或回调"),
    (403, LIMITED, "limit", 900, "放慢"),
    (429, {"retry-after": "120"}, "limit", 120, "放慢"),
    (500, {}, "down", 5, "没有回应"),
    (502, {}, "down", 5, "没有回应"),
]


@pytest.mark.parametrize(
    ("status", "headers", "cause", "least", "words"), TROUBLE, ids=[str(one[:3]) for one in TROUBLE]
)
def test_what_github_refuses_is_told_in_words_and_tried_again(
    github, status, headers, cause, least, words
):
    guid = github.push(arrives=False)
    set_up(github)
    github.answers = [github.answer(status, {"message": "Said by GitHub"}, headers)]
    one = look(github)
    assert one.problem["cause"] == cause
    assert words in one.problem["say"]["zh"]
    assert one.problem["detail"] == "Said by GitHub"
    wait = (one.next_at - clock.now()).total_seconds()
    assert least - 2 < wait < 1200
    assert reconciliations.status(one, clock.now()).state == "trouble"
    assert (one.last_at, one.missing) == (None, [])
    one = look(github, wait + 1)
    assert one.problem is None
    assert came() == {guid}


def test_a_refusal_while_asking_for_redelivery_stops_and_goes_on_later(github):
    lost = {github.push(arrives=False) for _ in range(3)}
    set_up(github)
    good, made = github.serve, []

    def serve(request):
        if request.method == "POST":
            made.append(request.url)
            if len(made) == 2:
                return github.answer(429, {"message": "slow down"}, {"retry-after": "30"})
        return good(request)

    before, http.send = http.send, serve
    try:
        one = look(github)
        assert one.problem["cause"] == "limit"
        assert len(came()) == 1
        look(github, 31)
    finally:
        http.send = before
    assert came() == lost


def test_problems_that_stay_are_tried_less_and_less_often(github):
    set_up(github)
    at, waits = 0.0, []
    for _ in range(8):
        github.answers = [github.answer(401, {"message": "Bad credentials"})]
        with clock.shifted(seconds=at):
            reconcile_threads.look_all("worker")
            one = row(Reconciliation, github.source)
            waits.append((one.next_at - clock.now()).total_seconds())
        at += waits[-1] + 1
    assert waits == pytest.approx([900 * 2**n for n in range(5)] + [6 * 3600] * 3, abs=5)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_off_hides_nothing(github, hours):
    set_up(github)
    look(github)
    github.ahead = timedelta(hours=hours)
    good = {github.push(arrives=True)}
    lost = {github.push(arrives=False, age=timedelta(minutes=number)) for number in (0, 1, 3)}
    ask_now(github)
    one = look(github, 6)
    assert came() == good | lost
    assert one.skew_seconds == pytest.approx(hours * 3600, abs=2)
    look(github, 16 * 60 + 6)
    assert len(github.asked) == 3


def test_servers_whose_clocks_differ_do_not_keep_a_look_from_its_end(github):
    guid = github.push(arrives=False)
    set_up(github)
    good, turns = github.serve, []

    def serve(request):
        turns.append(request)
        github.ahead = timedelta(hours=-2 * (len(turns) % 11))
        return good(request)

    before, http.send = http.send, serve
    try:
        one = look(github)
    finally:
        http.send = before
    assert one.last_at is not None
    assert came() == {guid}


def test_a_missing_clock_changes_nothing(github):
    guid = github.push(arrives=False)
    github.ahead = timedelta(days=400)  # nonsense is not believed
    github.deliveries[-1]["delivered_at"] = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    set_up(github)
    one = look(github)
    assert one.skew_seconds == 0
    assert came() == {guid}


def test_an_endless_list_is_given_up_with_words(github):
    set_up(github)
    link = '<https://api.github.com/x?cursor=v1_1>; rel="next"'
    github.answers = [github.answer(200, [], {"link": link}) for _ in range(50)]
    one = look(github)
    assert one.problem["say"] == dict(looking.ENDLESS)
    assert len(github.calls) == 2


@pytest.mark.parametrize("body", [{"message": "odd"}, "text", None, [[1]], [{"id": 1}]])
def test_a_list_that_is_none_is_a_problem_and_no_crash(github, body):
    set_up(github)
    github.answers = [github.answer(200, body)]
    one = look(github)
    assert one.problem or [entry["state"] for entry in one.missing] == ["lost"]
    assert one.state == "waiting"


def test_more_missing_than_is_kept_in_mind_comes_all_the_same(github, monkeypatch):
    monkeypatch.setattr(looking, "MAX_OPEN", 20)
    monkeypatch.setattr(reconcile_turns, "MAX_OPEN", 20)
    lost = {github.push(arrives=False, age=timedelta(hours=1)) for _ in range(55)}
    set_up(github)
    for number in range(80):
        one = look(github, 7 * number)
        assert len([entry for entry in one.missing if entry["state"] != "lost"]) <= 20
    assert came() == lost
    assert one.fetched_count == one.found_count == 55
    assert one.missing == []


def test_a_died_worker_may_ask_twice_and_still_there_is_one_event(github, monkeypatch):
    guid = github.push(arrives=False)
    set_up(github)

    class Killed(BaseException):
        pass

    def die(*_args, **_more):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(reconcile_turns, "write", die)
        with pytest.raises(Killed):
            look(github)
    assert came() == {guid}
    with transaction(EVERY) as session:
        reconcile_threads.reconcile_claims.release(session, "worker-1")
    one = look(github, 6)
    assert came() == {guid}
    assert one.found_count == 0


# --- setting it up -------------------------------------------------------------------------------


def test_setting_up_looks_at_once_and_says_what_is_wrong(github):
    for over, pointer in (({"hook_id": ""}, "/input/hook_id"), ({"hook_id": "x"}, "/input/hook_id"),
                          ({"more": "y"}, "/input")):  # fmt: skip
        with pytest.raises(Unfit) as no:
            set_up(github, **over)
        assert [one["pointer"] for one in no.value.errors] == [pointer]
    set_up(github)
    assert row(Reconciliation, github.source).look_at <= clock.now()


def test_a_connection_that_cannot_be_asked_is_refused(github):
    with transaction(EVERY) as session:
        other = make_connection(session, github.owner).id
    github.connection = other
    with pytest.raises(Unfit) as no:
        set_up(github)
    assert [one["pointer"] for one in no.value.errors] == ["/connection_id"]


def test_a_strangers_connection_and_source_are_not_found(github):
    with transaction(EVERY) as session:
        stranger = make_organization(session, name="乙方").id
        theirs = make_connection(session, stranger, connector_key="github", settings={},
                                 fields={"key": "ghp-other-0123456789"}).id  # fmt: skip
    github.connection, mine = theirs, github.connection
    with pytest.raises(Unfit) as theirs_is:
        set_up(github)
    github.connection = "con_never_was"
    with pytest.raises(Unfit) as never_was:
        set_up(github)
    assert theirs_is.value.errors == never_was.value.errors
    github.connection, github.owner = mine, stranger
    with pytest.raises(NotFound):
        set_up(github)


def test_a_source_that_does_not_tell_events_apart_is_refused(github):
    with transaction(github.owner) as session:
        sources.change(session, github.owner, github.source, scheme_options={"dedupe": "never"})
    with pytest.raises(Conflict):
        set_up(github)


def test_another_repository_begins_anew(github):
    github.is_deaf = True
    github.push(arrives=False)
    set_up(github)
    assert len(look(github).missing) == 1
    set_up(github, repo="other")
    one = row(Reconciliation, github.source)
    assert (one.missing, one.input["repo"]) == ([], "other")
    assert one.cursor < clock.now() - timedelta(hours=71)
    one = look(github, 6)
    assert one.problem["cause"] == "config"


def test_nothing_secret_is_kept_or_told(github):
    set_up(github)
    github.answers = [github.answer(403, {"message": "token ghp-example-0123456789 is weak"})]
    one = look(github)
    assert "0123456789" not in json.dumps(one.problem)


def test_a_github_source_is_not_watched_before_a_person_says_where(github):
    with reading(EVERY) as session:
        source = session.get(Source, (github.owner, github.source))
        (way,) = reconciliations.ways(session, source)
    assert way.needs_input
    assert [one.id for one in way.connections] == [github.connection]
    assert datetime.now(UTC) - row(Source, github.source).created_at > timedelta(days=29)
