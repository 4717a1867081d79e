"""A subscriber's portal inside a frame of a partner's website, and nowhere else."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from journeys.browser import DESKTOP, PHONE, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("portal")]


@contextmanager
def website():
    """A website that shows one frame; gives its origin, and what says where the frame leads."""
    leads = {"to": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            frame = f'<iframe src="{leads["to"]}" width="100%" height="700"></iframe>'
            page = f"<!doctype html><title>x</title>{frame}".encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.03,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", leads
    finally:
        server.shutdown()
        server.server_close()


def link_for(town, origin):
    asked = {"subscriber_name": "Framed", "event_types": ["order.*"], "origins": [origin]}
    return town.owner.call("POST", "/portal-links", asked)


@pytest.mark.parametrize(
    ("size", "language"), [(DESKTOP, "zh-CN"), (PHONE, "en-GB")], ids=["desktop-zh", "phone-en"]
)
def test_a_partner_works_inside_the_frame_of_its_own_website(town, browser, size, language):
    with website() as (origin, leads):
        leads["to"] = link_for(town, origin)["url"]
        visitor = Visitor(browser, town.url, size=size, language=language)
        visitor.page.goto(origin)
        frame = visitor.page.frame_locator("iframe")
        # nobody presses “open” here: the frame comes in by itself
        frame.locator("a[href='/portal/endpoints/new']").first.click()
        frame.locator("[name=url]").fill(f"http://127.0.0.1:{town.hub.sink_port}/framed")
        frame.locator("input[value='order.paid']").check()
        frame.locator("form[action='/portal/endpoints'] button[type=submit]").click()
        frame.locator("text=whsec_").first.wait_for()
        frame.locator("form[action$='/pause'] button").click()
        frame.locator("#confirm button[value=yes]").click()
        frame.locator("form[action$='/resume']").wait_for()
        visitor.page.screenshot(path=f"artefacts/journeys/portal-framed-{language[:2]}.png")
        assert not visitor.complaints


def test_no_other_website_can_frame_it(town, browser):
    with website() as (origin, leads):
        leads["to"] = link_for(town, "https://portal.example.com")["url"]
        visitor = Visitor(browser, town.url)
        visitor.page.goto(origin)
        visitor.page.wait_for_timeout(1500)
        assert any("frame-ancestors" in one for one in visitor.complaints), visitor.complaints
        # the frame was never drawn, so the address is still unused
        alone = Visitor(browser, town.url)
        alone.go(leads["to"])
        alone.press("form[data-enter] button")
        assert alone.page.url.endswith("/portal")
