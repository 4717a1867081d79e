"""Every page there is: it fits its screen, speaks its language and shuts nobody out."""

from collections import Counter, deque

import pytest
from flask import Flask
from journeys.browser import DESKTOP, PHONE, PICTURES, WITH_PICTURES, Visitor, barriers

from identity import roles
from identity.guard import access_of

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("pages")]

# Answers that no person looks at as a page.
NO_PAGES = {
    "/connections/oauth/callback": "only an app sends a browser here, back from its own sign-in",
    "/assets/<digest>/<path:name>": "files",
    "/connectors/<key>/icon.svg": "a picture",
    "/decide/<token>": "leads on to the approval's page, or is for whoever has the link alone",
    "/in/<token>": "events come in here",
    "/payloads/<token>": "an event's data",
    "/portal/colours.css": "a style sheet",
    "/schemas/<event_type>/<int:version>.json": "a JSON Schema",
    "/endpoints/<endpoint_id>/public-key.pem": "a file",
    "/sheet-template": "a file",
    "/exports/<export_id>/file": "a file",
    "/healthz": "for machines",
    "/readyz": "for machines",
    "/metrics": "for machines",
    "/operator/health/live": "a part of the health page",
    "/suspended": "for whoever is of a suspended organization",
    "/bulk-replays/<bulk_replay_id>/live": "a part of the bulk replay's page",
    "/rollouts/<rollout_id>/progress": "a part of the rollout's page",
    "/runs/<run_id>/live": "a part of the run's page",
    "/stores/<collection>/csv": "a file",
    "/connections/<connection_id>/lookups/<lookup_key>": "a part of the editor's form",
    "/recovery/<incident_id>/live": "a part of the incident's page",
    "/vendor/connectors/<edition_id>/live": "a part of the version's page",
}
# What the addresses of shared things are filled with.
SHARED = {
    "/slots/<slot_id>": ["production"],
    "/apps/<key>": ["erpnext", "dock-planner"],
    "/apps/<key>/install": ["demo-chat", "erpnext"],
    "/bundles/<key>": ["order-to-chat"],
    "/bundles/<key>/install": ["order-to-chat"],
    "/connectors/<key>": ["demo-erp"],
    "/events-catalogue/<name>": ["order.paid", "factory.counted"],
}
# The same addresses, asked so that they show something else.
MORE = [
    "/apps?slot=production&licence=open-source", "/apps?q=nothing+of+that+kind",
    "/compare?a=erpnext&a=odoo-ce", "/search?q=erp", "/connections/new?connector=demo-erp",
    "/flows/new?template=order-to-erp-to-chat", "/sources/new?scheme=hmac",
    "/sources/new?scheme=github", "/runs?view=parked", "/events?state=rejected",
    "/recovery?view=closed",
    "/approvals?view=others", "/approvals?view=decided",
    "/archive?q=12345", "/installations?all=1", "/toolbox/links/new?app=erpnext",
    "/events-catalogue?q=付款", "/events-catalogue/factory.counted?version=1",
]  # fmt: skip
# only for whoever is not in
STRANGERS = [
    "/", "/sign-in", "/sign-up", "/invitations/<secret>", "/portal/enter/<secret>",
    "/reconnect/<secret>",
]  # fmt: skip
ENOUGH_ALIKE = 20
OWNER = roles.permissions_of("owner")
VENDOR = OWNER | roles.VENDOR_PERMISSIONS


def tour(app: Flask, town) -> list[tuple[str, str]]:
    """Who looks at what: every page of the application, and what is asked of it besides."""
    found = [("nobody", path) for rule in STRANGERS for path in paths(rule, town)]
    for rule in sorted({rule.rule for rule in page_rules(app)} - set(STRANGERS[1:])):
        view = app.view_functions[next(r.endpoint for r in page_rules(app) if r.rule == rule)]
        is_portal = rule == "/portal" or rule.startswith("/portal/")
        who = "partner" if is_portal else who_may(access_of(view))
        found += [(who, path) for path in paths(rule, town)]
    return found + [("owner", path) for path in MORE] + [("applicant", "/vendor/apply")]


def page_rules(app: Flask):
    return [
        rule
        for rule in app.url_map.iter_rules()
        if "GET" in rule.methods and not rule.rule.startswith("/api/") and rule.rule not in NO_PAGES
    ]


def who_may(access) -> str:
    needed = set(access.permissions)
    if needed <= OWNER:
        return "owner"
    return "vendor" if needed <= VENDOR else "operator"


def paths(rule: str, town) -> list[str]:
    """The address with the town's things; one that the town does not have is an error."""
    if "<" not in rule:
        return [rule]
    before, _, rest = rule.partition("<")
    name, _, after = rest.partition(">")
    values = SHARED.get(rule) or town.things.get(rule) or town.things.get(name)
    assert values, f"{rule}: give the town a {name}, so that this page is looked at"
    return [f"{before}{value}{after}" for value in values]


@pytest.fixture(scope="module")
def pages(town) -> list[tuple[str, str]]:
    from marketplace.app import create_app

    return tour(create_app(), town)


