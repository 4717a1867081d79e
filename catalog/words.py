"""What codes of the catalogue are called where people read them."""

from kernel.errors import N_

FACET_TITLES = {
    "slot": N_("Slot"),
    "sub_scenario": N_("Task"),
    "layer": N_("Layer"),
    "licence": N_("Licence"),
    "size": N_("Firm size"),
    "webhooks": N_("Sends events"),
    "sso": N_("Single sign-on"),
    "chinese_ui": N_("Chinese interface"),
    "deployment": N_("Runs on"),
}
LICENCES = {
    "open-source": N_("Open source"),
    "open-core": N_("Open core"),
    "source-available": N_("Source visible"),
    "fair-code": N_("Fair code"),
    "proprietary": N_("Commercial"),
    "unknown": N_("Not known"),
}
SIZES = {
    "micro": N_("Micro (under 10)"),
    "small": N_("Small (10–49)"),
    "medium": N_("Medium (50–249)"),
}
LIFECYCLE = {
    "start_up": N_("Start-up"),
    "growth": N_("Growth"),
    "mature": N_("Mature"),
}
ANSWERS = {
    "yes": N_("Yes"),
    "plugin": N_("By plug-in"),
    "paid": N_("Paid edition"),
    "partly": N_("Partly"),
    "no": N_("No"),
    "none": N_("Not offered"),
    "unknown": N_("Not known"),
}
SIGN_ON = {
    "oidc": "OIDC",
    "saml": "SAML",
    "ldap": "LDAP",
    "scim": "SCIM",
    "none": N_("Not offered"),
}
CONFIDENCE = {
    "confirmed": ("good", N_("Checked"), N_("Read in source code or documents for this edition")),
    "likely": ("wait", N_("Likely"), N_("Not read itself, but the app's main facts were")),
    "memory": (
        "warn",
        N_("From memory"),
        N_("General knowledge only; check before you rely on it"),
    ),
    "vendor": ("new", N_("Stated by the vendor"), N_("What the vendor declares in its release")),
}
FACT_TITLES = {
    "licence": N_("Licence"),
    "deployment": N_("Runs on"),
    "min_ram_mb": N_("Memory needed"),
    "hosted_price": N_("Hosted price"),
    "api": N_("Interface (API)"),
    "webhooks": N_("Sends events"),
    "sso": N_("Single sign-on"),
    "data_export": N_("Takes data out as"),
    "chinese_ui": N_("Chinese interface"),
    "maintained": N_("Last seen release"),
}
VIA = {
    "webhook": N_("webhook"),
    "webhook_action": N_("webhook action"),
    "webhook_hmac": N_("webhook, signed"),
    "webhook_hmac_sha1": N_("webhook, signed (SHA-1)"),
    "webhook_hmac_timestamp": N_("webhook, signed with a time stamp"),
    "webhook_secret": N_("webhook with a secret header"),
    "webhook_reread": N_("webhook, then read again"),
    "poll": N_("the hub asks regularly"),
    "mqtt": N_("MQTT message"),
    "call": N_("direct call"),
    "file": N_("day file or interface"),
    "schedule": N_("on a schedule"),
    "forwarding": N_("forwarding"),
}
PERIODS = {
    "none": N_("free of charge"),
    "once": N_("once"),
    "month": N_("a month"),
    "year": N_("a year"),
}
SENSITIVITY = {
    "low": ("quiet", N_("Low")),
    "medium": ("warn", N_("Medium")),
    "high": ("bad", N_("High")),
}
ACCESS = {
    "read": N_("Reads"),
    "write": N_("Writes"),
    "read_write": N_("Reads and writes"),
}
ORIGINS = {
    "canonical": N_("House vocabulary"),
    "connector": N_("From a connector"),
    "custom": N_("Your own"),
    "hub": N_("News of the hub"),
}


def facet_word(facet: str, value: str) -> str | None:
    """Return the message id of a facet's value; None for one that nobody knows.

    What a reader wrote into the address must not be translated: the answer counts as safe markup.
    """
    tables = {
        "licence": LICENCES,
        "size": SIZES,
        "webhooks": ANSWERS,
        "chinese_ui": ANSWERS,
        "sso": SIGN_ON,
    }
    return tables.get(facet, {}).get(value)
