import pytest
from factories.catalog import make_app, make_vendor, manifest, manifest_text, publish
from factories.identity import make_organization
from sqlalchemy import select

from catalog import apps, releases, search, vendors
from catalog.tables import Release
from kernel import outbox
from kernel.errors import Conflict, Forbidden, Invalid, NotFound


def scope(name, sensitivity="low"):
    return {"id": name, "reason": {"zh": "用", "en": "use"}, "sensitivity": sensitivity}


def test_the_way_of_a_release_from_manifest_to_shelf(session):
    vendor = make_vendor(session)
    release = releases.submit(session, vendor, manifest_text(), "usr_vendor")
    assert release.state == "in_review"
    assert [row.id for row, _, _ in releases.waiting(session)] == [release.id]
    assert search.search(session, "小帮手").total == 0
    releases.approve(session, release.id, "好", "usr_operator")
    assert releases.waiting(session) == []
    releases.publish(session, release.id)
    session.flush()
    app, listing, _, shown = apps.shelf(session, "acme-desk")
    assert (shown.id, listing.release_id) == (release.id, release.id)
    assert [hit.key for hit in search.search(session, "小帮手").hits] == ["acme-desk"]
    assert apps.confidence_of(app, "licence") == "vendor"
    assert apps.published_release(session, "acme-desk").version == "1.0.0"


def test_a_wrong_manifest_makes_no_row_and_says_the_lines(session):
    vendor = make_vendor(session)
    with pytest.raises(Invalid) as refused:
        releases.submit(session, vendor, manifest_text(layer="attic"), None)
    (error,) = refused.value.errors
    assert error["pointer"] == "/layer"
    assert error["line"] > 1
    assert error["message"].startswith(f"Line {error['line']}:")
    assert len(session.execute(select(Release)).all()) == 0


def test_a_version_is_spent_once_sent_unless_it_was_refused(session):
    vendor = make_vendor(session)
    first = releases.submit(session, vendor, manifest_text(), None)
    with pytest.raises(Conflict):
        releases.submit(session, vendor, manifest_text(), None)
    releases.reject(session, first.id, "图标太小", "usr_operator")
    again = releases.submit(session, vendor, manifest_text(), None)
    assert again.id != first.id


def test_versions_only_rise(session):
    vendor = make_vendor(session)
    publish(session, vendor, version="1.10.0")
    with pytest.raises(Conflict):
        releases.submit(session, vendor, manifest_text(version="1.9.0"), None)
    releases.submit(session, vendor, manifest_text(version="1.10.1"), None)
    order = ["0.9.9", "1.0.0-alpha", "1.0.0-alpha.2", "1.0.0-alpha.10", "1.0.0", "1.0.1", "1.10.0"]
    assert sorted(order, key=releases.version_key) == order


def test_an_app_belongs_to_the_vendor_that_named_it_first(session):
    publish(session, make_vendor(session))
    stranger = make_vendor(session, key="other")
    with pytest.raises(Conflict):
        releases.submit(session, stranger, manifest_text(version="2.0.0"), None)
    make_app(session, key="gitea")
    with pytest.raises(Conflict):
        releases.submit(session, stranger, manifest_text(id="gitea"), None)


def test_decisions_are_made_once_by_somebody_else_and_refusals_say_why(session):
    vendor = make_vendor(session)
    release = releases.submit(session, vendor, manifest_text(), "usr_one")
    with pytest.raises(Forbidden):
        releases.approve(session, release.id, None, "usr_one")
    with pytest.raises(Invalid):
        releases.reject(session, release.id, "  ", "usr_two")
    releases.reject(session, release.id, "缺隐私说明", "usr_two")
    with pytest.raises(Conflict):
        releases.approve(session, release.id, None, "usr_two")
    with pytest.raises(Conflict):
        releases.publish(session, release.id)


def test_a_stranger_s_release_is_not_found(session):
    release = publish(session, make_vendor(session))
    with pytest.raises(NotFound):
        releases.find_own(session, make_vendor(session, key="other"), release.id)


