"""Actions in parts: lists that come in pages, and items that go a few at a time."""

import json
from dataclasses import replace

import pytest

from connectors.engine import (
    batches,
    check_parts,
    fixture_answers,
    fixtures,
    loader,
    manifest_parts,
    paging,
    parts,
    requests,
)
from connectors.engine.connector import ConnectionValues, Envelope
from connectors.engine.declared import Batch, Pages
from kernel.http import Failure, Response

ERP = loader.find("demo-erp")
KEY = ConnectionValues({"base_url": "https://erp.example.com"}, "key", {"key": "example"})


def response(body, status=200, **headers):
    raw = json.dumps(body).encode()
    return Response(status, headers, raw, truncated=False, elapsed_ms=1)


def pages(**stated):
    usual = {
        "kind": "number",
        "items": "rows",
        "size": 2,
        "first": 1,
        "next": None,
        "link": None,
        "more": None,
        "max_pages": 5,
        "max_items": 100,
        "cut": None,
    }
    return Pages(**{**usual, **stated})


def listing(**stated):
    """An action that lists, and its connector."""
    schema = {
        "type": "object",
        "properties": {"rows": {"type": "array"}, "is_cut": {"type": "boolean"}},
    }
    action = replace(
        ERP.actions["find_customer"],
        key="list",
        input={"type": "object", "properties": {}},
        output=schema,
        envelope=Envelope(),
        errors=(),
        result={"rows": "${body.rows}"},
        request=replace(
            ERP.actions["find_customer"].request,
            path="/rows",
            query={"object": {"page": "${look.page}", "from": "${look.offset}"}},
        ),
        pages=pages(**stated),
    )
    return replace(ERP, actions={"list": action}), action


def read_all(connector, action, serve, most=20):
    """Read a list to its end; `serve` answers what is asked for with what it is asked with."""
    progress, asked = parts.begin(action, {}, "eff_1"), []
    for _ in range(most):
        look = parts.look(action, {}, progress)
        request = requests.build(connector, action.key, {}, KEY, "eff_1", look)
        asked.append((dict(look), request.url))
        progress = json.loads(json.dumps(progress))  # it is kept as a document
        answer, progress = parts.take(connector, action, {}, progress, serve(look))
        if answer.kind != parts.MORE:
            return answer, asked
    raise AssertionError("endless")


ROWS = [{"id": number} for number in range(5)]


@pytest.mark.parametrize(
    ("stated", "serve"),
    [
        ({"kind": "number"}, lambda look: {"rows": ROWS[(look["page"] - 1) * 2 :][:2]}),
        ({"kind": "number", "first": 0}, lambda look: {"rows": ROWS[look["page"] * 2 :][:2]}),
        ({"kind": "offset"}, lambda look: {"rows": ROWS[look["offset"] :][:2]}),
        (
            {"kind": "token", "next": "${body.next}"},
            lambda look: {
                "rows": ROWS[int(look["page"] or 0) :][:2],
                "next": str(int(look["page"] or 0) + 2) if int(look["page"] or 0) < 4 else "",
            },
        ),
        (
            {"kind": "last_id", "next": "${item.id}"},
            lambda look: {"rows": [r for r in ROWS if r["id"] > int(look["page"] or -1)][:2]},
        ),
        (
            {"kind": "number", "more": "${body.more}"},
            lambda look: {"rows": ROWS[(look["page"] - 1) * 2 :][:2], "more": look["page"] < 3},
        ),
    ],
    ids=["number", "from 0", "offset", "token", "last id", "more"],
)
def test_every_kind_of_pages_is_read_to_its_end_once(stated, serve):
    answer, asked = read_all(*listing(**stated), lambda look: response(serve(look)))
    assert (answer.kind, answer.output) == ("ok", {"rows": ROWS})
    assert len(asked) == 3


def test_the_next_page_of_a_link_header_is_named_by_one_parameter():
    def serve(look):
        page = int(look["page"] or 1)
        link = f'<https://evil.example/x?page={page + 1}>; rel="next"' if page < 3 else ""
        return response({"rows": ROWS[(page - 1) * 2 :][:2]}, link=link)

    answer, asked = read_all(*listing(kind="link", link="page", next=None), serve)
    assert answer.output == {"rows": ROWS}
    assert all(url.startswith("https://erp.example.com/") for _, url in asked)


