"""Recipes of well-known senders with the vectors that they (or their kits) publish."""

from datetime import UTC, datetime

from webhooks import recipes

# WeCom and those that took its scheme over: sorted SHA-1, then AES-CBC with a frame inside.
SORTED_SHA1 = [
    {"as": "all",
     "sorted": ["${secret.token}", "${query.timestamp}", "${query.nonce}", "${sealed}"]},
    {"as": "mac", "hash": "sha1", "of": "${all}"},
    {"equal": ["${mac}", "${query.msg_signature}"]},
    {"as": "open", "decrypt": "aes_cbc", "key": "${secret.aes_key}", "key_is": "base64_43",
     "iv_is": "key_head", "pad": 32, "of": "${sealed}"},
    {"as": "plain", "unframe": "${open}", "skip": 16, "length_bytes": 4},
    {"equal": ["${plain.rest}", "${settings.receiver}"]},
]  # fmt: skip
ECHO = [{"as": "sealed", "text": "${query.echostr}"}, *SORTED_SHA1]
XML = [
    {"as": "wrapped", "parse": "xml", "of": "${body}"},
    {"as": "sealed", "text": "${wrapped.Encrypt}"},
    *SORTED_SHA1,
    {"as": "event", "parse": "xml", "of": "${plain.message}"},
]
JSON = [
    {"as": "wrapped", "parse": "json", "of": "${body}"},
    {"as": "sealed", "text": "${wrapped.encrypt}"},
    *SORTED_SHA1,
    {"as": "event", "parse": "json", "of": "${plain.message}"},
]
WECOM = {
    "secret": {"token": "QDG6eK", "aes_key": "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"},
    "settings": {"receiver": "wx5823bf96d3bd56c7"},
}
WECOM_ECHO = {
    **WECOM,
    "query": {
        "msg_signature": "5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3",
        "timestamp": "1409659589", "nonce": "263014780",
        "echostr": "P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO"
        "+FZXvnaqQ==",
    },
}  # fmt: skip
WECOM_SEALED = (
    "RypEvHKD8QQKFhvQ6QleEB4J58tiPdvo+rtK1I9qca6aM/wvqnLSV5zEPeusUiX5L5X/0lWfrf0QADHHhGd3QczcdCUp"
    "j911L3vg3W/sYYvuJTs3TUUkSUXxaccAS0qhxchrRYt66wiSpGLYL42aM6A8dTT+6k4aSknmPj48kzJs8qLjvd4Xgpue"
    "06DOdnLxAUHzM6+kDZ+HMZfJYuR+LtwGc2hgf5gsijff0ekUNXZiqATP7PF5mZxZ3Izoun1s4zG4LUMnvw2r+KqCKIw+"
    "3IQH03v+BCA9nMELNqbSf6tiWSrXJB3LAVGUcallcrw8V2t9EL4EhzJWrQUax5wLVMNS0+rUPA3k22Ncx4XXZS9o0MBH"
    "27Bo6BpNelZpS+/uh9KsNlY6bHCmJU9p8g7m3fVKn28H3KDYA5Pl/T8Z1ptDAVe0lXdQ2YoyyH2uyPIGHBZZIs2pDBS8"
    "R07+qN+E7Q=="
)
WECOM_MESSAGE = {
    **WECOM,
    "query": {
        "msg_signature": "477715d11cdb4164915debcba66cb864d751f3e6",
        "timestamp": "1409659813", "nonce": "1372623149",
    },
    "body": (
        "<xml><ToUserName><![CDATA[wx5823bf96d3bd56c7]]></ToUserName><Encrypt><![CDATA["
        f"{WECOM_SEALED}]]></Encrypt><AgentID><![CDATA[218]]></AgentID></xml>"
    ).encode(),
}  # fmt: skip
ACCOUNT_ECHO = {
    "secret": {"token": "123456", "aes_key": "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR"},
    "settings": {"receiver": "wx49f0ab532d5d035a"},
    "query": {
        "msg_signature": "dd6b9c95b495b3f7e2901bfbc76c664930ffdb96",
        "timestamp": "1411443780", "nonce": "437374425",
        "echostr": "4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7h"
        "OchLF6p+Q==",
    },
}  # fmt: skip
DINGTALK = {
    "secret": {"token": "mryue", "aes_key": "Yue0EfdN5900c1ce5cf6A152c63DDe1808a60c5ecd7"},
    "settings": {"receiver": "ding6ccabc44d2c8d38b"},
    "query": {
        "msg_signature": "03044561471240d4a14bb09372dfcfd4fd0e40cb",
        "timestamp": "1608001896814", "nonce": "WL4PK6yA",
    },
    "body": b'{"encrypt":"0vJiX6vliEpwG3U45CtXqi+m8PXbQRARJ8p8BbDuD1EMTDf0jKpQ79QS93qEk7XHpP6u+oTT'
    b'rd15NRPvNvmBKyDCYxxOK+HZeKju4yhELOFchzNukR+t8SB/qk4ROMu3"}',
}  # fmt: skip
DINGTALK_SUITE = {
    "secret": {"token": "123456", "aes_key": "4g5j64qlyl3zvetqxz5jiocdr586fn2zvjpa8zls3ij"},
    "settings": {"receiver": "suite4xxxxxxxxxxxxxxx"},
    "query": {
        "msg_signature": "5a65ceeef9aab2d149439f82dc191dd6c5cbe2c0",
        "timestamp": "1445827045067", "nonce": "nEXhMP4r",
    },
    "body": b'{"encrypt":"1a3NBxmCFwkCJvfoQ7WhJHB+iX3qHPsc9JbaDznE1i03peOk1LaOQoRz3+nlyGNhwmwJ3vDM'
    b"G+OzrHMeiZI7gTRWVdUBmfxjZ8Ej23JVYa9VrYeJ5as7XM/ZpulX8NEQis44w53h1qAgnC3PRzM7Zc/D6Ibr0rgUath"
    b'B6zRHP8PYrfgnNOS9PhSBdHlegK+AGGanfwjXuQ9+0pZcy0w9lQ=="}',
}  # fmt: skip
FEISHU_OPEN = [
    {"as": "wrapped", "parse": "json", "of": "${body}"},
    {"as": "plain", "decrypt": "aes_cbc", "key": "${secret.encrypt_key}", "key_is": "sha256_of",
     "iv_is": "data_head", "pad": 16, "of": "${wrapped.encrypt}"},
]  # fmt: skip
FEISHU = [
    {"as": "mac", "hash": "sha256",
     "of": "${header.x-lark-request-timestamp}${header.x-lark-request-nonce}"
     "${secret.encrypt_key}${body}"},
    {"equal": ["${mac}", "${header.x-lark-signature}"]},
    *FEISHU_OPEN,
    {"as": "event", "parse": "json", "of": "${plain}"},
]  # fmt: skip
WECHAT_PAY = [
    {"equal": ["${header.wechatpay-serial}", "${secret.public_key_id}"]},
    {"fresh": "${header.wechatpay-timestamp}", "unit": "s", "within_seconds": 300},
    {"rsa_verify": "sha256", "key": "${secret.public_key}",
     "of": "${header.wechatpay-timestamp}\n${header.wechatpay-nonce}\n${body}\n",
     "signature": "${header.wechatpay-signature}", "signature_is": "base64"},
    {"as": "notice", "parse": "json", "of": "${body}"},
    {"as": "plain", "decrypt": "aes_gcm", "key": "${secret.api_key}", "key_is": "text",
     "nonce": "${notice.resource.nonce}", "aad": "${notice.resource.associated_data}",
     "of": "${notice.resource.ciphertext}"},
    {"as": "event", "parse": "json", "of": "${plain}"},
]  # fmt: skip


