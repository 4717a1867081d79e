"""The page a person sees at a lab vendor: what came in, an order button, and the fault switch."""

import json
from collections.abc import Mapping
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from connectors.engine.connector import Connector
from connectors.engine.findings import Say, say
from connectors.lab import vendor_answers
from connectors.lab.vendor_calls import Answer, Call, refusal
from connectors.lab.vendor_ledger import Ledger
from kernel import documents
from kernel.errors import Problem
from kernel.settings import settings


class Shown(Protocol):
    """What a page needs of a vendor."""

    connector: Connector
    ledger: Ledger

    def emit(self, stated: Mapping[str, Any]) -> dict[str, Any]:
        """Send events."""

    def behave(self, stated: Mapping[str, Any]) -> dict[str, Any]:
        """Switch a fault on or off."""


STYLE = (Path(__file__).parent / "vendor_page.css").read_bytes()
SHOWN = 50
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'"

WORDS: dict[str, Say] = {
    "demo": say("演示应用", "Demo app"),
    "lead": say(
        "这是一个用来试用平台的演示应用，数据只保存在这台电脑上。",
        "A demo app for trying the hub; its data stays on this computer.",
    ),
    "received": say("收到的单据和消息", "Received documents and messages"),
    "none": say(
        "还没有收到内容。装好流程后，新内容会出现在这里。",
        "Nothing yet. Once a flow runs, what it sends shows up here.",
    ),
    "when": say("时间", "Time"),
    "what": say("内容", "Content"),
    "number": say("编号", "Number"),
    "action": say("动作", "Action"),
    "times": say("次数", "Requests"),
    "order": say("下一笔订单", "Place an order"),
    "order_help": say(
        "会生成一笔新订单，并通知所有已连接的平台。",
        "Makes a new order and tells every connected hub.",
    ),
    "emit": say("发出事件", "Send an event"),
    "event": say("事件", "Event"),
    "count": say("数量", "How many"),
    "send": say("发出", "Send"),
    "fault": say("模拟故障", "Simulate a fault"),
    "fault_help": say(
        "切换后立即生效，改回“正常”即恢复。", "Takes effect at once; choose “Normal” to recover."
    ),
    "set": say("切换", "Switch"),
    "events": say("发出的事件", "Events sent"),
    "no_events": say("还没有发出事件。", "No events sent yet."),
    "no_hub": say(
        "还没有平台登记回调地址：发出的事件没有人接收。",
        "No hub has subscribed yet, so nobody receives events.",
    ),
    "state": say("状态", "State"),
    "connected": say("已连接", "Connected"),
    "requests": say("请求", "Requests"),
    "refused": say("拒绝", "Refused"),
    "documents": say("单据", "Documents"),
    "now": say("当前", "Now"),
    "language": say("English", "中文"),
}
# Fields that the demo apps' own interfaces have and no schema names.
FIELDS: dict[str, Say] = {"order_date": say("下单日期", "Order date")}
MODES: dict[str, Say] = {
    "ok": say("正常", "Normal"),
    "down": say("停机（503）", "Down (503)"),
    "slow": say("变慢（5 秒）", "Slow (5 s)"),
    "reject": say("拒收内容（如账期已关闭）", "Reject content (e.g. period closed)"),
    "unauthorized": say("凭据失效（401）", "Credentials refused (401)"),
    "rate_limited": say("限流（429）", "Rate limited (429)"),
    "lost": say("处理后断线（没有回应）", "Work done, answer lost"),
    "lossy": say("丢失约三成回调（不再重发）", "Loses three in ten webhooks for good"),
    "error_in_ok": say("HTTP 200 里夹着错误码", "An error code inside HTTP 200"),
    "malformed": say("用网页代替 JSON 回答", "A web page instead of JSON"),
    "expire_early": say("令牌提前失效", "Tokens end early"),
    "doubled": say("每个回调发两次", "Every webhook twice"),
    "shuffled": say("回调不按顺序", "Webhooks out of order"),
}
STATES: dict[str, Say] = {
    "waiting": say("等待发送", "Waiting"),
    "taken": say("已接收", "Taken"),
    "refused": say("被拒收", "Refused"),
    "dropped": say("已取消订阅", "Unsubscribed"),
    "lost": say("已丢失", "Lost"),
}


