"""The shop's pages: they draw in both languages, for whoever may see them, with true content."""

import re

import pytest
from factories.catalog import make_vendor, publish
from factories.identity import csrf_of, make_member, make_organization, sign_in
from factories.marketplace import BUNDLE, make_installation, page_headers, stock_the_shop

from kernel.database import EVERY, transaction
from kernel.settings import settings_override
from marketplace import rollouts
from marketplace.tables import Rollout, RolloutStep
from webhooks import events


@pytest.fixture
def member(database):
    """An owner of a firm on a stocked hub in demo mode."""
    stock_the_shop()
    with settings_override(demo=True), transaction(EVERY) as session:
        made = make_member(session, make_organization(session))
    with settings_override(demo=True):
        yield made


@pytest.fixture
def browser(app, member):
    """The owner's browser."""
    client = app.test_client()
    sign_in(client, None, member)
    return client


def read(client, path: str, status: int = 200) -> str:
    """The page at a path."""
    answer = client.get(path, headers=page_headers())
    assert answer.status_code == status, (path, answer.status_code, answer.get_data(as_text=True))
    return answer.get_data(as_text=True)


def make_rollout(member, state: str, **over) -> Rollout:
    """A rollout in some state with one step that shows it."""
    with transaction(EVERY) as session:
        row = Rollout(
            **{
                "organization_id": member.organization_id,
                "bundle_key": BUNDLE,
                "title": {"zh": "网店到账房", "en": "Shop to books"},
                "state": state,
                **over,
            }
        )
        session.add(row)
        session.flush()
        session.add(
            RolloutStep(
                organization_id=member.organization_id,
                rollout_id=row.id,
                position=0,
                kind="validate",
                title={"zh": "检查能不能安装", "en": "Check that it can be installed"},
                state={"active": "done", "absent": "failed"}.get(state, "running"),
            )
        )
        return row


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_page_draws_in_both_languages(browser, member, language):
    with transaction(EVERY) as session:
        link = make_installation(session, member.organization_id)
        hub_app = make_installation(
            session, member.organization_id, kind="hub", app_key="demo-shop", open_url=None
        )
    pages = ["/", "/toolbox", "/installations", "/installations?all=1", "/toolbox/links/new"]
    pages += ["/toolbox/links/new?app=gitea", f"/toolbox/links/{link.id}"]
    pages += [f"/installations/{hub_app.id}", f"/installations/{hub_app.id}/remove"]
    pages += [
        f"/bundles/{BUNDLE}/install",
        "/apps/demo-shop/install",
        "/bundles/metal-parts/install",
    ]
    for state in ("requested", "provisioning", "active", "compensating", "absent"):
        rollout = make_rollout(member, state)
        pages += [f"/rollouts/{rollout.id}", f"/rollouts/{rollout.id}/progress"]
    for path in pages:
        mark = "&" if "?" in path else "?"
        html = read(browser, f"{path}{mark}lang={language}")
        visible = re.sub(r"<[^>]+>", " ", html)
        assert "%(" not in visible, path
        if language == "zh" and "/progress" not in path:
            assert re.search("[一-鿿]", visible), path
            assert 'lang="zh-Hans"' in html


def test_no_page_carries_inline_script_or_style(browser, member):
    rollout = make_rollout(member, "provisioning")
    for path in ("/", "/toolbox", f"/bundles/{BUNDLE}/install", f"/rollouts/{rollout.id}"):
        html = read(browser, path)
        assert " style=" not in html
        assert " onclick=" not in html
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)", html)


def test_visitors_see_the_shop_with_counted_figures(app, member):
    html = read(app.test_client(), "/?lang=zh")
    assert "您现在最头疼的是" in html
    assert f"/bundles/{BUNDLE}" in html
    assert "123" in html  # 120 apps of the catalogue and the three demo apps
    # nothing has been installed here, so no time of an installation is claimed
    assert "安装一次用时" not in html


def test_my_hub_tells_events_in_words(browser, member):
    with transaction(EVERY) as session:
        for name in ("order.paid", "installation.created", "kiln.heated"):
            news = events.NewEvent(type=name, body=b"{}")
            events.accept(session, member.organization_id, None, [news])
    html = read(browser, "/?lang=zh")
    for word in ("订单已付款", "应用已安装", "kiln.heated"):
        assert f"<strong>{word}</strong>" in html


def test_my_hub_promises_nothing_to_those_who_may_not_look(app, member):
    client = app.test_client()
    with transaction(EVERY) as session:
        sign_in(client, session, make_member(session, role="member"))
    html = read(client, "/?lang=zh")
    assert "一切都在自动运行" not in html
    assert "没有等您处理的事" in html


@pytest.mark.parametrize(
    ("path", "form", "readable"),
    [
        ("/settings/api-keys", {"name": "ERP", "role": "member"}, "/settings/api-keys"),
        ("/settings/invitations", {"email": "no mail", "role": "member"}, "/settings/members"),
        ("/sources", {"scheme": "none"}, "/sources"),
        ("/runs/replay", {"flow_id": "flw_none"}, "/runs"),
        (
            "/sign-in",
            {"email": "a@b.example", "next": "/flows?a=1"},
            "/sign-in?next=/flows%3Fa%3D1",
        ),
    ],
)
def test_loading_an_answered_form_again_looks_and_sends_nothing(app, member, path, form, readable):
    client = app.test_client()
    if path != "/sign-in":
        sign_in(client, None, member)
    form = {**form, "csrf_token": csrf_of(client, "/" if path != "/sign-in" else path)}
    html = client.post(path, data=form, headers=page_headers()).get_data(as_text=True)
    assert f'<meta name="yf-here" content="{readable}">' in html
    assert client.get(readable, headers=page_headers()).status_code == 200