def test_new_and_stronger_rights_stand_out(session):
    vendor = make_vendor(session)
    publish(session, vendor, scopes=[scope("aa:read"), scope("bb:read"), scope("cc:read")])
    second = releases.submit(
        session,
        vendor,
        manifest_text(
            version="1.1.0", scopes=[scope("aa:read"), scope("bb:read", "high"), scope("dd:write")]
        ),
        None,
    )
    asked = releases.changes(session, second)
    assert asked["since"] == "1.0.0"
    assert [s["id"] for s in asked["added"]] == ["dd:write"]
    assert [s["id"] for s in asked["dropped"]] == ["cc:read"]
    assert [s["id"] for s in asked["stronger"]] == ["bb:read"]


def test_a_new_release_takes_the_shelf_over(session):
    vendor = make_vendor(session)
    publish(session, vendor)
    publish(session, vendor, version="2.0.0", name={"zh": "大帮手", "en": "Acme Desk"})
    assert search.search(session, "大帮手").total == 1
    assert search.search(session, "小帮手").is_partial or not search.search(session, "小帮手").hits
    assert apps.published_release(session, "acme-desk").version == "2.0.0"


def test_publishing_is_told_in_the_words_of_the_house(session):
    from catalog import event_types

    organization = make_organization(session)
    told = []

    def door(_session, organization_id, name, data, subject):
        told.append((organization_id, name, data, subject))
        return "evt_1"

    outbox.DOORS.append(door)
    try:
        publish(session, make_vendor(session, organization_id=organization.id))
    finally:
        outbox.DOORS.remove(door)
    ((organization_id, name, data, subject),) = told
    assert (organization_id, name, subject) == (
        organization.id,
        "release.published",
        "acme-desk/1.0.0",
    )
    assert event_types.validator(event_types.find(None, None, name))(data) == []


def test_only_admitted_vendors_publish(session):
    organization = make_organization(session)
    with pytest.raises(Forbidden):
        vendors.publisher(session, organization.id)
    vendor = vendors.apply(
        session,
        organization.id,
        name={"zh": "艾克美", "en": "Acme Ltd."},
        contact_email="a@example.com",
        credit_code="91321000MA1Q7XK282",
    )
    assert (vendor.key, vendor.state) == ("acme-ltd", "applied")
    with pytest.raises(Forbidden):
        vendors.publisher(session, organization.id)
    vendors.reject(session, vendor.id, "证照看不清", "usr_operator")
    assert (
        vendors.apply(
            session, organization.id, name=vendor.name, contact_email="b@example.com"
        ).state
        == "applied"
    )
    vendors.verify(session, vendor.id, "usr_operator")
    session.flush()
    assert organization.is_vendor
    assert vendors.publisher(session, organization.id).id == vendor.id
    vendors.suspend(session, vendor.id, "投诉", "usr_operator")
    assert not organization.is_vendor
    with pytest.raises(Forbidden):
        vendors.publisher(session, organization.id)


@pytest.mark.parametrize(
    ("code", "is_good"),
    [
        ("91321000MA1Q7XK282", True),
        ("91310115MA1H9WT354", True),
        ("91321000MA1Q7XK283", False),
        ("91321000MA1Q7XK28", False),
        ("91321000MA1Q7XK28O", False),
        ("", False),
    ],
)
def test_a_credit_code_has_a_check_character(code, is_good):
    assert vendors.is_credit_code(code) is is_good


def test_a_mistyped_credit_code_is_refused(session):
    organization = make_organization(session)
    with pytest.raises(Invalid):
        vendors.apply(
            session,
            organization.id,
            name={"zh": "甲", "en": "A"},
            contact_email="a@example.com",
            credit_code="91321000MA1Q7XK283",
        )


def test_two_vendors_of_one_name_get_two_keys(session):
    name = manifest()["name"]
    keys = [
        vendors.apply(
            session, make_organization(session).id, name=name, contact_email="a@example.com"
        ).key
        for _ in range(3)
    ]
    assert keys == ["acme-desk", "acme-desk-2", "acme-desk-3"]