def serve(app: Shown, call: Call) -> Answer:
    """Answer a request for the page, its style, or one of its two forms."""
    if call.path == "/style.css":
        headers = {"Content-Type": "text/css; charset=utf-8", "Cache-Control": "max-age=300"}
        return Answer(200, STYLE, headers)
    if call.method == "POST":
        _own_page_only(call)
        form = {name: one[-1] for name, one in parse_qs(call.raw.decode("utf-8")).items()}
        if call.path == "/_page/emit":
            app.emit({"trigger": form.get("trigger"), "count": form.get("count", 1)})
        elif call.path == "/_page/behaviour":
            app.behave({"mode": form.get("mode"), "seconds": 5})
        back = f"/?lang={form['lang']}" if form.get("lang") in ("en", "zh") else "/"
        return Answer(303, b"", {"Location": back})
    language = _spoken(call)
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return Answer(200, page(app, language).encode(), headers)


def _own_page_only(call: Call) -> None:
    """Refuse a form another web site posts: the vendor listens on the visitor's own computer."""
    origin = call.headers.get("origin")
    if origin not in (None, "null") and urlsplit(origin).netloc != call.headers.get("host"):
        raise refusal(403, "OTHER_SITE", "The form does not come from this page")
    if call.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise refusal(403, "OTHER_SITE", "The form does not come from this page")


def _spoken(call: Call) -> str:
    """Return the language that was asked for, else the one the browser names first."""
    wish = call.query.get("lang") or call.headers.get("accept-language", "")
    return "en" if wish.lower().startswith("en") else "zh"


def page(app: Shown, language: str) -> str:
    """Return the page in one language."""

    def word(name: str) -> str:
        return escape(WORDS[name][language])

    connector = app.connector
    title = escape(connector.title[language])
    other = "/?lang=zh" if language == "en" else "/?lang=en"
    parts = [
        "<!doctype html>",
        f'<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{title}</title><link rel="stylesheet" href="/style.css"></head><body>',
        f'<header><div class="icon">{connector.icon.read_text(encoding="utf-8")}</div>',
        f"<div><h1>{title}</h1><p>{word('demo')} · {word('lead')}</p></div>",
        f'<a class="language" href="{other}">{word("language")}</a></header><main>',
        _figures(app, word),
        *_sections(app, language, word),
        "</main></body></html>",
    ]
    return "".join(parts)


def _sections(app: Shown, language: str, word: Any) -> list[str]:
    """Return the parts of the page: the sender's controls first, the receiver's documents first."""
    received, faults = _received(app, language, word), _faults(app, language, word)
    if not app.connector.triggers:
        return [received, faults]
    forms = f'<div class="forms">{_orders(app, language, word)}{faults}</div>'
    return [forms, _emissions(app, language, word), received]


def _figures(app: Shown, word: Any) -> str:
    counts = app.ledger.counts()
    acts = [one for key, one in counts["actions"].items() if key in app.connector.actions]
    figures = (
        ("documents", sum(one["documents"] for one in acts)),
        ("requests", sum(one["requests"] for one in acts)),
        ("refused", sum(counts["refused"].values())),
        ("connected", app.ledger.run("SELECT count(*) FROM installation")[0][0]),
    )
    cells = "".join(f"<li><b>{value}</b><span>{word(name)}</span></li>" for name, value in figures)
    return f'<ul class="figures">{cells}</ul>'


def _orders(app: Shown, language: str, word: Any) -> str:
    triggers = app.connector.triggers
    options = "".join(
        f'<option value="{escape(key)}">{escape(one.title[language])}</option>'
        for key, one in triggers.items()
    )
    shop = "order_paid" in triggers
    heading = word("order") if shop else word("emit")
    hint = "" if app.ledger.run("SELECT 1 FROM subscription LIMIT 1") else word("no_hub")
    warning = f'<p class="hint">{hint}</p>' if hint else ""
    return (
        f'<form method="post" action="/_page/emit"><h2>{heading}</h2>'
        f"<p>{word('order_help')}</p>{warning}{_language(language)}"
        f'<label>{word("emit")} <select name="trigger">{options}</select></label>'
        f'<label>{word("count")} <input name="count" type="number" min="1" max="1000" value="1">'
        f"</label><button>{heading}</button></form>"
    )


