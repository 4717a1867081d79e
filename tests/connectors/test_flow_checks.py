"""What is told when a flow with more than one way is saved or published."""

import pytest
from factories.ways import approval, branch, delay, each, send, shape

from connectors import field_paths, flow_checks, flow_documents, flow_trees
from connectors.flow_shapes import check_shape

SCHEMA = {
    "type": "object",
    "properties": {
        "no": {"type": "string"},
        "lines": {
            "type": "array",
            "items": {"type": "object", "properties": {"sku": {"type": "string", "title": "货号"}}},
        },
        "endless": {"type": "array", "minItems": 1_001},
    },
    "additionalProperties": False,
}


def found(*steps, trigger="order.paid", schema=SCHEMA, members=("mem_1",)):
    document = {"trigger": {"event": trigger, "version": None}, "steps": list(steps)}
    connections = {"CHAT": "demo-chat"}
    return [one["pointer"] for one in flow_checks.check(document, schema, connections, members)]


GOOD = [
    branch(
        "ways",
        ("a", "${event.data.no == '1'}", [shape("in_a", {"x": "${event.data.no}"})]),
        otherwise=[
            approval("ok", "${event.data.no}", refused=[shape("no", "${steps.ok.output.by}")])
        ],
    ),
    each(
        "lines",
        "${event.data.lines}",
        shape("one", {"s": "${item.sku}", "n": "${index}", "same": "${steps.lines.item.sku}"}),
        item_key="${item.sku}",
    ),
    delay("wait", until="${event.time}"),
    shape(
        "all",
        {
            "c": "${steps.lines.output.count}",
            "w": "${steps.ways.output.way}",
            "x": {"optional": "${steps.in_a.output.x}"},
        },
    ),
]


def test_a_good_flow_has_no_findings():
    assert found(*GOOD) == []


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        (branch("b", ("a", "${event.data.nothing == 1}", [])), "/steps/0/ways/0/when"),
        (branch("b", ("a", "1 +", [])), "/steps/0/ways/0/when"),
        (
            branch("b", ("a", True, [shape("s", "${event.data.nope}")])),
            "/steps/0/ways/0/steps/0/mapping",
        ),
        (
            branch("b", ("a", True, []), otherwise=[shape("s", "${item.sku}")]),
            "/steps/0/else/0/mapping",
        ),
        (each("e", "${event.data.no}", shape("s", "x")), "/steps/0/over"),
        (each("e", "${event.data.nope}", shape("s", "x")), "/steps/0/over"),
        (each("e", "${event.data.endless}", shape("s", "x")), "/steps/0/over"),
        (each("e", "${event.data.lines}", shape("s", "${item.nope}")), "/steps/0/steps/0/mapping"),
        (each("e", "${event.data.lines}"), "/steps/0/steps"),
        (
            each("e", "${event.data.lines}", shape("s", "x"), on_item_error="maybe"),
            "/steps/0/on_item_error",
        ),
        (
            each("e", "${event.data.lines}", shape("s", "x"), item_key="${item.no}"),
            "/steps/0/item_key",
        ),
        (delay("d"), "/steps/0/for"),
        (delay("d", **{"for": "2h", "until": "${event.time}"}), "/steps/0/for"),
        (delay("d", **{"for": "400d"}), "/steps/0/for"),
        (delay("d", **{"for": "2 weeks"}), "/steps/0/for"),
        (delay("d", until="${event.data.lines}"), "/steps/0/until"),
        (approval("a", who={}), "/steps/0/who"),
        (approval("a", who={"roles": ["king"]}), "/steps/0/who"),
        (approval("a", who={"members": ["mem_2"]}), "/steps/0/who"),
        (approval("a", deadline="soon"), "/steps/0/deadline"),
        (approval("a", at_deadline="park"), "/steps/0/at_deadline"),
        (approval("a", "${event.data.nope}"), "/steps/0/subject"),
        (approval("a", refused=[shape("s", "${event.data.nope}")]), "/steps/0/refused/0/mapping"),
        (send("s", "x", chat="gone"), "/steps/0/connection"),
        (
            branch("b", ("a", True, [send("s", "x", chat="gone")])),
            "/steps/0/ways/0/steps/0/connection",
        ),
    ],
)
def test_each_mistake_is_found_where_it_is(step, pointer):
    assert pointer in found(step)