class Party:
    """The town's people at screens of one size, reading one language."""

    def __init__(self, browser, town, size, language) -> None:
        self.new = lambda person: Visitor(
            browser, town.url, size=size, language=language, person=person, closely=True
        )
        self.town, self.visitors = town, {}

    def visitor(self, who: str) -> Visitor:
        """The browser of one of them."""
        if who not in self.visitors:
            self.visitors[who] = self.new(None if who == "nobody" else getattr(self.town, who))
        return self.visitors[who]

    def complaints(self) -> list[str]:
        """What the browsers complained about."""
        return [one for visitor in self.visitors.values() for one in visitor.complaints]


@pytest.mark.timeout(900)  # a hundred pages, on a machine that may have much else to do
@pytest.mark.parametrize(
    ("size", "other", "language"),
    [(DESKTOP, PHONE, "zh-CN"), (PHONE, DESKTOP, "en-GB")],
    ids=["desktop-zh", "phone-en"],
)
def test_every_page_fits_speaks_and_shuts_nobody_out(town, pages, browser, size, other, language):
    """Open every page at one screen, look closely, and see that it fits the other one as well.

    The hub does not know how large a screen is, and each page is opened at both: one a language.
    """
    party, found = Party(browser, town, size, language), []
    for who, path in pages:
        visitor = party.visitor(who)
        visitor.go(path)
        found += [f"{path}: {one}" for one in faults_of(visitor, path, language)]
        found += [f"{path}: {barrier}" for barrier in barriers(visitor.page)]
        keep(visitor, size, language, who, path)
        with visitor.at(other):
            found += [f"{path}, at the other screen: {one}" for one in visitor.overhang()]
            keep(visitor, other, language, who, path)
    found += party.complaints()
    assert not found, "\n".join(found)


def keep(visitor, size, language: str, who: str, path: str) -> None:
    """Keep a picture of the page for people who want one."""
    if WITH_PICTURES:
        short = f"{'phone' if size is PHONE else 'desktop'}-{language[:2]}"
        name = f"{short}-{who}{path}".replace("/", "-").replace("?", "-").replace("&", "-")
        visitor.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def faults_of(visitor, path: str, language: str) -> list[str]:
    page = visitor.page
    words = page.inner_text("main h1")
    found = visitor.overhang()
    spoken = page.evaluate("document.documentElement.lang")
    if spoken != {"zh-CN": "zh-Hans", "en-GB": "en"}[language]:
        found.append(f"speaks {spoken}")
    # what somebody has named is shown as they wrote it
    is_ours = not has_id(path) and "扬帆" not in words
    if is_ours and has_chinese(words) != (language == "zh-CN"):
        found.append(f"is headed “{words}”")
    return found


def has_id(path: str) -> bool:
    return any(character.isdigit() for character in path)


def has_chinese(words: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in words)


@pytest.mark.parametrize(
    ("size", "language"), [(DESKTOP, "zh-CN"), (PHONE, "en-GB")], ids=["desktop-zh", "phone-en"]
)
def test_a_page_that_is_not_there_helps_on(town, browser, size, language):
    visitor = Visitor(browser, town.url, size=size, language=language, person=town.owner)
    visitor.go("/no/such/page")
    assert visitor.page.locator("main a[href]").count() >= 1
    visitor.examine(f"not-there-{language[:2]}")


def test_axe_would_find_a_barrier(town, browser):
    visitor = Visitor(browser, town.url)
    visitor.go("/help")
    visitor.page.evaluate(
        "document.querySelector('.yf-search input').removeAttribute('aria-label')"
    )
    visitor.page.evaluate(
        "document.querySelector('.yf-search input').removeAttribute('placeholder')"
    )
    assert [one for one in barriers(visitor.page) if one.startswith("label:")]


def test_what_fits_one_screen_only_would_be_found(town, browser):
    visitor = Visitor(browser, town.url)
    visitor.go("/help")
    visitor.page.evaluate("document.querySelector('main').style.minWidth = '500px'")
    assert not visitor.overhang()
    with visitor.at(PHONE):
        assert visitor.overhang()
    assert not visitor.overhang()


def test_no_link_is_dead(town, pages, browser):
    """Follow every link of every page, each for the person who can see it.

    Of the many that differ in their last part alone, such as the apps, some stand for all.
    """
    seen, dead, alike = set(), [], Counter()
    for who in ("owner", "vendor", "operator", "partner"):
        visitor = Visitor(browser, town.url, person=getattr(town, who))
        visitor.go("/help")
        waiting = deque(path for one, path in pages if one == who)
        while waiting:
            path = waiting.popleft()
            # filters make addresses without end, and each page offers the other language
            kind = path.partition("?")[0].rpartition("/")[0]
            if path in seen or path.count("&") or "lang=" in path or alike[kind] >= ENOUGH_ALIKE:
                continue
            seen.add(path)
            alike[kind] += kind != ""
            answer = visitor.context.request.get(path, headers={"Accept": "text/html"})
            if answer.status != 200:
                dead.append(f"{path}: {answer.status}")
            if "text/html" in answer.headers.get("content-type", ""):
                waiting += links_of(visitor, answer.text())
    assert not dead, "\n".join(dead)
    assert len(seen) > 150


def links_of(visitor, html):
    found = visitor.page.evaluate(
        """html => [...new DOMParser().parseFromString(html, 'text/html')
            .querySelectorAll('a[href]')].map(a => a.getAttribute('href'))
            .filter(h => h.startsWith('/') && !h.startsWith('//'))""",
        html,
    )
    return [href.split("#")[0] for href in found]