def _faults(app: Shown, language: str, word: Any) -> str:
    current = (app.ledger.switch("behaviour") or {}).get("mode", "ok")
    options = "".join(
        f'<label class="choice"><input type="radio" name="mode" value="{mode}"'
        f"{' checked' if mode == current else ''}> {escape(name[language])}</label>"
        for mode, name in MODES.items()
    )
    tone = "good" if current == "ok" else "bad"
    badge = f'<span class="badge {tone}">{escape(MODES[current][language])}</span>'
    return (
        f'<form method="post" action="/_page/behaviour"><h2>{word("fault")} {badge}</h2>'
        f"<p>{word('fault_help')}</p>{_language(language)}<fieldset>{options}</fieldset>"
        f"<button>{word('set')}</button></form>"
    )


def _language(language: str) -> str:
    return f'<input type="hidden" name="lang" value="{language}">'


def _received(app: Shown, language: str, word: Any) -> str:
    actions = app.connector.actions
    names = _labels(app, language)
    rows = [row for row in app.ledger.newest(SHOWN * 2) if row["action"] in actions][:SHOWN]
    if not rows:
        return f'<section><h2>{word("received")}</h2><p class="empty">{word("none")}</p></section>'
    body = "".join(
        f"<tr><td>{_time(row['at'])}</td><td>{escape(actions[row['action']].title[language])}</td>"
        f"<td class='number'>{escape(_number(row['answer']))}</td>"
        f"<td class='content'>{escape(_content(row['body'], names))}</td>"
        f'<td class="right">{row["count"]}</td></tr>'
        for row in rows
    )
    head = _head(word, "when", "action", "number", "what")
    return (
        f'<section><h2>{word("received")}</h2><div class="scroll"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div></section>"
    )


def _emissions(app: Shown, language: str, word: Any) -> str:
    rows = app.ledger.run("SELECT * FROM emission ORDER BY id DESC LIMIT ?", SHOWN)
    if not rows:
        return (
            f'<section><h2>{word("events")}</h2><p class="empty">{word("no_events")}</p></section>'
        )
    names = _labels(app, language)
    body = "".join(
        f"<tr><td>{_time(row['at'])}</td>"
        f"<td>{escape(app.connector.triggers[row['trigger']].title[language])}</td>"
        f"<td class='content'>{escape(_content(row['body'], names))}</td>"
        f"<td>{escape(STATES[row['state']][language])}</td>"
        f'<td class="right">{row["tries"]}</td></tr>'
        for row in rows
    )
    head = _head(word, "when", "event", "what", "state")
    return (
        f'<section><h2>{word("events")}</h2><div class="scroll"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div></section>"
    )


def _labels(app: Shown, language: str) -> dict[str, str]:
    own = {name: words[language] for name, words in FIELDS.items()}
    return {**own, **vendor_answers.labels(app.connector, language)}


def _head(word: Any, *columns: str) -> str:
    cells = "".join(f"<th>{word(one)}</th>" for one in columns)
    return f'{cells}<th class="right">{word("times")}</th>'


def _time(at: float) -> str:
    moment = datetime.fromtimestamp(at, ZoneInfo(settings().time_zone))
    return f'<time datetime="{moment.isoformat()}">{moment:%m-%d %H:%M:%S}</time>'


def _number(answer: str) -> str:
    """Return the number the vendor gave: the first field that ends in _no, or an id."""
    waiting: list[Any] = [json.loads(answer or "null")]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, Mapping):
            for name, one in value.items():
                if name.endswith("_no") or name == "id":
                    return str(one)
            waiting.extend(value.values())
    return ""


def _content(body: str, names: Mapping[str, str]) -> str:
    try:
        value = documents.parse(body.encode()) if body else None
    except Problem:
        return body[:200]
    if isinstance(value, Mapping) and isinstance(value.get("data"), Mapping):
        value = value["data"]
    return "" if value is None else vendor_answers.example(value, names)[:300]