def alipay_signed(*, skip_empty: bool) -> list:
    return [
        {"as": "signed", "pairs": {"of": ["form"], "drop": ["sign", "sign_type"],
                                   "skip_empty": skip_empty}},
        {"rsa_verify": "sha256", "key": "${secret.public_key}", "of": "${signed}",
         "signature": "${form.sign}"},
    ]  # fmt: skip


ALIPAY = [
    {"as": "form", "parse": "form", "of": "${body}"},
    {"any": [alipay_signed(skip_empty=False), alipay_signed(skip_empty=True)]},
]
TOP = [
    {"as": "joined", "pairs": {"of": ["form"], "drop": ["sign"], "skip_empty": True,
                               "sort": "name", "pair": "", "between": ""}},
    {"as": "sign", "hash": "md5", "of": "${secret.key}${joined}${secret.key}", "out": "HEX"},
]  # fmt: skip
TOP_HMAC = [TOP[0], {"as": "sign", "hmac": "md5", "key": "${secret.key}", "of": "${joined}",
                     "out": "HEX"}]  # fmt: skip
TOP_REQUEST = {
    "secret": {"key": "helloworld"},
    "form": {
        "app_key": "12345678", "method": "taobao.item.seller.get", "format": "json", "v": "2.0",
        "sign_method": "md5", "timestamp": "2016-01-01 12:00:00", "session": "test",
        "fields": "num_iid,title,nick,price,num", "num_iid": "11223344",
    },
}  # fmt: skip
# Robots: what is key and what is message differs.
DINGTALK_ROBOT = [
    {"as": "stamp", "time": "ms"},
    {"as": "sign", "hmac": "sha256", "key": "${secret.secret}",
     "of": "${stamp}\n${secret.secret}", "out": "base64"},
]  # fmt: skip
FEISHU_ROBOT = [
    {"as": "stamp", "time": "s"},
    {"as": "sign", "hmac": "sha256", "key": "${stamp}\n${secret.secret}", "of": "",
     "out": "base64"},
]  # fmt: skip
YOUZAN = [
    {"as": "mac", "hash": "md5", "of": "${settings.client_id}${body}${secret.client_secret}"},
    {"equal": ["${mac}", "${header.event-sign}"]},
]
YOUZAN_PUSH = {
    "settings": {"client_id": "cid"},
    "secret": {"client_secret": "csec"},
    "body": b'{"a":1}',
    "header": {"event-sign": "9625b8edb84d5464a204f20637a70505"},
}
# name: (recipe, values); all of them pass, and no byte of what was sent may change
ACCEPTED = {
    "wecom-echo": (ECHO, WECOM_ECHO),
    "wecom-message": (XML, WECOM_MESSAGE),
    "account-echo": (ECHO, ACCOUNT_ECHO),
    "dingtalk": (JSON, DINGTALK),
    "dingtalk-suite": (JSON, DINGTALK_SUITE),
    "youzan": (YOUZAN, YOUZAN_PUSH),
}


def at(seconds: float) -> recipes.Surroundings:
    """Return surroundings of that moment, with bytes that are no accident."""
    return recipes.Surroundings(datetime.fromtimestamp(seconds, UTC), lambda n: bytes(range(n)))