def test_what_a_loop_did_cannot_be_read_outside_of_it():
    loop = each("e", "${event.data.lines}", shape("inner", "${item.sku}"))
    assert found(loop, shape("s", "${steps.inner.output}")) == ["/steps/1/mapping"]


def test_one_way_cannot_read_what_another_gave():
    first = ("a", True, [shape("in_a", "x")])
    second = ("b", True, [shape("in_b", "${steps.in_a.output}")])
    assert found(branch("ways", first, second)) == ["/steps/0/ways/1/steps/0/mapping"]


def test_a_flow_that_approvals_start_cannot_ask():
    assert found(approval("a", "x"), trigger="approval.decided", schema=None) == ["/steps/0"]


def shapes(*steps):
    return [one["pointer"] for one in check_shape({"trigger": {}, "steps": list(steps)})]


def test_what_cannot_be_read_is_unfit():
    assert shapes(*GOOD) == []
    assert shapes({"key": "b", "kind": "branch", "ways": {}}) == ["/steps/0/ways"]
    assert shapes({"key": "b", "kind": "branch", "ways": [1]}) == ["/steps/0/ways/0"]
    twice = branch("b", ("a", True, []), ("a", True, []))
    assert shapes(twice) == ["/steps/0/ways/1/key"]
    assert shapes(branch("b", ("else", True, []))) == ["/steps/0/ways/0/key"]
    assert shapes({**each("e", "x"), "steps": None}) == ["/steps/0/steps"]
    assert shapes({**each("e", "x"), "over": 1}) == ["/steps/0/over"]
    assert shapes(each("e", "x", shape("e", "x"))) == ["/steps/0/steps/0/key"]
    assert shapes(approval("a", who=[])) == ["/steps/0/who"]
    deep = each("a", "x", each("b", "x", each("c", "x")))
    assert shapes(deep) == ["/steps/0/steps/0/steps/0"]
    nested = shape("s", "x")
    for number in range(8):
        nested = branch(f"b{number}", ("a", True, [nested]))
    assert len(shapes(nested)) == 1
    many = [shape(f"s{n}", "x") for n in range(40)]
    wide = branch("b", ("a", True, many), otherwise=[shape(f"t{n}", "x") for n in range(40)])
    assert shapes(wide) == ["/steps"]


def test_fields_to_pick_from_inside_others():
    document = {"trigger": {}, "steps": GOOD}
    numbers = {place.step["key"]: place.number for place in flow_trees.walk(document)}

    def offered(key):
        offers = field_paths.offers(document, numbers[key], SCHEMA)
        return {one.expression for one in offers}

    assert "${item.sku}" in offered("one")
    assert "${item.sku}" not in offered("all")
    assert "${steps.in_a.output.x}" in offered("one")
    assert "${steps.in_a.output.x}" not in offered("ok")
    assert "${steps.ok.output.comment}" in offered("no")
    assert "${steps.lines.output.failed}" in offered("all")
    assert not any("steps.one" in one for one in offered("all"))


def test_templates_with_ways_get_their_connections():
    template = {
        "trigger": {"event": "order.paid", "connector": "demo-erp"},
        "steps": [
            branch(
                "b",
                ("a", True, [send("s", "x")]),
                otherwise=[approval("k", refused=[send("t", "x")])],
            ),
            each("e", "${event.data.lines}", send("u", "x")),
        ],
    }
    for place in flow_trees.walk(template):
        place.step.pop("connection", None)
    made = flow_documents.from_template(template, {"demo-chat": "con_9"})
    assert flow_documents.connections_in(made) == ["con_9"]
    bound = [one.step for one in flow_trees.walk(made) if one.step["kind"] == "action"]
    assert [one["connection"] for one in bound] == ["con_9"] * 3
    assert not any("connection" in place.step for place in flow_trees.walk(template))
    assert flow_documents.connectors_needed(template) == ["demo-erp", "demo-chat"]
