"""The first page's figures: true, of one firm, by right."""

from datetime import timedelta

import pytest
from factories.identity import make_member, make_organization
from factories.marketplace import acting, make_installation

from kernel import clock
from marketplace import home, navigation
from marketplace.tables import Rollout
from webhooks import events
from webhooks.tables import Event


@pytest.fixture
def owner(session):
    """The owner of a firm."""
    return acting(make_member(session))


def make_events(session, organization_id, count=1, **over):
    """Some events that came in just now."""
    new = [events.NewEvent(**{"type": "order.paid", "body": b"{}", **over}) for _ in range(count)]
    return events.accept(session, organization_id, None, new)


def test_throughput_counts_every_event_of_the_day_once(session, owner):
    make_events(session, owner.organization_id, 7)
    make_events(session, make_organization(session).id, 5)
    session.flush()
    seen = home.throughput(session, owner.organization_id)
    assert seen.total == 7
    assert seen.peak <= 7
    assert sum(seen.counts[-2:]) == 7  # the last bucket, or the one before at its edge
    assert len(seen.counts) in (83, 84)


def test_throughput_forgets_what_is_older(session, owner):
    make_events(session, owner.organization_id, 3)
    session.flush()
    later = clock.now() + timedelta(hours=26)
    assert home.throughput(session, owner.organization_id, now=later).total == 0
    same = home.throughput(session, owner.organization_id, now=clock.now() + timedelta(hours=12))
    assert same.total == 3


def test_throughput_of_nothing_is_nothing(session, owner):
    seen = home.throughput(session, owner.organization_id)
    assert (seen.total, seen.peak) == (0, 0)


def test_needs_are_shown_to_whoever_may_act(session, owner):
    assert home.needs(session, owner) == []
    session.add(Rollout(organization_id=owner.organization_id, state="provisioning"))
    [accepted] = make_events(session, owner.organization_id)
    session.flush()
    session.get(Event, (owner.organization_id, accepted.id)).state = "rejected"
    session.flush()
    assert [n.href for n in home.needs(session, owner)] == [
        "/events?state=rejected",
        "/installations",
    ]
    plain = acting(make_member(session, role="member"), organization_id=owner.organization_id)
    assert home.needs(session, plain) == []
    stranger = acting(make_member(session))
    assert home.needs(session, stranger) == []


def test_first_steps_follow_what_really_happened(session, owner):
    steps = home.first_steps(session, owner.organization_id)
    assert (steps.has_chosen, steps.has_installed, steps.has_run) == (False, False, False)
    session.add(Rollout(organization_id=owner.organization_id, state="provisioning"))
    session.flush()
    assert home.first_steps(session, owner.organization_id).has_chosen
    make_installation(session, owner.organization_id)
    steps = home.first_steps(session, owner.organization_id)
    assert steps.has_installed
    assert not steps.is_over


def test_no_install_time_is_claimed_before_there_are_enough(session, owner):
    for number in range(home.ENOUGH_INSTALLS):
        assert home.shop_figures(session).median_install_seconds is None
        session.add(
            Rollout(
                organization_id=owner.organization_id,
                state="active",
                started_at=clock.now(),
                finished_at=clock.now() + timedelta(seconds=number),
            )
        )
        session.flush()
    assert home.shop_figures(session).median_install_seconds == 2.0


def test_the_side_bar_shows_doors_by_right():
    def labels(who, **more):
        found = navigation.groups(who, "/", str, **more)
        return {item["href"] for group in found for item in group["items"]}

    assert labels(None) == {"/", "/apps", "/bundles", "/compare"}
    member = _principal("member")
    assert "/toolbox" in labels(member)
    assert "/flows" not in labels(member)
    assert "/operator/review" not in labels(_principal("owner"))
    assert labels(_principal("owner"), existing={"/"}) == {"/"}


def _principal(role):
    from identity.principals import Principal
    from identity.roles import permissions_of

    return Principal("org_1", "usr_1", "mem_1", role, "member", permissions_of(role))


def test_only_the_closest_door_is_marked_as_here():
    found = navigation.groups(_principal("owner"), "/settings/audit", str)
    active = [i["href"] for g in found for i in g["items"] if i["active"]]
    assert active == ["/settings/audit"]


def test_a_count_stands_beside_its_door():
    found = navigation.groups(_principal("owner"), "/", str, counts={"parked_runs": 4})
    assert [i["count"] for g in found for i in g["items"] if i["href"] == "/runs"] == [4]
