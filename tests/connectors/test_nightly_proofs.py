"""Ready-made flows are rehearsed every night by the hub itself, and their pages say how it went."""

from datetime import timedelta

import pytest
from factories.connectors import rows
from factories.identity import bearer, make_api_key, make_member, make_organization, sign_in

from connectors import nightly_proofs, proofs
from connectors.engine import flow_templates
from connectors.engine.findings import Problem
from connectors.tables import TemplateProof
from kernel import clock
from kernel.database import EVERY, transaction
from webhooks.workers import VERSION


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Two templates are enough, and no process knows them yet."""
    monkeypatch.setattr(nightly_proofs, "_known", set())
    two = dict(list(flow_templates.all().items())[:2])
    monkeypatch.setattr(flow_templates, "all", lambda: two)


def by_key():
    return {one.id: one for one in rows(TemplateProof)}


def test_each_is_rehearsed_once_and_again_the_next_night(database):
    keys = set(flow_templates.all())
    assert [nightly_proofs.sweep() for _ in range(3)] == [1, 1, 0]
    found = by_key()
    assert set(found) == keys
    for one in found.values():
        assert (one.state, one.problems, one.hub_version) == ("ok", [], VERSION)
        assert one.trial_count == len(flow_templates.all()[one.id].trials)
        assert timedelta(0) < one.next_at - clock.now() < timedelta(hours=27)
        assert one.next_at.hour in (19, 20, 21)
    with clock.shifted(seconds=27 * 3600):
        assert [nightly_proofs.sweep() for _ in range(3)] == [1, 1, 0]


def test_what_does_not_hold_is_kept_in_words(database, monkeypatch):
    def fails(template):
        return proofs.Proof(template.key, 1, (Problem("/x", {"zh": "不对", "en": "Wrong"}),))

    monkeypatch.setattr(proofs, "prove", fails)
    nightly_proofs.sweep()
    (one,) = [row for row in by_key().values() if row.proved_at]
    assert (one.state, one.problems) == (
        "failed",
        [{"pointer": "/x", "say": {"zh": "不对", "en": "Wrong"}}],
    )


def test_one_that_breaks_the_program_is_a_failed_one(database, monkeypatch):
    monkeypatch.setattr(proofs, "prove", lambda template: 1 / 0)
    nightly_proofs.sweep()
    (one,) = [row for row in by_key().values() if row.proved_at]
    assert "ZeroDivisionError" in one.problems[0]["say"]["en"]


def test_a_changed_template_goes_at_once(database, monkeypatch):
    while nightly_proofs.sweep():
        pass
    monkeypatch.setattr(nightly_proofs, "_known", set())
    assert nightly_proofs.sweep() == 0
    with transaction(EVERY) as session:
        row = session.get(TemplateProof, sorted(by_key())[0])
        row.digest = "another"
        session.add(row)
    monkeypatch.setattr(nightly_proofs, "_known", set())
    assert [nightly_proofs.sweep() for _ in range(2)] == [1, 0]


def test_whoever_died_at_it_is_followed(database, monkeypatch):
    from kernel.database import write

    nightly_proofs._make_rows()
    held = [write(lambda s: nightly_proofs._claim(s, "dead")) for _ in range(3)]
    assert held[2] is None
    assert len(set(held[:2])) == 2
    assert nightly_proofs.sweep() == 0
    with clock.shifted(seconds=61):
        assert nightly_proofs.sweep() == 1
    assert sorted(one.state for one in by_key().values()) == ["new", "ok"]


def test_people_and_programs_see_it(database, client, monkeypatch):
    while nightly_proofs.sweep():
        pass
    broken, fine = sorted(by_key())
    with transaction(EVERY) as session:
        row = session.get(TemplateProof, broken)
        row.state, row.problems = (
            "failed",
            [{"pointer": "/x", "say": {"zh": "群消息没有发出", "en": "x"}}],
        )
        session.add(row)
        organization = make_organization(session)
        key = make_api_key(session, organization)
        member = make_member(session, organization)
        operator = make_member(session, make_organization(session, name="运营", is_operator=True))
    sign_in(client, None, member)
    page = client.get("/flows/new?lang=zh", headers={"Accept": "text/html"}).text
    assert page.index(f"template={fine}") < page.index(f"template={broken}")
    page = client.get(f"/flows/new?template={broken}&lang=zh", headers={"Accept": "text/html"}).text
    assert "群消息没有发出" in page
    listed = client.get("/api/v1/flow-templates", headers=bearer(key)).json["items"]
    assert {one["key"]: one["proof"]["state"] for one in listed} == {broken: "failed", fine: "ok"}
    assert client.get("/operator/templates", headers={"Accept": "text/html"}).status_code == 403
    sign_in(client, None, operator)
    page = client.get("/operator/templates?lang=zh", headers={"Accept": "text/html"}).text
    assert "群消息没有发出" in page
