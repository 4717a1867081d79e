"""The layout of a flow: every step once, nothing on top of anything else, and always the same."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import flow_trees
from connectors.editing import layout
from connectors.engine import flow_templates


def step(key: str, kind: str = "map", **more) -> dict:
    return {"key": key, "kind": kind, **more}


def boxes(made: layout.Picture, *kinds: str) -> list[dict]:
    return [one for one in made.nodes if one["type"] in kinds]


def overlaps(made: layout.Picture) -> list[tuple[str, str]]:
    """Boxes that lie on each other; frames lie around others."""
    solid = [one for one in made.nodes if one["type"] != "frame"]
    return [
        (a["id"], b["id"])
        for a, b in itertools.combinations(solid, 2)
        if a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    ]


@pytest.mark.parametrize("key", sorted(flow_templates.all()))
def test_every_template_is_drawn_whole(key):
    document = flow_templates.find(key).document
    made = layout.picture(document)
    drawn = [one["pointer"] for one in boxes(made, "step")]
    assert sorted(drawn) == sorted(place.pointer for place in flow_trees.walk(document))
    assert overlaps(made) == []
    ids = {one["id"] for one in made.nodes}
    assert all({edge["from"], edge["to"]} <= ids for edge in made.edges)
    assert layout.picture(document) == made


def test_a_kind_that_nobody_has_heard_of_is_drawn_by_its_structure():
    later = step("later", "teleport", on_error={"steps": [step("sorry")]},
                 routes=[{"key": "a", "steps": [step("one"), step("two")]}],
                 mapping={"lines": [{"key": "x", "kind": "y"}]})  # fmt: skip
    made = layout.picture({"trigger": {}, "steps": [later, step("end")]})
    assert {one["pointer"] for one in boxes(made, "step")} == {
        "/steps/0", "/steps/1", "/steps/0/on_error/steps/0",
        "/steps/0/routes/0/steps/0", "/steps/0/routes/0/steps/1",
    }  # fmt: skip
    assert overlaps(made) == []
    side = [edge for edge in made.edges if edge["type"] == "side"]
    assert {edge["from"] for edge in side} >= {"/steps/0"}
    # what leaves the flow does not come back to it
    assert not [
        edge for edge in made.edges if edge["to"] == "/steps/1" and "on_error" in edge["from"]
    ]


@pytest.mark.parametrize(("then", "comes"), [("continue", 2), ("end", 1)])
def test_a_side_way_comes_back_only_when_it_says_so(then, comes):
    """An error path may go on with the flow."""
    tries = step("tries", "action", on_error={"then": then, "steps": [step("sorry")]})
    made = layout.picture({"trigger": {}, "steps": [tries, step("next")]})
    assert len([edge for edge in made.edges if edge["to"] == "/steps/1"]) == comes
    assert overlaps(made) == []


def test_ways_stand_beside_each_other_and_come_together():
    fork = step("fork", "branch", ways=[
        {"key": "a", "steps": [step("one")]}, {"key": "b", "steps": []},
    ], **{"else": []})  # fmt: skip
    made = layout.picture({"trigger": {}, "steps": [fork, step("end")]})
    into = boxes(made, "into")
    assert [one["inside"] for one in into] == ["0/0", "0/1", "0/else"]
    assert len({one["y"] for one in into}) == 1
    assert {edge["from"] for edge in made.edges if edge["to"] == "/steps/1"} == {
        "/steps/0/ways/0/steps/0", "/steps/0/ways/1/steps/into", "/steps/0/else/into",
    }  # fmt: skip


def test_a_loop_is_framed():
    loop = step("loop", "each", over="", steps=[step("one"), step("two")])
    made = layout.picture({"trigger": {}, "steps": [loop]})
    (frame,) = boxes(made, "frame")
    for one in boxes(made, "step")[1:]:
        assert frame["x"] < one["x"]
        assert one["x"] + one["w"] < frame["x"] + frame["w"]
        assert frame["y"] < one["y"]
        assert one["y"] + one["h"] < frame["y"] + frame["h"]


def trees(depth: int):
    plain = st.builds(lambda: step("k"))
    if not depth:
        return st.lists(plain, max_size=2)
    inner = trees(depth - 1)
    fork = st.builds(
        lambda ways, other: step("k", "branch", ways=[{"key": "w", "steps": one} for one in ways],
                                 **{"else": other}),
        st.lists(inner, max_size=3), inner)  # fmt: skip
    loop = st.builds(lambda steps: step("k", "each", steps=steps), inner)
    asks = st.builds(lambda steps: step("k", "approval", refused=steps), inner)
    return st.lists(st.one_of(plain, fork, loop, asks), max_size=3)


@settings(max_examples=60, deadline=None)
@given(trees(3))
def test_nothing_ever_lies_on_anything_else(steps):
    made = layout.picture({"trigger": {}, "steps": steps})
    assert overlaps(made) == []
    assert len(boxes(made, "step")) == len(flow_trees.walk({"steps": steps}))
