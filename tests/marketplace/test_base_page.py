"""The frame and every part, drawn in both languages, hold the rules that all pages live by."""

import json
import re
from html.parser import HTMLParser

import pytest
from factories.pages import POLL, UI, page_app
from flask import render_template_string

PARTS = """
badge(x)
state_dot(x)
slot(x)
copyable(x)
code(x)
code({x: x})
field(x, x, x, error=x, hint=x, attributes={"data-x": x})
textarea(x, x, x)
select(x, x, [(x, x)], x)
checkbox(x, x, value=x)
problem(x, x, x, x)
note(x)
empty(x, x, x, x)
stat(x, x, x, trend=x)
facts([(x, x)])
tabs([(x, x, true, x)], x)
steps([(x, "here")], x)
progress_list([{"label": x, "state": x, "message": x, "seconds": 1}], x, x)
flow_picture([{"app": x, "title": x, "note": x, "state": x}], x)
no_permission(x, [x])
post_button(x, x, confirm=x, hidden={x: x})
app_mark(x, x)
search_box(x, x, x, x)
filter_chips("a", [(x, x, x)], x, x)
error_summary([{'pointer': x, 'message': x}])
confidence(x, x)
tag(x)
submit(x, confirm=x, name=x, value=x)
""".strip().splitlines()


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text of inline scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def named(self, tag, **wanted):
        return [
            a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())
        ]


@pytest.fixture(scope="module")
def app():
    return page_app()


@pytest.fixture
def client(app):
    return app.test_client()


def draw(app, text, path="/list", **values):
    with app.test_request_context(path):
        return render_template_string(UI + text, **values).strip()


@pytest.mark.parametrize("lang", ["zh", "en"])
@pytest.mark.parametrize("path", ["/", "/?anonymous=1", "/error/404", "/error/500", "/deeds"])
def test_no_page_needs_more_than_the_strict_policy_allows(client, path, lang):
    text = client.get(path + ("&" if "?" in path else "?") + "lang=" + lang).text
    page = Reader(text)
    for tag, attrs in page.tags:
        assert "style" not in attrs, (tag, attrs)
        assert not [name for name in attrs if name.startswith(("on", "hx-on"))]
        if tag == "script":
            assert attrs["src"].startswith("/assets/")
    assert "<style" not in text
    assert page.named("html")[0]["lang"] == {"zh": "zh-Hans", "en": "en"}[lang]


def test_ids_are_unique_and_every_label_and_description_finds_its_field(client):
    page = Reader(client.get("/").text)
    ids = [attrs["id"] for _tag, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    for _tag, attrs in page.tags:
        for name in ("for", "aria-describedby", "popovertarget", "aria-labelledby"):
            for wanted in (attrs.get(name) or "").split():
                assert wanted in ids


def test_the_csrf_token_reaches_forms_and_htmx(client):
    page = Reader(client.get("/").text)
    assert page.named("meta", name="csrf-token")[0]["content"] == "a-token"
    assert json.loads(page.named("body")[0]["hx-headers:inherited"]) == {"X-CSRF-Token": "a-token"}
    json.loads(page.named("meta", name="htmx-config")[0]["content"])
    posts = [a for a in page.named("form") if a.get("method") == "post"]
    assert len(page.named("input", name="csrf_token", value="a-token")) == len(posts) > 3


def test_the_language_link_keeps_the_address(client):
    page = Reader(client.get("/?q=%E9%87%87%E8%B4%AD&slot=rnd&slot=a%26b").text)
    links = {a["href"] for a in page.named("a", hreflang="en")}
    assert links == {"/?q=%E9%87%87%E8%B4%AD&slot=rnd&slot=a%26b&lang=en"}
    assert (
        "lang=zh" in Reader(client.get("/?lang=en").text).named("a", hreflang="zh-Hans")[0]["href"]
    )


def test_the_frame_shows_where_one_is_and_who_one_is(client):
    text = client.get("/").text
    page = Reader(text)
    assert {"href": "/toolbox", "class": "yf-nav-link", "aria-current": "page"} in page.named("a")
    assert "空的组" not in text
    assert "恒力精密机械" in text
    assert [a["value"] for a in page.named("button", name="organization_id")] == ["org_2", "org_2"]
    assert page.named("a", href="#main")[0]["class"] == "yf-skip"
    stranger = client.get("/?anonymous=1").text
    assert 'href="/sign-in"' in stranger
    assert "/sign-out" not in stranger


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503])
@pytest.mark.parametrize(
    ("lang", "safe", "todo"), [("zh", "请放心", "怎么办"), ("en", "What is safe", "What to do")]
)
def test_every_error_says_what_is_safe_what_to_do_and_its_number(client, status, lang, safe, todo):
    answer = client.get(f"/error/{status}?lang={lang}")
    assert answer.status_code == status
    assert all(words in answer.text for words in (safe, todo, 'data-copy="trc_1"'))