@pytest.mark.parametrize(
    ("stated", "body"),
    [
        ({"kind": "token", "next": "${body.next}"}, {"rows": [], "next": "again"}),
        ({"kind": "number"}, {"rows": [{"id": 1}, {"id": 2}]}),
        ({"kind": "last_id", "next": "${item.id}"}, {"rows": [{"id": 1}, {"id": 2}]}),
    ],
    ids=["same token", "page number is not heard", "last id is not heard"],
)
def test_a_list_without_an_end_is_given_up_in_words(stated, body):
    answer, asked = read_all(*listing(**stated), lambda look: response(body))
    assert (answer.kind, answer.say) == ("fail", paging.ENDLESS)
    assert len(asked) == 2


def test_tokens_that_go_round_in_a_circle_are_noticed():
    around = {None: "a", "a": "b", "b": "c", "c": "a"}

    def serve(look):
        return response({"rows": [{"id": look["page"]}], "next": around[look["page"]]})

    answer, asked = read_all(*listing(kind="token", next="${body.next}", max_pages=50), serve)
    assert answer.say == paging.ENDLESS
    assert len(asked) == 4


def test_a_list_that_is_too_long_says_so_or_is_refused():
    def serve(look):
        return response({"rows": [{"id": look["page"] * 10 + n} for n in range(2)]})

    answer, asked = read_all(*listing(max_pages=3), serve)
    assert (answer.kind, answer.cause) == ("fail", "data")
    assert "6 items" in answer.say["en"]
    assert len(asked) == 3
    answer, _ = read_all(*listing(max_pages=3, cut="is_cut"), serve)
    assert (len(answer.output["rows"]), answer.output["is_cut"]) == (6, True)
    answer, _ = read_all(*listing(max_items=3, cut="is_cut"), serve)
    assert (len(answer.output["rows"]), answer.output["is_cut"]) == (3, True)


def test_what_a_step_could_not_keep_is_not_read_on():
    def serve(look):
        return response({"rows": [{"id": look["page"], "text": "x" * 20_000} for _ in range(2)]})

    answer, asked = read_all(*listing(max_pages=50), serve)
    assert answer.kind == "fail"
    assert len(asked) == 2


def test_trouble_with_a_page_keeps_the_pages_before_it():
    connector, action = listing()
    progress = parts.begin(action, {}, "e")
    answer, progress = parts.take(connector, action, {}, progress, response({"rows": ROWS[:2]}))
    assert answer.kind == parts.MORE
    answer, after = parts.take(connector, action, {}, progress, response({}, 503))
    assert (answer.kind, after) == ("retry", progress)
    resumed = parts.begin(action, {}, "e", json.loads(json.dumps(after)))
    assert parts.look(action, {}, resumed)["page"] == 2
    answer, _ = parts.take(connector, action, {}, resumed, response({"rows": ROWS[2:3]}))
    assert answer.output == {"rows": ROWS[:3]}


# --- batches ------------------------------------------------------------------------------------

_SKUS = {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}


def filling(**stated):
    """An action that sends items two at a time, and its connector."""
    usual = Batch(
        over="items",
        max=2,
        results="${body.results}",
        match_item="${item.sku}",
        match_result="${item.sku}",
        envelope=Envelope(ok="${body.code == 0}", error="${body.message}"),
        errors=manifest_parts.rules([{"when": {"body.code": 9}, "do": "retry", "class": "down"}]),
        result={"id": "${body.id}"},
        output={"type": "object", "properties": {"id": {"type": "integer"}}},
    )
    base = ERP.actions["create_sales_order"]
    action = replace(
        base,
        key="fill",
        effect=stated.pop("effect", "upsert"),
        idempotency_header=None,
        input={"type": "object", "properties": {"items": {"type": "array", "items": _SKUS}}},
        output=batches.output_schema(usual.output),
        envelope=Envelope(),
        errors=(),
        request=replace(
            base.request,
            path="/fill",
            json={
                "rows": {
                    "each": "${look.items}",
                    "as": "one",
                    "do": {"sku": "${one.item.sku}", "key": "${one.effect_key}"},
                }
            },
        ),
        batch=replace(usual, **stated),
    )
    return replace(ERP, actions={"fill": action}), action


