"""An OpenID provider on loopback, as far as "Sign in with Hugging Face" asks for one: everybody is let in at once."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT_ID, CLIENT_SECRET = "client-of-tests", "secret-of-tests"


class OpenIdServer:
    """The provider; whoever comes to it is `visitor`: id, name.

    Attributes:
        url: what OPENID_PROVIDER_URL must be.
        visitor: (`sub`, `preferred_username`) of whoever signs in next.
        lifetime: seconds that a sign-in holds.
    """

    def __init__(self):
        from joserfc.jwk import RSAKey

        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
        self.visitor = ("0001", "ann")
        self.lifetime = 3600
        self._codes: dict[str, tuple[str, str, str]] = {}
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """What a Space with `hf_oauth: true` finds."""
        return {
            "OAUTH_CLIENT_ID": CLIENT_ID, "OAUTH_CLIENT_SECRET": CLIENT_SECRET, "OAUTH_SCOPES": "openid profile",
            "OPENID_PROVIDER_URL": self.url,
        }  # fmt: skip

    def new_code(self, nonce: str) -> str:
        code = f"code-{len(self._codes)}"
        self._codes[code] = (*self.visitor, nonce)
        return code

    def token(self, code: str) -> dict:
        from joserfc import jwt

        sub, name, nonce = self._codes.pop(code)
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT_ID, "sub": sub, "iat": now, "exp": now + self.lifetime, "nonce": nonce,
            "name": name.title(), "preferred_username": name, "profile": f"{self.url}/{name}", "picture": "",
        }  # fmt: skip
        id_token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        about = {"token_type": "bearer", "expires_in": self.lifetime, "scope": "openid profile"}
        return {"access_token": f"token-of-{sub}", "id_token": id_token, **about}


class _Handler(BaseHTTPRequestHandler):
    provider: OpenIdServer

    def log_message(self, *args) -> None:
        pass

    def send(self, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        base = self.provider.url
        if url.path == "/.well-known/openid-configuration":
            return self.send({
                "issuer": base, "authorization_endpoint": f"{base}/authorize", "token_endpoint": f"{base}/token",
                "jwks_uri": f"{base}/jwks", "id_token_signing_alg_values_supported": ["RS256"],
            })  # fmt: skip
        if url.path == "/jwks":
            return self.send({"keys": [self.provider.key.as_dict(private=False)]})
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        back = urlencode({"code": self.provider.new_code(asked["nonce"]), "state": asked["state"]})
        join = "&" if "?" in asked["redirect_uri"] else "?"
        self.send_response(302)
        self.send_header("location", f"{asked['redirect_uri']}{join}{back}")
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        self.send(self.provider.token(form["code"][0]))
