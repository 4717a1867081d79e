"""What a rollout says to people, in both languages; stored with the step, so it stays as it was."""

from collections.abc import Mapping
from typing import Any

Words = dict[str, str]

_TITLES: Mapping[str, tuple[str, str]] = {
    "validate": ("检查能不能安装", "Check that it can be installed"),
    "provision": ("在{app}开通账号", "Open an account at {app}"),
    "connect": ("连接{app}并测试", "Connect {app} and test it"),
    "subscribe": ("让{app}把新消息发给扬帆", "Have {app} send its news to the hub"),
    "wire": ("搭好流程“{part}”", "Build the flow “{part}”"),
    "test": ("用样例试跑“{part}”（不会真的发送）", "Try “{part}” with a sample (nothing is sent)"),
    "activate": ("启用", "Switch on"),
    "stop": ("停下流程", "Stop the flows"),
    "unsubscribe": ("停止接收{app}的消息", "Stop receiving news from {app}"),
    "release": ("关闭{app}的账号", "Close the account at {app}"),
    "remove": ("移出工具箱", "Take it out of the toolbox"),
}

_SAYS: Mapping[str, tuple[str, str]] = {
    "checked": ("可以安装，共 {count} 款工具", "Ready to install: {count} apps"),
    "opened": ("账号已开通：{account}", "The account is open: {account}"),
    "opened_plain": ("账号已开通", "The account is open"),
    "reused": ("工具箱里已经有了，直接使用", "Already in your toolbox; it is used as it is"),
    "connected": ("连接正常", "The connection works"),
    "subscribed": ("今后的新消息会自动进来", "News will come in by itself from now on"),
    "wired": ("流程已搭好", "The flow is built"),
    "tested": ("试跑通过，没有发送任何内容", "The trial run passed; nothing was sent"),
    "activated": ("已启用，可以用了", "It is on and ready to use"),
    "stopped": (
        "{count} 条流程已停下，运行记录都保留",
        "{count} flows stopped; their history stays",
    ),
    "unsubscribed": ("不再接收消息", "No more news is received"),
    "released": ("账号已关闭", "The account is closed"),
    "nothing_there": ("对方没有留下任何东西", "Nothing was left at the vendor"),
    "removed": ("已移出工具箱", "It is out of the toolbox"),
    "undone": ("已撤销", "Undone"),
    "retrying": (
        "{reason} 正在重试（第 {attempt} 次）",
        "{reason} Trying again (attempt {attempt})",
    ),
    "recovering": (
        "正在确认对方是否已开通账号",
        "Finding out whether the vendor opened an account",
    ),
}

_PROBLEMS: Mapping[str, tuple[str, str]] = {
    "cancelled": ("您取消了安装。", "You cancelled the installation."),
    "vendor_down": (
        "{app}一直没有回应，所以没有装成。过一会儿再装一次就好。",
        "{app} did not answer, so nothing was installed. Please try again in a while.",
    ),
    "vendor_refused": (
        "{app}拒绝了这次开通：{reason}",
        "{app} refused: {reason}",
    ),
    "connection_failed": (
        "账号开通了，但连接测试没有通过：{reason}",
        "The account was opened, but its connection did not work: {reason}",
    ),
    "trial_failed": (
        "流程“{part}”用样例试跑没有通过：{reason}",
        "The flow “{part}” failed its trial run: {reason}",
    ),
    "not_installable": ("现在不能安装：{reason}", "It cannot be installed now: {reason}"),
    "already_there": (
        "{app}正在安装或正在移除，请等它结束。",
        "{app} is being installed or removed at the moment; please wait for that to end.",
    ),
    "crashed": (
        "安装程序在这一步反复中断，已经全部撤销。请把编号告诉我们。",
        "This step broke off again and again, so everything was undone. Please tell us the number.",
    ),
    "refused_here": ("这一步没有通过检查：{reason}", "This step did not pass its checks: {reason}"),
}

_NOTES: Mapping[str, tuple[str, str]] = {
    "account_left": (
        (
            "{app}没有回应，那边的账号{account}没能关闭。这边的密钥已经销毁，谁也不能再用它；"
            "等{app}恢复后，请在那边把账号删掉。"
        ),
        (
            "{app} did not answer, so the account there{account} could not be closed. Its keys were"
            " destroyed here and nobody can use them. Please delete the account once {app} is back."
        ),
    ),
    "account_perhaps": (
        "{app}没有回应，那边可能留有一个没用过的账号。扬帆没有保存它的任何密钥。",
        "{app} did not answer; an unused account may exist there. The hub holds no key to it.",
    ),
    "close_refused": (
        "{app}不让我们关闭账号{account}：{reason} 这边的密钥已经销毁，请在那边把账号删掉。",
        (
            "{app} would not let us close the account{account}: {reason} Its keys were destroyed"
            " here; please delete the account there."
        ),
    ),
    "no_closing": (
        "{app}没有提供关闭账号的办法。这边的密钥已经销毁，账号{account}请在那边删除。",
        (
            "{app} offers no way to close an account. Its keys were destroyed here; please delete"
            " the account{account} there."
        ),
    ),
    "ours_left": (
        "清理{app}时扬帆这边出了错，管理员会看到记录。它已停用。",
        (
            "Something went wrong on our side while clearing up {app}; operators will see the"
            " record. It is switched off."
        ),
    ),
}


def _fill(pair: tuple[str, str], values: Mapping[str, Any]) -> Words:
    chinese = {name: _pick(value, "zh") for name, value in values.items()}
    english = {name: _pick(value, "en") for name, value in values.items()}
    return {"zh": pair[0].format_map(chinese), "en": pair[1].format_map(english)}


def _pick(value: Any, language: str) -> str:
    if isinstance(value, Mapping):
        return str(value.get(language) or value.get("zh") or value.get("en") or "")
    return str(value)


def title(kind: str, **values: Any) -> Words:
    """Return a step's name; values may themselves be {zh, en}."""
    return _fill(_TITLES[kind], values)


def say(key: str, **values: Any) -> Words:
    """Return what came of a step."""
    return _fill(_SAYS[key], values)


def problem(code: str, **values: Any) -> dict[str, str]:
    """Return why a rollout ended absent: code, zh, en."""
    return {"code": code, **_fill(_PROBLEMS[code], values)}


def note(code: str, app_key: str | None, **values: Any) -> dict[str, Any]:
    """Return what a vendor may still hold, as a note for the owner."""
    return {"code": code, "app_key": app_key, **_fill(_NOTES[code], values)}
