"""The frame in a real browser: axe, keyboard, dialogs, htmx and the phone's sheet."""

import threading

import pytest
from factories.pages import page_app
from journeys.browser import barriers, browsing, chromium
from playwright.sync_api import expect
from werkzeug.serving import make_server

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app():
    return page_app()


@pytest.fixture(scope="module")
def address(app):
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.03,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join(5)


@pytest.fixture(scope="module")
def browser():
    if chromium() is None:
        pytest.skip("Chromium is not installed")
    with browsing() as started:
        yield started


@pytest.fixture
def open_page(browser, address):
    contexts = []

    def opened(path, *, width=1280, theme="light", lang="zh"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda line: page.complaints.append(line.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(f"{address}{path}?lang={lang}")
        page.wait_for_load_state("load")
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("width", "lang", "theme"),
    [(1280, "zh", "light"), (1280, "en", "dark"), (360, "zh", "dark"), (360, "en", "light")],
)
def test_axe_finds_nothing_and_nothing_sticks_out(open_page, width, lang, theme):
    page = open_page("/", width=width, theme=theme, lang=lang)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert barriers(page) == []
    assert page.complaints == []
    assert page.evaluate("document.documentElement.dataset.bsTheme") == theme
    ago = {"zh": "5分钟前", "en": "5 minutes ago"}[lang]
    expect(page.locator("time[data-relative]").first).to_have_text(ago)


def test_the_slash_key_the_skip_link_and_the_theme_button_work(open_page):
    page = open_page("/deeds")
    page.keyboard.press("Tab")
    expect(page.locator(".yf-skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("[data-search-main]")).to_be_focused()
    page.keyboard.type("/")
    expect(page.locator("[data-search-main]")).to_have_value("/")
    page.click(".yf-top [data-theme-toggle]")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")


def test_the_shortcut_can_be_switched_off(open_page):
    page = open_page("/deeds")
    page.click(".yf-who-button")
    page.locator(".yf-who [data-shortcut-switch]").uncheck()
    page.reload()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.tagName") == "BODY"


def test_a_question_is_asked_first_and_the_answer_counts(open_page, app):
    page = open_page("/deeds")
    posts = app.extensions["seen"]["posts"]
    posts.clear()
    page.click("form[action='/deeds'] button")
    expect(page.locator("#confirm-text")).to_have_text("确定删除吗？")
    page.click("#confirm button[value=no]")
    expect(page.locator("#confirm")).to_be_hidden()
    page.wait_for_timeout(100)  # a post that nobody meant would be under way by now
    assert posts == []
    page.click("form[action='/deeds'] button")
    with page.expect_navigation():
        page.click("#confirm button[value=yes]")
    assert posts == [("a-token", None)]


def test_htmx_sends_the_token_shows_a_422_and_moves_focus_but_polling_does_not(open_page, app):
    app.extensions["seen"].update(polls=0, posts=[])
    page = open_page("/deeds")
    page.focus("#f-name")
    page.wait_for_selector("#progress[aria-busy=false]", timeout=8000)
    expect(page.locator("#f-name")).to_be_focused()
    asked = app.extensions["seen"]["polls"]
    page.click("#send")
    expect(page.locator("#answer [role=alert]")).to_be_focused()
    assert app.extensions["seen"]["posts"] == [(None, "a-token")]
    page.click("#answer a")
    expect(page.locator("#f-name")).to_be_focused()
    page.wait_for_timeout(1300)  # a poll would have come round by now
    assert app.extensions["seen"]["polls"] == asked
    page.click("[data-copy=evt_1]")
    expect(page.locator("#toasts")).to_contain_text("已复制")
    assert [line for line in page.complaints if "422" not in line] == []


def test_on_a_phone_the_last_door_opens_everything_else(open_page):
    page = open_page("/", width=360)
    assert not page.locator(".yf-side").is_visible()
    sheet = page.locator("#me-sheet")
    assert not sheet.is_visible()
    page.click(".yf-bottom button")
    expect(sheet).to_be_visible()
    expect(sheet.get_by_text("恒力精密机械")).to_be_visible()
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    for box in page.locator(".yf-bottom > *").all():
        assert box.bounding_box()["height"] >= 44
