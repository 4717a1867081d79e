"""The frame in a real browser: axe, keyboard, dialogs, htmx and the phone's sheet."""

import threading

import pytest
from factories.pages import page_app
from werkzeug.serving import make_server

from marketplace.assets import HOUSE

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app():
    return page_app()


@pytest.fixture(scope="module")
def address(app):
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join(5)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield started
        started.close()


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
    axe = (HOUSE / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
    page.evaluate(axe + ";0")
    found = page.evaluate("axe.run(document)")["violations"]
    grave = [
        (v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")
    ]
    assert grave == []
    assert page.complaints == []
    assert page.evaluate("document.documentElement.dataset.bsTheme") == theme
    ago = {"zh": "5分钟前", "en": "5 minutes ago"}[lang]
    assert page.locator("time[data-relative]").first.inner_text() == ago


def test_the_slash_key_the_skip_link_and_the_theme_button_work(open_page):
    page = open_page("/deeds")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "yf-skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("/")
    assert page.locator("[data-search-main]").input_value() == "/"
    page.click(".yf-top [data-theme-toggle]")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "dark"


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
    assert page.locator("#confirm-text").inner_text() == "确定删除吗？"
    page.click("#confirm button[value=no]")
    page.wait_for_timeout(100)
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
    assert page.evaluate("document.activeElement.id") == "f-name"
    asked = app.extensions["seen"]["polls"]
    page.click("#send")
    page.wait_for_selector("#answer [role=alert]")
    assert app.extensions["seen"]["posts"] == [(None, "a-token")]
    assert page.evaluate("document.activeElement.getAttribute('role')") == "alert"
    page.click("#answer a")
    assert page.evaluate("document.activeElement.id") == "f-name"
    page.wait_for_timeout(1300)
    assert app.extensions["seen"]["polls"] == asked
    page.click("[data-copy=evt_1]")
    assert "已复制" in page.locator("#toasts").inner_text()
    assert [line for line in page.complaints if "422" not in line] == []


def test_on_a_phone_the_last_door_opens_everything_else(open_page):
    page = open_page("/", width=360)
    assert not page.locator(".yf-side").is_visible()
    sheet = page.locator("#me-sheet")
    assert not sheet.is_visible()
    page.click(".yf-bottom button")
    assert sheet.is_visible()
    assert sheet.get_by_text("恒力精密机械").is_visible()
    page.keyboard.press("Escape")
    assert not sheet.is_visible()
    for box in page.locator(".yf-bottom > *").all():
        assert box.bounding_box()["height"] >= 44
