"""Who we are to the archives: never asked for, tried once, sent only where they belong."""

from __future__ import annotations

import logging
import os
import re
from contextlib import nullcontext, suppress

import earthaccess
import requests
from earthaccess.exceptions import LoginAttemptFailure, LoginStrategyUnavailable
from requests.auth import AuthBase, HTTPBasicAuth

from atmonr.errors import AtmonrError, CredentialsMissing, StoreError
from atmonr.store.fetch.refusals import few_refusals
from atmonr.store.fetch.wire import LOGIN_HOST, Secret, Session, host_of

MAAP = "maap.eo.esa.int"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_HOW_TO = (
    "no Earthdata credentials found: set EARTHDATA_TOKEN, or EARTHDATA_USERNAME and EARTHDATA_PASSWORD, or"
    f" write `machine {LOGIN_HOST} login … password …` into ~/.netrc"
)

# Without a handler of their own, Python would print earthaccess's messages beside ours.
logging.getLogger("earthaccess").addHandler(logging.NullHandler())


def secrets() -> dict[str, Secret]:
    """Return the credentials of each archive for `Session`, by its domain; looked up when first needed."""
    earthdata = _Earthdata()
    return {"earthdata.nasa.gov": earthdata, "earthdatacloud.nasa.gov": earthdata, MAAP: _maap}


class _Earthdata:
    """Adds Earthdata credentials to a request; logs in before the first, and if that fails never again."""

    def __init__(self) -> None:
        self._login: earthaccess.Auth | None = None
        self._failure: AtmonrError | None = None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._failure is not None:
            raise self._failure
        if self._login is None:
            try:
                self._login = _log_in()
            except AtmonrError as error:
                self._failure = error
                raise
        if host_of(request.url) == LOGIN_HOST and self._login.username and self._login.password:
            # Archives that take no token send us here; earthaccess answers with the password, too.
            return _basic(self._login)(request)
        return _Bearer((self._login.token or {})["access_token"])(request)


class _Login(earthaccess.Auth):
    """earthaccess's login with our session. With its own, a password from netrc is sent twice each time."""

    def get_session(self) -> requests.Session:
        return Session({LOGIN_HOST: _basic(self)} if self.username else None)


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _basic(login: earthaccess.Auth) -> HTTPBasicAuth:
    # As bytes: of a text, requests would show what it cannot encode in Latin-1.
    return HTTPBasicAuth((login.username or "").encode(), (login.password or "").encode())


def _log_in() -> earthaccess.Auth:
    """Log in with what the environment holds, else with netrc; one attempt, whatever comes of it.

    Raises:
        CredentialsMissing: There are none, or they were refused.
        StoreError: Earthdata Login does not answer.
    """
    login = _Login()
    try:
        with nullcontext() if os.environ.get("EARTHDATA_TOKEN") else few_refusals():
            for strategy in ("environment", "netrc"):
                with suppress(LoginStrategyUnavailable):
                    login.login(strategy)
                    break
        token = (login.token or {}).get("access_token", "")
    except requests.HTTPError as error:
        reason = str(error)
    except (requests.RequestException, LoginAttemptFailure):
        reason = f"{LOGIN_HOST} cannot be reached or answers no sense"
    except (AttributeError, KeyError, TypeError):
        reason = f"{LOGIN_HOST} answered something that is no token"
    except OSError as error:
        raise CredentialsMissing(f"{_HOW_TO}; netrc cannot be read: {error.strerror}") from None
    else:
        if not token:
            raise CredentialsMissing(_HOW_TO)
        _check_token(token, "Earthdata's token (EARTHDATA_TOKEN)")
        return login
    raise StoreError(f"login failed: {reason}")  # out here, without the original error and what it may show


def _maap(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add the access token of ESA's MAAP.

    Raises:
        CredentialsMissing: It is not in the environment.
    """
    token = os.environ.get("MAAP_TOKEN", "")
    if not token:
        raise CredentialsMissing(
            "no MAAP credentials found: ESA's MAAP has the EarthCARE files; set MAAP_TOKEN to an access token"
        )
    _check_token(token, "MAAP_TOKEN")
    return _Bearer(token)(request)


def _check_token(token: object, name: str) -> None:
    """Refuse what cannot be a header: the HTTP library would show it in its complaint.

    Raises:
        CredentialsMissing: It holds other characters than tokens do.
    """
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise CredentialsMissing(f"{name} has characters that no token has, such as a space or a line's end")
