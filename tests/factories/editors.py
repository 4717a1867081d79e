"""The editor of a flow as a browser meets it: signing in, forms as they stand, the draft."""

import re

from factories.identity import make_member, make_user, sign_in

from connectors import flows
from connectors.tables import Flow
from identity.tables import Organization
from kernel.database import EVERY, reading, transaction


def enter(app, works, role="owner", name="老板"):
    """A browser of a member's."""
    browser = app.test_client()
    with transaction(EVERY) as session:
        organization = session.get(Organization, works.organization_id)
        member = make_member(session, organization, make_user(session, name=name), role)
        sign_in(browser, session, member)
    browser.member = member
    return browser


def text(answer) -> str:
    return answer.get_data(as_text=True)


def post(browser, path: str, **form):
    page = text(browser.get("/approvals"))
    token = re.search(r'name="csrf-token" content="([^"]*)"', page)[1]
    return browser.post(path, data={"csrf_token": token, **form})


def form_of(page: str) -> dict[str, str]:
    """What a browser would send of the editor's form."""
    form = page[page.index('id="editor"') :]
    found = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name = re.search(r'name="([^"]*)"', tag)
        if not name or ('type="checkbox"' in tag and "checked" not in tag):
            continue
        value = re.search(r'value="([^"]*)"', tag)
        found[name[1]] = unescape(value[1] if value else "")
    for name, value in re.findall(
        r'<textarea[^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', form, re.S
    ):
        found[name] = unescape(value)
    for attributes, body in re.findall(r"<select([^>]*)>(.*?)</select>", form, re.S):
        name = re.search(r'name="([^"]*)"', attributes)[1]
        chosen = re.search(r'<option value="([^"]*)" selected', body)
        first = re.search(r'<option value="([^"]*)"', body)
        found[name] = unescape((chosen or first)[1]) if (chosen or first) else ""
    return found


def unescape(value: str) -> str:
    for name, sign in (
        ("&#34;", '"'),
        ("&#39;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ):
        value = value.replace(name, sign)
    return value


def draft(works) -> dict:
    with reading(EVERY) as session:
        flow = session.get(Flow, (works.organization_id, works.flow))
        return flows.document_of(session, flow)