def items(*skus):
    return {"items": [{"sku": sku} for sku in skus]}


def send_all(pair, given, serve, kept=None, attempt=1):
    """Send a batch to where it rests; returns (answer, progress, what each request held)."""
    connector, action = pair
    progress, sent = parts.begin(action, given, "eff_1", kept), []
    while not parts.is_nothing(action, progress):
        look = parts.look(action, given, progress)
        request = requests.build(connector, "fill", given, KEY, "eff_1", look)
        rows = json.loads(request.body)["rows"]
        sent.append(rows)
        outcome = serve(rows)
        outcome = outcome if isinstance(outcome, Response | Failure) else response(outcome)
        answer, progress = parts.take(connector, action, given, progress, outcome, attempt)
        progress = json.loads(json.dumps(progress))
        if answer.kind != parts.MORE:
            return answer, progress, sent
    return parts.take(connector, action, given, progress, None)[0], progress, sent


def good(rows, **bad):
    """Answer with a result for each row, in another order; `bad` gives codes by sku."""
    return {
        "results": [
            {"sku": sku, "code": bad.get(sku, 0), "id": ord(sku), "message": "no"}
            for sku in [row["sku"] for row in reversed(rows)]
        ]
    }


def test_items_go_a_few_at_a_time_and_come_back_in_their_order():
    answer, _, sent = send_all(filling(), items("a", "b", "c", "d", "e"), good)
    assert [len(rows) for rows in sent] == [2, 2, 1]
    assert answer.output == {"count": 5, "results": [{"id": ord(one)} for one in "abcde"]}
    keys = [row["key"] for rows in sent for row in rows]
    assert len(set(keys)) == 5


def test_a_retry_sends_only_the_items_that_may_be_tried_again():
    pair, given = filling(), items("a", "b", "c")
    answer, progress, sent = send_all(pair, given, lambda rows: good(rows, b=9))
    assert (answer.kind, answer.cause) == ("retry", "down")
    assert "1 of 3 items" in answer.say["en"]
    first = {row["sku"]: row["key"] for rows in sent for row in rows}
    answer, _, sent = send_all(pair, given, good, progress, attempt=2)
    assert [[row["sku"] for row in rows] for rows in sent] == [["b"]]
    assert sent[0][0]["key"] == first["b"]
    assert answer.output["results"] == [{"id": ord(one)} for one in "abc"]


def test_a_person_who_corrects_the_list_sends_only_what_changed_or_failed():
    pair = filling()
    answer, progress, _ = send_all(pair, items("a", "x", "c"), lambda rows: good(rows, x=7))
    assert (answer.kind, answer.cause) == ("fail", "data")
    assert "Item 2" in answer.say["en"]
    assert "2: no" in answer.detail
    answer, _, sent = send_all(pair, items("a", "b", "c"), good, progress)
    assert [[row["sku"] for row in rows] for rows in sent] == [["b"]]
    assert answer.kind == "ok"


def test_an_automatic_retry_leaves_items_alone_that_were_refused():
    pair, given = filling(), items("a", "b", "c")
    _, progress, _ = send_all(pair, given, lambda rows: good(rows, a=7, b=9))
    answer, progress, sent = send_all(pair, given, good, progress, attempt=2)
    assert [[row["sku"] for row in rows] for rows in sent] == [["b"]]
    assert (answer.kind, answer.cause) == ("fail", "data")
    # now nothing is left but the refused one: whoever tries again means that
    answer, _, sent = send_all(pair, given, good, progress)
    assert [[row["sku"] for row in rows] for rows in sent] == [["a"]]
    assert answer.kind == "ok"


def test_equal_items_are_two_items_with_keys_of_their_own():
    _, _, sent = send_all(filling(match_item=None, match_result=None), items("a", "a"), good)
    assert len({row["key"] for row in sent[0]}) == 2


