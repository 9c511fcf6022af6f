"""Signing in at an OpenID provider (OpenID Connect Core 1.0: authorization code with PKCE).

It is set up as Streamlit documents it for `st.login`: the table `[auth]` of secrets.toml, or the
environment. Needs the packages of requirements-oidc.txt.
"""

import logging
import os
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import streamlit as st

from engine.accounts.store import AccountError
from engine.errors import GraftError

VARIABLES = {
    "client_id": "GRAFT_OIDC_CLIENT_ID",
    "client_secret": "GRAFT_OIDC_CLIENT_SECRET",
    "server_metadata_url": "GRAFT_OIDC_METADATA_URL",
    "redirect_uri": "GRAFT_OIDC_REDIRECT_URI",
}
"""Keys of the table `[auth]`, and the variables of the environment that come before them."""
FAILED = (
    "the sign-in at {} failed; try again, or ask whoever runs Graft, whose log says more about it"
)
WANTED = "graft_next"


@dataclass(frozen=True)
class Provider:
    """An OpenID provider.

    Attributes:
        client_id, client_secret: of Graft, at the provider.
        metadata_url: of its configuration, ends with /.well-known/openid-configuration.
        redirect_uri: Graft's own address with /oauth2callback.
    """

    client_id: str
    client_secret: str
    metadata_url: str
    redirect_uri: str

    @cached_property
    def _client(self):
        from authlib.integrations.starlette_client import OAuth

        # PKCE as RFC 7636 has it; state and nonce are Authlib's own.
        options = {"scope": "openid email", "code_challenge_method": "S256"}
        return OAuth().register(
            "graft", client_id=self.client_id, client_secret=self.client_secret,
            server_metadata_url=self.metadata_url, client_kwargs=options,
        )  # fmt: skip

    async def leave(self, request, wanted: str):
        """The answer that leads to the provider.

        Args:
            request: Starlette's.
            wanted: the page to go to then.

        Raises:
            AccountError: if the provider does not answer.
        """
        request.session[WANTED] = wanted
        try:
            return await self._client.authorize_redirect(request, self.redirect_uri)
        except Exception as error:
            raise self._failed(error) from None

    async def back(self, request) -> tuple[str, str]:
        """(the e-mail address that the provider has verified, the page to go to).

        Raises:
            AccountError: if the answer is not the one that was asked for, is not signed by the
                provider, is for somebody else, or has no verified address.
        """
        try:
            found = (await self._client.authorize_access_token(request)).get("userinfo")
        except Exception as error:
            raise self._failed(error) from None
        wanted = request.session.pop(WANTED, "")
        if not found or not found.get("email"):
            raise AccountError(f"{self.host} did not say your e-mail address")
        if found.get("email_verified") is not True:
            raise AccountError(f"{self.host} has not verified the address {found['email']}")
        return str(found["email"]), wanted

    @property
    def host(self) -> str:
        """The provider's name, for people."""
        return urlsplit(self.metadata_url).hostname or self.metadata_url

    def _failed(self, error: Exception) -> AccountError:
        # Anybody can cause one, and write its text: one line each, whatever is in it.
        said = f"{type(error).__name__}: {error}"
        logging.getLogger("graft").error("a sign-in at %s failed (%r)", self.host, said)
        return AccountError(FAILED.format(self.host))


def configured(path: str) -> Provider | None:
    """The provider that is set up; None if there is none.

    Args:
        path: of the way back, where `redirect_uri` must lead.

    Raises:
        GraftError: if a value is missing, or a package.
    """
    table = dict(st.secrets.get("auth", {})) if st.secrets.load_if_toml_exists() else {}
    found = {key: os.environ.get(name) or table.get(key) for key, name in VARIABLES.items()}
    if not any(found.values()):
        return None
    if missing := [key for key, value in found.items() if not value]:
        raise GraftError(
            f"the OpenID provider lacks {', '.join(missing)}: set it in the table [auth] of "
            f".streamlit/secrets.toml, or as {', '.join(VARIABLES[key] for key in missing)}"
        )
    if urlsplit(found["redirect_uri"]).path != path:
        raise GraftError(f"redirect_uri must end with {path}; {found['redirect_uri']} was given")
    try:
        import authlib.integrations.starlette_client  # noqa: F401
    except ModuleNotFoundError:
        raise GraftError(
            "signing in at an OpenID provider needs more packages; install them with: "
            "pip install -r requirements-oidc.txt"
        ) from None
    return Provider(
        found["client_id"], found["client_secret"], found["server_metadata_url"],
        found["redirect_uri"],
    )  # fmt: skip
