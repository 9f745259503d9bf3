"""The archives on this machine: a proxy that answers for every host it is asked to connect to, over TLS.

`HTTPS_PROXY` and `REQUESTS_CA_BUNDLE` lead earthaccess and requests here, so that the tests run the real
calls with the real host names. It plays Earthdata Login, CMR, two of NASA's data hosts with the signed
addresses they redirect to, and ESA's MAAP.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOGIN = "urs.earthdata.nasa.gov"
CMR = "cmr.earthdata.nasa.gov"
DATA = "obdaac-tea.earthdatacloud.nasa.gov"
SIGNED = "d1example.cloudfront.net"
OCEANDATA = "oceandata.sci.gsfc.nasa.gov"
MAAP = "catalog.maap.eo.esa.int"
ELSEWHERE = "evil.example.org"
HOSTS = (LOGIN, CMR, DATA, SIGNED, OCEANDATA, MAAP, ELSEWHERE)

USER, PASSWORD, TOKEN, MAAP_TOKEN = "newton", "pässword €1", "earthdata-token", "maap-token"
SIGNATURE = "signed-by-the-archive"
NAME = "PACE_HARP2.20250605T161356.L1B.V3.nc"
FRAME = "ECA_EXBA_ATL_EBD_2A_20250605T161500Z_20250721T105728Z_05790E"
DEM_PATH = "/ocssw/static_ancillary/ETOPO1_ocssw.nc"

Fault = Callable[["_Handler", bytes], bool]


@dataclass
class Seen:
    """A request that reached a host."""

    method: str
    host: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Archives:
    """What the archives hold, how they misbehave, and what they were asked.

    Attributes:
        content: {last part of an address: file content}.
        granules: What CMR lists; see `umm`.
        features: What MAAP lists; see `feature`.
        faults: {host: what to do instead of answering, one for each of the next requests}.
        seen: All requests in order.
        tag: Entity tag of all content; None for none.
    """

    port: int = 0
    content: dict[str, bytes] = field(default_factory=dict)
    granules: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    seen: list[Seen] = field(default_factory=list)
    tag: str | None = '"first"'
    dem_needs_login: bool = False

    def hold(self, name: str = NAME, content: bytes | None = None, **changes: Any) -> bytes:
        """Put a HARP2 file into the archive and its catalogue."""
        data = netcdf_bytes() if content is None else content
        self.content[name] = data
        self.granules.append(umm(name, data, **changes))
        return data

    def asked(self, host: str) -> list[Seen]:
        return [request for request in self.seen if request.host == host]

    def logins(self) -> int:
        """How many times a name and password were sent, right or wrong."""
        return sum(request.headers.get("authorization", "").startswith("Basic") for request in self.seen)


def netcdf_bytes(size: int = 300_000) -> bytes:
    return b"\x89HDF" + bytes(index * 7 % 251 for index in range(size - 4))


def umm(name: str, data: bytes, **changes: Any) -> dict[str, Any]:
    """An entry of CMR in the form UMM-G for a granule of five minutes around 60 W, 15 N."""
    start = datetime.strptime(name.split(".")[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    listed = {
        "Name": name,
        "SizeInBytes": len(data),
        "Checksum": {"Value": md5(data).hexdigest(), "Algorithm": "MD5"},
    } | changes.pop("listed", {})
    corners = [(-65, 10), (-55, 10), (-55, 20), (-65, 20), (-65, 10)]
    entry = {
        "GranuleUR": name,
        "CollectionReference": {"ShortName": f"PACE_HARP2_{name.split('.')[2]}_SCI", "Version": "3"},
        "TemporalExtent": {
            "RangeDateTime": {
                "BeginningDateTime": f"{start:%Y-%m-%dT%H:%M:%S.000Z}",
                "EndingDateTime": f"{start + timedelta(seconds=299):%Y-%m-%dT%H:%M:%S.000Z}",
            }
        },
        "SpatialExtent": {
            "HorizontalSpatialDomain": {
                "Geometry": {
                    "GPolygons": [
                        {"Boundary": {"Points": [{"Longitude": x, "Latitude": y} for x, y in corners]}}
                    ]
                }
            }
        },
        "RelatedUrls": [
            {"URL": f"https://{DATA}/ob-cumulus-prod-public/{name}", "Type": "GET DATA"},
            {"URL": f"s3://ob-cumulus-prod-public/{name}", "Type": "GET DATA VIA DIRECT ACCESS"},
        ],
        "DataGranule": {"ArchiveAndDistributionInformation": [listed]},
    } | changes
    return {"meta": {"concept-id": "G1-OB_CLOUD", "provider-id": "OB_CLOUD"}, "umm": entry}


def feature(name: str, data: bytes, **asset: Any) -> dict[str, Any]:
    """An entry of MAAP in the form of STAC."""
    href = f"https://{MAAP}/data/{name}.h5"
    return {"id": name, "assets": {"enclosure_h5": {"href": href, "file:size": len(data)} | asset}}


def status(code: int, **headers: str) -> Fault:
    def fault(handler: _Handler, data: bytes) -> bool:
        handler.answer(code, b"no", {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return fault


def garbled(handler: _Handler, data: bytes) -> bool:
    """Content with a flipped bit."""
    handler.answer(200, bytes([data[0] ^ 1]) + data[1:], {"ETag": '"garbled"'})
    return True


def broken_off(after: int) -> Fault:
    """Announce all, send so many bytes of what was asked for, and hang up."""

    def fault(handler: _Handler, data: bytes) -> bool:
        handler.serve(data, after)
        return True

    return fault


def paused(after: int, pause_s: float) -> Fault:
    """Send so many bytes, wait, then hang up."""

    def fault(handler: _Handler, data: bytes) -> bool:
        handler.serve(data, after)
        handler.wfile.flush()
        time.sleep(pause_s)
        return True

    return fault


def passing(handler: _Handler, data: bytes) -> bool:
    """No fault this time."""
    return False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    archives: Archives
    tls: ssl.SSLContext
    host = ""

    def do_CONNECT(self) -> None:
        self.host = self.path.rpartition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def handle_everything(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.archives.seen.append(Seen(self.command, self.host, self.path, headers, body))
        name = urlsplit(self.path).path.rpartition("/")[2]
        data = self.archives.content.get(name, b"")
        faults = self.archives.faults[self.host]
        if faults and faults.pop(0)(self, data):
            return
        {
            LOGIN: self.log_in,
            CMR: self.search_cmr,
            DATA: self.redirect_to_signed,
            SIGNED: self.serve_signed,
            OCEANDATA: self.serve_dem,
            MAAP: self.maap,
        }.get(self.host, lambda: self.serve(self.archives.content.get(name, b"")))()

    do_GET = do_HEAD = do_POST = handle_everything

    def answer(self, code: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for header, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self.answer(200, json.dumps(value).encode(), headers)

    def serve(self, data: bytes, limit: int | None = None) -> None:
        """Send content as servers of files do, ranges included; after `limit` bytes hang up."""
        if not data:
            self.answer(404)
            return
        tag = self.archives.tag
        headers = {} if tag is None else {"ETag": tag}
        wanted, code = self.headers.get("Range"), 200
        if wanted and self.headers.get("If-Range") in (None, tag):
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(data):
                self.answer(416)
                return
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            data, code = data[begin:], 206
        if limit is None:
            self.answer(code, data, headers)
        else:
            self.answer(code, data[:limit], headers | {"Content-Length": str(len(data))})
            self.close_connection = True

    def log_in(self) -> None:
        right = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        sent = self.headers.get("Authorization", "")
        if sent.startswith("Basic") and sent != f"Basic {right}":
            self.answer(401, f"you sent {sent}".encode())
        elif self.path == "/api/users/find_or_create_token":
            if sent.startswith("Basic"):
                self.json({"access_token": TOKEN, "expiration_date": "01/01/2030"})
            else:
                self.answer(401)
        elif sent.startswith("Basic"):
            self.answer(302, headers={"Location": f"https://{OCEANDATA}{DEM_PATH}?code={SIGNATURE}"})
        else:
            self.answer(200, b"<html>please log in</html>")

    def search_cmr(self) -> None:
        address = urlsplit(self.path)
        asked = parse_qs(address.query)
        if address.path != "/search/granules.umm_json" or "Authorization" in self.headers:
            self.answer(400)
            return
        found = [granule for granule in self.archives.granules if _meets(granule["umm"], asked)]
        begin, page = int(self.headers.get("CMR-Search-After") or 0), int(asked["page_size"][0])
        items = found[begin : begin + page]
        after = {"CMR-Search-After": str(begin + page)} if items else {}
        self.json({"hits": len(found), "items": items}, {"CMR-Hits": str(len(found)), **after})

    def redirect_to_signed(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401)
            return
        name = self.path.rpartition("/")[2]
        self.answer(303, headers={"Location": f"https://{SIGNED}/{name}?Signature={SIGNATURE}"})

    def serve_signed(self) -> None:
        address = urlsplit(self.path)
        # Like the real one, which takes a second kind of credentials for an attack.
        if "Authorization" in self.headers or parse_qs(address.query).get("Signature") != [SIGNATURE]:
            self.answer(400)
            return
        self.serve(self.archives.content.get(address.path.rpartition("/")[2], b""))

    def serve_dem(self) -> None:
        if self.archives.dem_needs_login and "session=yes" not in self.headers.get("Cookie", ""):
            if "code=" in self.path:
                cookie = {"Set-Cookie": "session=yes; Secure; Path=/"}
                self.answer(302, headers={"Location": DEM_PATH, **cookie})
            else:
                self.answer(302, headers={"Location": f"https://{LOGIN}/oauth/authorize?client_id=1"})
            return
        self.serve(self.archives.content.get(DEM_PATH.rpartition("/")[2], b""))

    def maap(self) -> None:
        if self.path == "/catalogue/search":
            self.json({"features": self.archives.features, "links": []})
        elif self.headers.get("Authorization") == f"Bearer {MAAP_TOKEN}":
            self.serve(self.archives.content.get(self.path.rpartition("/")[2], b""))
        else:
            self.answer(401)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


def _meets(entry: dict[str, Any], asked: dict[str, list[str]]) -> bool:
    times = entry["TemporalExtent"]["RangeDateTime"]
    start, end = times["BeginningDateTime"][:19], times["EndingDateTime"][:19]
    known = {"short_name", "temporal[]", "bounding_box", "page_size", "readable_granule_name"}
    assert set(asked) <= known | {"options[readable_granule_name][pattern]"}, asked
    if entry["CollectionReference"]["ShortName"] != asked["short_name"][0]:
        return False
    if "readable_granule_name" in asked and not fnmatch.fnmatch(
        entry["GranuleUR"], asked["readable_granule_name"][0]
    ):
        return False
    if "bounding_box" in asked:
        west, south, east, north = (float(value) for value in asked["bounding_box"][0].split(","))
        if not (west < -55 and east > -65 and south < 20 and north > 10):
            return False
    first, last = asked.get("temporal[]", ["0000,9999"])[0].split(",")
    return start <= last.rstrip("Z") and end >= first.rstrip("Z")


def serve_archives(certificate: Path) -> tuple[Archives, Callable[[], None]]:
    """Start the archives with a certificate and key in one PEM file; returns them and how to stop them."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    archives = Archives()
    handler = type("Handler", (_Handler,), {"archives": archives, "tls": tls})
    server = _Server(("127.0.0.1", 0), handler)
    archives.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return archives, stop
