"""An OpenID provider on loopback, which can also be asked to lie."""

import base64
import contextlib
import hashlib
import secrets
import threading
import time
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from engine.serve.server import listen


class OpenID:
    """A provider with one client, graft, whose users are signed in already.

    Attributes:
        claims: of the next token, in addition to the usual ones, or instead of them.
        key: which signs the next token; the public half of the first is published.
        challenges: {code: (challenge of PKCE, nonce)} of those that were given out.
    """

    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}"
        self.published = self.key = RSAKey.generate_key(2048, {"kid": "first"})
        self.claims, self.challenges = {}, {}

    def app(self):
        """The provider's routes."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._configuration),
                Route("/keys", self._keys),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    async def _configuration(self, _):
        return JSONResponse(
            {
                "issuer": self.address,
                "authorization_endpoint": f"{self.address}/authorize",
                "token_endpoint": f"{self.address}/token",
                "jwks_uri": f"{self.address}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def _keys(self, _):
        return JSONResponse({"keys": [self.published.as_dict(private=False)]})

    async def _authorize(self, request):
        asked = request.query_params
        assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self.challenges[code] = asked["code_challenge"], asked["nonce"]
        back = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}")

    async def _token(self, request):
        form = await request.form()
        challenge, nonce = self.challenges.pop(form["code"])
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != challenge:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        usual = {"iss": self.address, "aud": "graft", "sub": "1", "iat": now, "exp": now + 60}
        claims = usual | {"nonce": nonce} | self.claims
        token = jwt.encode({"alg": "RS256", "kid": "first"}, claims, self.key)
        return JSONResponse({"access_token": "a", "token_type": "Bearer", "id_token": token})


@contextlib.contextmanager
def provider():
    """A running provider."""
    listening = listen("127.0.0.1", 0)
    made = OpenID(listening.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(made.app(), log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield made
    finally:
        server.should_exit = True
        thread.join(60)