def test_an_error_for_htmx_is_a_part_and_not_a_page(client):
    text = client.get(
        "/error/404", headers={"HX-Request": "true", "HX-Request-Type": "partial"}
    ).text
    assert text.strip().startswith('<div class="yf-problem')
    assert "<html" not in text


@pytest.mark.parametrize(
    ("fen", "shown"),
    [
        (0, "¥0.00"),
        (5, "¥0.05"),
        (123400, "¥1,234.00"),
        (-2050, "−¥20.50"),
        (10**17 + 1, "¥1,000,000,000,000,000.01"),
    ],
)
def test_money_is_exact(app, fen, shown):
    assert re.sub("<[^>]+>", "", draw(app, "{{ ui.money(fen) }}", fen=fen)) == shown


def test_money_says_its_period_and_tax(app):
    text = draw(app, '{{ ui.money(99900, "year", true) }}', path="/?lang=en")
    assert re.sub("<[^>]+>", "", text) == "¥999.00 /year incl. tax"


def test_links_keep_the_filters_and_drop_what_they_replace(app):
    path = "/list?slot=rnd&slot=logistics&cursor=old&lang=en"
    assert 'href="/list?slot=rnd&amp;slot=logistics&amp;cursor=n%2Bx"' in draw(
        app, '{{ ui.pager("n+x") }}', path
    )
    chips = draw(
        app, '{{ ui.filter_chips("slot", [("rnd", "R", 2), ("x", "X", none)], "rnd", "S") }}', path
    )
    assert re.findall(r'class="yf-chip" href="([^"]+)"( aria-current)?', chips) == [
        ("/list", " aria-current"),
        ("/list?slot=x", ""),
    ]
    assert draw(app, "{{ ui.pager(none) }}") == ""


@pytest.mark.parametrize("part", PARTS)
def test_no_part_lets_markup_through(app, part):
    text = draw(app, "{{ ui." + part + " }}", x="\"'><script>alert(1)</script>")
    assert "<script" not in text
    assert not [
        a for _tag, a in Reader(text).tags if any(name.startswith(("on", "<")) for name in a)
    ]


def test_a_state_is_an_icon_and_a_word_and_an_unknown_one_shows_itself(app):
    known = draw(app, '{{ ui.badge("failed") }}', "/?lang=zh")
    assert "#circle-x" in known
    assert known.endswith("失败</span>")
    assert draw(app, '{{ ui.badge("made_up 100%") }}').endswith("made_up 100%</span>")


def test_every_state_of_the_books_has_a_name():
    from catalog import tables as catalog
    from marketplace import states, tables

    books = [*catalog.VENDOR_STATES, *catalog.RELEASE_STATES, *catalog.LISTING_STATES]
    books += [*tables.INSTALLATION_STATES, *tables.ROLLOUT_STATES, *tables.STEP_STATES]
    assert [state for state in books if state not in states.STATES] == []


def test_a_finished_progress_list_stops_asking(app):
    asking = draw(app, POLL.removeprefix(UI), done=False)
    assert 'hx-get="/poll"' in asking
    assert 'aria-busy="true"' in asking
    done = draw(app, POLL.removeprefix(UI), done=True)
    assert "hx-get" not in done
    assert 'aria-busy="false"' in done


def test_counts_read_well_in_both_languages(client):
    assert "（31 条评价）" in client.get("/?lang=zh").text
    assert "(31 reviews)" in client.get("/?lang=en").text
    assert "One value is not right" in client.get("/?lang=en").text
