"""A Flask app with the frame alone, for tests of the pages' base: no database, a fixed person."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import jinja2
from flask import Flask, Response, flash, render_template, render_template_string, request

from kernel import web
from marketplace import assets
from marketplace.assets import HOUSE

POLICY = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:"
NAV = [
    {
        "label": "",
        "items": [
            {"href": "/", "icon": "home", "label": "首页", "active": False, "count": None},
            {
                "href": "/toolbox",
                "icon": "layout-grid",
                "label": "工具箱",
                "active": True,
                "count": 3,
            },
        ],
    },
    {"label": "空的组", "items": []},
]
UI = '{% import "marketplace/parts.html" as ui with context %}'


def page_app():
    """A Flask app with the frame alone: no database, a fixed person, the real assets."""
    app = Flask("page-alone", static_folder=None, template_folder=None)
    folders = [HOUSE / "marketplace" / "templates", Path(__file__).parents[1] / "marketplace"]
    app.jinja_loader = jinja2.FileSystemLoader(folders)
    app.secret_key = "for flash messages"
    app.config["BABEL_DEFAULT_TIMEZONE"] = "Asia/Shanghai"
    assets.install(app)
    app.register_blueprint(assets.blueprint)
    web.install_problems(app)
    web.install_languages(app, [str(HOUSE / p / "translations") for p in ("kernel", "marketplace")])
    app.after_request(guard_policy)
    app.context_processor(frame_values)
    add_pages(app)
    return app


def guard_policy(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    return response


def frame_values():
    who = SimpleNamespace(name="李薇", organization_name="恒力精密机械", organization_id="org_1")
    return {
        "nav": NAV,
        "principal": None if "anonymous" in request.args else who,
        "organizations": [
            SimpleNamespace(id="org_1", name="恒力"),
            SimpleNamespace(id="org_2", name="贸易"),
        ],
        "csrf_token": lambda: "a-token",
        "now": dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5, seconds=10),
    }


def add_pages(app):
    seen = {"polls": 0, "posts": []}
    app.extensions["seen"] = seen

    @app.route("/", methods=["GET"])
    def sink():
        flash("已保存", "good")
        return render_template("kitchen_sink.html")

    @app.get("/error/<int:status>")
    def error(status):
        body = {
            "title": "We could not find that",
            "status": status,
            "code": "x",
            "trace_id": "trc_1",
        }
        return render_template("marketplace/error.html", problem=body), status

    @app.route("/deeds", methods=["GET", "POST"])
    def deeds():
        if request.method == "POST":
            seen["posts"].append(
                (request.form.get("csrf_token"), request.headers.get("X-CSRF-Token"))
            )
            if request.headers.get("HX-Request"):
                text = (
                    UI + '{{ ui.error_summary([{"pointer": "/name", "message": "请填写名称"}]) }}'
                )
                return render_template_string(text), 422
        return render_template_string(DEEDS)

    @app.get("/poll")
    def poll():
        seen["polls"] += 1
        return render_template_string(POLL, done=seen["polls"] >= 2)


POLL = UI + (
    '{{ ui.progress_list([{"label": "开通", "state": "done" if done else "running", "seconds": 1}],'
    ' "安装", "/poll", done, "已完成" if done else "开通账号") }}'
)
DEEDS = (
    '{% extends "marketplace/base.html" %}{% import "marketplace/parts.html" as ui with context %}'
    "{% block title %}事{% endblock %}{% block content %}"
    '{{ ui.post_button("/deeds", "删除", "trash", "danger", confirm="确定删除吗？") }}'
    '{{ ui.copyable("evt_1") }}'
    '<form id="named" hx-post="/deeds" hx-target="#answer"><input id="f-name" aria-label="名称">'
    '<button id="send" class="btn">发送</button></form><div id="answer"></div>'
    "{% set done = false %}" + POLL.removeprefix(UI) + "{% endblock %}"
)
