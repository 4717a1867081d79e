"""An app that people sign in to, and its OAuth server."""

import base64
import hashlib
import secrets
from urllib.parse import parse_qsl, urlsplit

WAY = """
auth:
  - id: consent
    kind: oauth2_code
    title: {zh: 授权登录, en: Sign in}
    authorize:
      url: "${settings.base_url}/authorize"
      params: {scope: "orders:read ${field.client_id}"}
    token: {url: "${settings.base_url}/token", client_auth: body}
    refresh: {rotates: true, early_seconds: 600}
    identity:
      request: {method: GET, path: /me}
      account: "${body.shop.id}"
      label: "${body.shop.name}"
http:
  base: "${settings.base_url}"
  errors: [{when: {status: 401}, do: reauth}]
lifecycle:
  test: {request: {method: GET, path: /me}}
"""


def challenge_of(verifier: str) -> str:
    """What RFC 7636 makes of a verifier; its own example is a test below."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().strip("=")


class Provider:
    """An OAuth server that rotates its refresh tokens and takes each code and token once."""

    def __init__(self):
        self.codes: dict[str, dict] = {}
        self.access, self.refresh = set(), set()
        self.refreshes, self.trouble = 0, None
        self.seconds = 3600

    def agree(self, address: str) -> str:
        """What a person does in the browser: gives the query that comes back."""
        asked = dict(parse_qsl(urlsplit(address).query))
        code = secrets.token_hex(8)
        self.codes[code] = asked
        return f"?code={code}&state={asked['state']}"

    def __call__(self, call):
        if call.path == "/token":
            return self.token(call.form)
        known = call.headers.get("authorization", "").removeprefix("Bearer ")
        if known not in self.access:
            return 401, {"error": "invalid_token"}
        return 200, {"shop": {"id": 42, "name": "启航五金"}}

    def token(self, form):
        if self.trouble:
            return self.trouble
        if (form["client_id"], form["client_secret"]) != ("me", "client-secret-1"):
            return 401, {"error": "invalid_client"}
        if form["grant_type"] == "authorization_code":
            asked = self.codes.pop(form["code"], None)
            if (
                asked is None
                or asked["redirect_uri"] != form["redirect_uri"]
                or challenge_of(form["code_verifier"]) != asked["code_challenge"]
            ):
                return 400, {"error": "invalid_grant", "error_description": "no such code"}
        elif form["refresh_token"] not in self.refresh:
            return 400, {"error": "invalid_grant", "error_description": "token was revoked"}
        else:
            self.refresh.remove(form["refresh_token"])
            self.refreshes += 1
        access, refresh = f"acc-{secrets.token_hex(8)}", f"ref-{secrets.token_hex(8)}"
        self.access, self.refresh = {access}, {refresh}
        said = {"access_token": access, "refresh_token": refresh, "expires_in": self.seconds}
        return 200, said