def test_an_install_page_says_what_a_plan_costs_and_who_bills(browser, member):
    with transaction(EVERY) as session:
        vendor = make_vendor(session, key="label-maker")
        plan = {
            "id": "standard",
            "name": {"zh": "标准版", "en": "Standard"},
            "price_fen": 9900,
            "period": "month",
            "per": "user",
            "trial_days": 14,
            "tax_included": True,
        }
        publish(session, vendor, id="label", connector="demo-chat", plans=[plan])
    html = read(browser, "/apps/label/install?lang=zh")
    text = re.sub(r"<[^>]+>|\s", "", html)
    assert "¥99.00/月含税·每个用户·试用14天" in text
    assert "由服务商向您收款，本平台不经手" in text


def test_an_install_page_says_who_gets_what(browser):
    html = read(browser, f"/bundles/{BUNDLE}/install?lang=zh")
    assert "http://127.0.0.1:" in html
    assert "¥0" in html
    assert 'name="is_agreed"' in html
    assert "events:send" in html


def test_a_bundle_the_hub_cannot_install_says_why_and_offers_no_button(browser):
    html = read(browser, "/bundles/metal-parts/install?lang=zh")
    assert 'name="is_agreed"' not in html
    assert "/toolbox/links/new" in html


def test_the_live_part_stops_asking_at_the_end(browser, member):
    going = read(browser, f"/rollouts/{make_rollout(member, 'provisioning').id}/progress")
    assert 'hx-trigger="every 1s"' in going
    assert "/cancel" in going
    for state in ("active", "absent"):
        over = read(browser, f"/rollouts/{make_rollout(member, state).id}/progress")
        assert "hx-trigger" not in over
    assert "<html" not in going


def test_a_slow_step_is_said_to_be_slow(browser, member):
    from datetime import timedelta

    from kernel import clock

    rollout = make_rollout(member, "provisioning")
    with transaction(EVERY) as session:
        step = rollouts.steps_of(session, rollout)[0]
        step.started_at = clock.now() - timedelta(seconds=2 * step.budget_seconds + 1)
        session.add(step)
    assert "比平时慢" in read(browser, f"/rollouts/{rollout.id}/progress?lang=zh")


def test_another_firm_sees_none_of_it(app, browser, member):
    rollout = make_rollout(member, "provisioning")
    with transaction(EVERY) as session:
        link = make_installation(session, member.organization_id)
        stranger = make_member(session, make_organization(session, name="别家"))
    other = app.test_client()
    sign_in(other, None, stranger)
    for path in (
        f"/rollouts/{rollout.id}",
        f"/rollouts/{rollout.id}/progress",
        f"/installations/{link.id}",
        f"/toolbox/links/{link.id}",
    ):
        read(other, path, status=404)
    token = csrf_of(other, "/toolbox")
    for path in (f"/rollouts/{rollout.id}/cancel", f"/toolbox/links/{link.id}/remove"):
        answer = other.post(path, data={"csrf_token": token}, headers=page_headers())
        assert answer.status_code == 404
    assert "自建进销存" not in read(other, "/toolbox")


def test_a_member_without_the_right_is_refused_and_offered_nothing(app, member):
    with transaction(EVERY) as session:
        worker = make_member(session, _organization(session, member), role="member")
    client = app.test_client()
    sign_in(client, None, worker)
    read(client, f"/bundles/{BUNDLE}/install", status=403)
    assert "/toolbox/links/new" not in read(client, "/toolbox")


def _organization(session, member):
    from identity.tables import Organization

    return session.get(Organization, member.organization_id)


def test_a_link_is_added_changed_and_taken_out(browser, member):
    token = csrf_of(browser, "/toolbox")
    wrong = browser.post(
        "/toolbox/links",
        data={"csrf_token": token, "name": "", "open_url": "javascript:alert(1)", "slot": "moon"},
        headers=page_headers(),
    )
    assert wrong.status_code == 422
    html = wrong.get_data(as_text=True)
    assert 'href="#f-open-url"' in html
    assert "javascript:alert" in html  # what was typed is still there to be corrected
    added = browser.post(
        "/toolbox/links",
        data={"csrf_token": token, "name": "自家 ERP", "open_url": "https://erp.example.com"},
        headers=page_headers(),
    )
    assert added.status_code == 303
    page = read(browser, "/toolbox?lang=zh")
    assert "自家 ERP" in page
    assert 'rel="noopener noreferrer"' in page
    link = re.search(r"/toolbox/links/(ins_\w+)", page).group(1)
    changed = browser.post(
        f"/toolbox/links/{link}",
        data={"csrf_token": token, "name": "老系统", "open_url": "http://10.0.0.8:8080/"},
        headers=page_headers(),
    )
    assert changed.status_code == 303
    assert "老系统" in read(browser, "/toolbox")
    browser.post(
        f"/toolbox/links/{link}/remove", data={"csrf_token": token}, headers=page_headers()
    )
    assert "老系统" not in read(browser, "/toolbox")


def test_forms_need_their_token(browser):
    answer = browser.post(
        "/toolbox/links",
        data={"name": "x", "open_url": "https://x.example"},
        headers=page_headers(),
    )
    assert answer.status_code == 403


def test_the_side_bar_holds_only_doors_that_open(app, browser, member):
    html = read(browser, "/")
    side = html[html.index('class="yf-side"') : html.index("</aside>")]
    paths = set(re.findall(r'href="(/[^"]*)"', side))
    assert "/toolbox" in paths
    for path in paths:
        answer = browser.get(path, headers=page_headers())
        assert answer.status_code == 200, (path, answer.status_code)