def test_an_item_that_the_answer_forgets_is_not_taken_as_done():
    def forgetful(rows):
        return {"results": [one for one in good(rows)["results"] if one["sku"] != "b"]}

    answer, _, _ = send_all(filling(), items("a", "b"), forgetful)
    assert (answer.kind, answer.cause) == ("fail", "config")
    answer, _, _ = send_all(filling(effect="create"), items("a", "b"), forgetful)
    assert (answer.kind, answer.cause) == ("fail", "unknown")


def test_results_without_names_count_only_when_all_of_them_came():
    pair = filling(match_item=None, match_result=None)
    short = send_all(pair, items("a", "b"), lambda rows: {"results": good(rows)["results"][:1]})
    assert short[0].kind == "fail"


def test_trouble_with_the_whole_request_touches_no_item():
    pair, given = filling(), items("a", "b", "c")
    calls = []

    def serve(rows):
        calls.append(rows)
        return good(rows) if len(calls) == 1 else response({}, 503)

    answer, progress, _ = send_all(pair, given, serve)
    assert answer.kind == "retry"
    _, _, sent = send_all(pair, given, good, progress, attempt=2)
    assert [[row["sku"] for row in rows] for rows in sent] == [["c"]]


def test_what_is_kept_of_a_thousand_items_fits_a_step():
    def long(rows, code=0):
        results = [{"sku": row["sku"], "code": code, "id": 1, "message": "n" * 90} for row in rows]
        return {"results": results}

    given = {"items": [{"sku": f"SKU-{n:04}-{'x' * 60}"} for n in range(batches.MAX_ITEMS)]}
    schema = {"type": "object"}
    pair = filling(max=500, result=None, output=schema)
    answer, progress, _ = send_all(pair, given, long)
    assert answer.kind == "ok"
    assert len(json.dumps(progress)) < 64 * 1024
    answer, progress, _ = send_all(pair, given, lambda rows: long(rows, code=7))
    assert (answer.kind, answer.detail.count(";")) == ("fail", 4)
    assert len(json.dumps(progress)) < 64 * 1024


def test_nothing_to_do_sends_nothing():
    answer, _, sent = send_all(filling(), items(), good)
    assert (answer.output, sent) == ({"count": 0, "results": []}, [])


def test_too_many_items_are_refused_before_anything_is_sent():
    given = {"items": [{"sku": str(n)} for n in range(batches.MAX_ITEMS + 1)]}
    connector, _ = filling()
    with pytest.raises(requests.CannotBuild) as refused:
        requests.build(connector, "fill", given, KEY, "e")
    assert refused.value.pointer == "/input/items"


# --- the library ---------------------------------------------------------------------------------

PAGED = sorted(
    (key, name)
    for key, connector in loader.library().items()
    for name, action in connector.actions.items()
    if action.pages is not None
)


def test_at_least_eight_apps_have_lists_that_are_read_to_their_end():
    assert len({key for key, _ in PAGED}) >= 8


@pytest.mark.parametrize(("key", "name"), PAGED)
def test_a_vendor_that_never_ends_its_list_is_given_up(key, name):
    connector = loader.find(key)
    action = connector.actions[name]
    ok = next(one for one in fixtures.load(connector.folder)[0] if one.name == f"{name}.ok.yaml")
    given, outcome = action.sample["input"], fixtures.outcome_of(ok)
    progress = parts.begin(action, given, "e")
    for _ in range(action.pages.max_pages + 1):
        answer, progress = parts.take(connector, action, given, progress, outcome)
        if answer.kind != parts.MORE:
            break
    assert answer.kind in ("ok", "fail")
    assert answer.kind == "ok" or answer.say == paging.ENDLESS


def test_each_list_shows_a_later_page():
    for key, name in PAGED:
        shown = [
            one
            for one in fixtures.load(loader.find(key).folder)[0]
            if one.key == name and "look" in one.value
        ]
        assert shown, (key, name)
        assert all(fixture_answers.check_answer(loader.find(key), one) == [] for one in shown)


def test_rules_name_what_is_wrong_with_pages_and_batches():
    _, action = listing(items="row", cut="rows")
    places = [where for where, _ in check_parts.problems("/a", action)]
    assert places == ["/a/pages/items", "/a/pages/cut"]
    _, batch = filling(over="things")
    places = [where for where, _ in check_parts.problems("/a", batch)]
    assert places == ["/a/batch/over"]
