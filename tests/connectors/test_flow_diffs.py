"""What changed between two versions, told step by step."""

import copy

from factories.ways import branch, delay, each, send, shape

from connectors.flow_diffs import changes

STEPS = [
    shape("a", {"x": "${event.data.x}", "y": {"z": "1"}}),
    branch("ways", ("big", "${event.data.x > 1}", [send("tell", "大")]), otherwise=[]),
    each("lines", "${event.data.lines}", shape("one", {"sku": "${item.sku}"})),
    delay("wait", **{"for": "2h"}),
]
BEFORE = {"trigger": {"event": "order.paid", "version": 1}, "steps": STEPS}


def told(after):
    return [
        (one.kind, one.step["key"] if one.step else None, one.field, one.before, one.after)
        for one in changes(BEFORE, after)
    ]


def changed():
    return copy.deepcopy(BEFORE)


def test_nothing_changed():
    assert told(changed()) == []


def test_values_of_steps_and_of_the_trigger():
    after = changed()
    after["trigger"]["version"] = 2
    after["steps"][0]["mapping"]["y"]["z"] = "2"
    after["steps"][1]["ways"][0]["when"] = "${event.data.x > 9}"
    after["steps"][2]["steps"][0]["mapping"] = {"sku": "${item.sku}", "n": "${index}"}
    assert told(after) == [
        ("changed", None, "version", 1, 2),
        ("changed", "a", "mapping.y.z", "1", "2"),
        ("changed", "ways", "ways.big.when", "${event.data.x > 1}", "${event.data.x > 9}"),
        ("changed", "one", "mapping.n", None, "${index}"),
    ]


def test_steps_come_go_and_move():
    after = changed()
    after["steps"].append(after["steps"].pop(0))  # a is last now
    inside = after["steps"][0]["ways"][0]["steps"]
    inside.append(after["steps"][1]["steps"].pop())  # one stands in the branch now
    after["steps"][1]["steps"] = [shape("two", "x")]
    del after["steps"][2]  # no delay any more
    assert told(after) == [
        ("removed", "wait", "", None, None),
        ("moved", "one", "", None, None),
        ("added", "two", "", None, None),
        ("moved", "a", "", None, None),
    ]
