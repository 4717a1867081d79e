"""What changes between editions of a connector: parts, choices, ready mappings, whole events."""

from dataclasses import replace

import pytest

from connectors.engine import loader
from connectors.lab import differences


def changed(old, new):
    return {one.at: one.is_breaking for one in differences.compare(old, new)}


def with_action(connector, key, **over):
    actions = {**connector.actions, key: replace(connector.actions[key], **over)}
    return replace(connector, actions=actions)


GITEA, WOO, PRETIX, GITHUB = (
    loader.find(key) for key in ("gitea", "woocommerce", "pretix", "github")
)
PAGES = GITEA.actions["list_issues"].pages


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        (None, {"/actions/list_issues/pages": True}),
        (replace(PAGES, max_pages=3), {"/actions/list_issues/pages/max_pages": True}),
        (replace(PAGES, max_items=4000), {"/actions/list_issues/pages/max_items": False}),
        (replace(PAGES, size=20), {}),
    ],
    ids=["gone", "fewer pages", "more items", "smaller pages"],
)
def test_a_list_that_is_read_less_far_breaks(pages, expected):
    assert changed(GITEA, with_action(GITEA, "list_issues", pages=pages)) == expected


def test_a_batch_that_comes_or_goes_breaks():
    single = with_action(WOO, "set_stocks", batch=None)
    assert changed(WOO, single)["/actions/set_stocks/batch"] is True
    assert changed(single, WOO)["/actions/set_stocks/batch"] is True


def test_choices_with_other_values_break_what_people_chose():
    erp = loader.find("demo-erp")
    one = erp.lookups["customers"]
    other = replace(erp, lookups={"customers": replace(one, value="${item.name}")})
    assert changed(erp, other) == {"/lookups/customers/value": True}
    assert changed(erp, replace(erp, lookups={})) == {"/lookups/customers": True}
    named = replace(erp, lookups={"customers": replace(one, label="${item.customer_no}")})
    assert changed(erp, named) == {}


def test_events_that_are_no_longer_made_break_and_other_rules_do_not():
    one = GITHUB.maps["work_item_created"]

    def turned(**over):
        return replace(GITHUB, maps={**GITHUB.maps, one.key: replace(one, **over)})

    at = "/maps/work_item_created"
    assert changed(GITHUB, turned(emits=False)) == {f"{at}/emit": True}
    assert changed(GITHUB, turned(event="ticket.created")) == {f"{at}/to": True}
    assert changed(GITHUB, turned(when=None)) == {f"{at}/rules": False}


def test_whole_events_are_part_of_what_flows_hear():
    trigger = PRETIX.triggers["order_paid"]

    def turned(**over):
        return replace(PRETIX, triggers={**PRETIX.triggers, "order_paid": replace(trigger, **over)})

    at = "/triggers/order_paid/fetch"
    assert changed(PRETIX, turned(fetch=None)) == {at: True}
    assert changed(turned(fetch=None), PRETIX) == {at: False}
    renamed = replace(trigger.fetch, event="pretix.order.settled")
    assert changed(PRETIX, turned(fetch=renamed)) == {f"{at}/event": True}
    poorer = {**trigger.fetch.schema, "properties": {"code": {"type": "string"}}, "required": []}
    found = changed(PRETIX, turned(fetch=replace(trigger.fetch, schema=poorer)))
    assert found
    assert any(found.values())


def test_the_same_edition_has_no_differences():
    for connector in loader.library().values():
        assert differences.compare(connector, connector) == []
