"""Requests to the archives: which credentials go to which host, and which failures are worth another try."""

from __future__ import annotations

import email.utils
import http
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from atmonr import __version__
from atmonr.errors import CredentialsMissing, StoreError

LOGIN_HOST = "urs.earthdata.nasa.gov"
_CONNECT_S, _READ_S = 20.0, 60.0
_TRIES = 6
_LONGEST_PAUSE_S = 60.0
_PROGRESS_BYTES = 1 << 20  # who has sent that much since the last failure is not counted as failing

Result = TypeVar("Result")
Secret = Callable[[requests.PreparedRequest], requests.PreparedRequest]


class Session(requests.Session):
    """Requests over HTTPS that carry, at every redirection anew, only the credentials meant for that host.

    A plain session would also send a netrc's `default` password to any host, and that of earthaccess its
    token to whatever address the catalogue names. Proxies and certificates are those of the usual variables.
    """

    def __init__(self, secrets: Mapping[str, Secret] | None = None) -> None:
        """Connect to nothing yet.

        Args:
            secrets: {domain: what adds credentials to a request to its hosts}; by default none are sent.
        """
        super().__init__()
        self._secrets = secrets or {}
        self.adapters.clear()
        self.mount("https://", _ImpatientAdapter())
        self.headers["User-Agent"] = f"atmonr/{__version__}"
        self.auth = self._authorise
        self.hooks["response"].append(_refuse_errors)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Choose credentials after a redirection; called by requests."""
        self._authorise(prepared_request)

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.pop("Authorization", None)
        host = host_of(request.url)
        for domain, secret in self._secrets.items():
            if host == domain or host.endswith(f".{domain}"):
                return secret(request)
        return request


class _ImpatientAdapter(HTTPAdapter):
    """Gives up on a silent server also where the caller, as earthaccess in a search, sets no limit."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or (_CONNECT_S, _READ_S)
        return super().send(request, *args, **kwargs)


def _refuse_errors(response: requests.Response, **_: Any) -> None:
    """Raise for every error status, in words that show no more of an address than its host.

    Raises:
        CredentialsMissing: They were refused, which ends the command: more attempts may lock the account.
        requests.HTTPError: Any other error.
    """
    status, host = response.status_code, host_of(response.url)
    if status < 400:
        return
    response.close()
    if status == http.HTTPStatus.UNAUTHORIZED or (status == http.HTTPStatus.FORBIDDEN and host == LOGIN_HOST):
        raise CredentialsMissing(
            f"{host} refused the credentials ({status}); correct them before you try again, since repeated"
            " attempts lock the account"
        )
    hint = ""
    if status == http.HTTPStatus.FORBIDDEN:
        hint = "; does the account have to accept terms of use, or approve the application, in its profile?"
    phrase = http.client.responses.get(status, "")
    raise requests.HTTPError(f"{host} answered {status} {phrase}".rstrip() + hint, response=response)


class Patience:
    """How long one command puts up with servers: several tries at each thing, and a limit for everything."""

    def __init__(
        self,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Start the clock.

        Args:
            limit_s: Seconds for everything, pauses included.
            clock: Seconds that only ever grow.
            sleep: Waits so many seconds.
        """
        self._end = clock() + limit_s
        self._clock = clock
        self._sleep = sleep

    def check(self, pause_s: float = 0.0) -> None:
        """Return if there is time left after a pause of so many seconds.

        Raises:
            StoreError: There is not.
        """
        if self._clock() + pause_s > self._end:
            raise StoreError("the time limit is reached; run the same command again to continue")

    def insist(self, call: Callable[[], Result], reached: Callable[[], int] = lambda: 0) -> Result:
        """Call until it succeeds, with growing pauses, or those that the server asks for.

        Args:
            call: What to do.
            reached: How many bytes have come so far; a transfer that gets on is not given up.

        Raises:
            StoreError: It failed for good, or too often, or the time is over.
            CredentialsMissing: They were refused; never tried again.
        """
        failures, before = 0, reached()
        while True:
            self.check()
            try:
                return call()
            except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
                reason, passing, pause_s = _judge(error)
            # Raised out here: the original error's text may hold a signed address.
            if reached() - before >= _PROGRESS_BYTES:
                failures, before = 0, reached()
            failures += 1
            if not passing:
                raise StoreError(reason)
            if failures == _TRIES:
                raise StoreError(f"{reason}; gave up after {_TRIES} tries")
            pause_s = max(pause_s, min(2.0**failures, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))
            self.check(pause_s)
            self._sleep(pause_s)


class Interrupted(requests.ConnectionError):
    """A transfer ended early or otherwise than announced; another try may go better."""


def _judge(error: Exception) -> tuple[str, bool, float]:
    """Return what to tell the user, whether another try is worth it, and after how many seconds at least."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        passing = status in (408, 425, 429) or status >= 500
        return str(error), passing, _retry_after_s(error.response.headers.get("Retry-After", ""))
    if isinstance(error, Interrupted):
        return str(error), True, 0.0
    if isinstance(error, requests.exceptions.SSLError):
        return "the server's certificate is not trusted; behind a proxy set REQUESTS_CA_BUNDLE", False, 0.0
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "the catalogue answered something that is not JSON", True, 0.0
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "the server redirects to an address that is not https://…", False, 0.0
    if isinstance(error, requests.TooManyRedirects | ValueError):  # such as for the address https://[
        return "the server redirects in circles or to nowhere", False, 0.0
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"the server did not answer within {_READ_S:g} s", True, 0.0
    return "the connection failed or broke off", True, 0.0


def _retry_after_s(text: str) -> float:
    """Return the pause that a Retry-After header asks for, in seconds or as a date; 0 if it is neither."""
    if text.isdecimal():
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def host_of(url: str | None) -> str:
    """Return the host of an address, in lower case; empty if it has none or is no address."""
    try:
        return urlsplit(url or "").hostname or ""
    except ValueError:
        return ""
