"""The page, as text here and as pixels in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

from atmonr.atomic import sha256
from atmonr.errors import SceneError
from atmonr.export.html import write_html
from tests.export.chromium import browser, find_chromium

HOSTILE = (
    "</title></script><script>document.body.dataset.hacked=1</script><img src=x onerror=alert(1)>\"'&{{$data"
)
DRAWN = "document.body?.dataset.drawn === 'yes'"


class Elements(HTMLParser):
    """Start tags with their attributes, and the text of every script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def cloud(lat, lon, height, x, y):
    """A thick ball in thin haze."""
    distance = np.sqrt(x**2 + y**2 + (height - 4000) ** 2)
    return 0.02 * np.exp(-((distance / 2000) ** 2)) + 1e-6


@pytest.fixture
def make_page(write_extract, tmp_path) -> Callable[..., Path]:
    def make(attributes=None, score=None, **options) -> Path:
        extract = write_extract(cloud, **{"step_m": 1000.0, **options})
        if attributes:
            with xr.open_dataset(extract) as opened:
                changed = opened.load().assign_attrs(attributes)
            changed.to_netcdf(extract)
        if score is not None:
            score = {"extract": {"sha256": sha256(extract)}, **score}
            (tmp_path / "score.json").write_text(json.dumps(score))
        path = tmp_path / "cloud.html"
        write_html(extract, path, tmp_path / "score.json" if score is not None else None)
        return path

    return make


def test_text_of_a_hostile_file_stays_text(make_page):
    names = ("title", "source_granule", "scene", "history", "time_coverage_start", "run_config_sha256")
    score = {HOSTILE: 1.0, "volume": {"text": HOSTILE, "iou_best": 0.123456}}
    text = make_page(dict.fromkeys(names, HOSTILE) | {"source": "x" * 10**6}, score).read_text("utf-8")
    elements = Elements(text)
    assert [tag for tag, _ in elements.tags].count("script") == 3
    assert not [tag for tag, _ in elements.tags if tag in ("img", "link", "iframe", "object", "base")]
    assert not [a for _, a in elements.tags if {"src", "href"} & a.keys() or any(k[:2] == "on" for k in a)]
    # Title, granule and time stand twice, and the score has the text as a name and as a value.
    assert text.count(escape(HOSTILE)) == len(names) + 3 + 2
    assert "0.1235" in text and "x" * 2000 not in text

    policy = next(a["content"] for _, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    hashes = {
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in elements.scripts[1:]
    }
    assert set(re.findall(r"'sha256-([^']*)'", policy)) == hashes
    assert policy.startswith("default-src 'none'")


def test_attributes_need_not_be_text(make_page):
    text = make_page({"title": [1, 2], "source_granule": 7.5}, {"lone": "\ud800", "none": None}).read_text(
        "utf-8"
    )
    assert "<h1>[1 2]</h1>" in text
    assert '<th scope="row">lone</th><td>?</td>' in text and "<td>unknown</td>" in text


def test_numbers_survive_and_the_page_stays_small(make_page, write_extract):
    text = make_page().read_text("utf-8")
    data = json.loads(Elements(text).scripts[0])
    with xr.open_dataset(write_extract(cloud, step_m=1000.0)) as opened:
        true = opened["extinction"].values
    stored = np.frombuffer(base64.b64decode(data["fine"]["values"]), "<u2").reshape(true.shape)
    np.testing.assert_allclose(stored * data["fine"]["step"], true, atol=true.max() / 1e5)
    assert len(data["fine"]["z"]) == true.shape[0]
    assert "every cell of the file" in text
    assert 4e6 < len(text) < 8e6


def test_a_score_of_another_extract_is_refused_and_nothing_written(write_extract, tmp_path):
    extract = write_extract(cloud, step_m=1600.0)
    for score, said in (
        ('{"extract": {"sha256": "0"}}', "extract.sha256 is '0'; expected"),
        ('{"extract": 7}', "expected"),
        ("[1]", "expected the JSON object"),
        ("{", "expected the JSON object"),
    ):
        (tmp_path / "score.json").write_text(score)
        with pytest.raises(SceneError, match=re.escape(said)):
            write_html(extract, tmp_path / "cloud.html", tmp_path / "score.json")
    with pytest.raises(SceneError, match="no such file"):
        write_html(tmp_path / "absent.nc", tmp_path / "cloud.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["extract.nc", "score.json"]


def test_a_clear_sky_can_be_shown(write_extract, tmp_path):
    write_html(write_extract(lambda lat, *_: 0 * lat, step_m=3200.0), tmp_path / "sky.html")
    assert json.loads(Elements((tmp_path / "sky.html").read_text("utf-8")).scripts[0])["brightest"] > 0


def seen(page, element: str, tmp_path: Path) -> np.ndarray:
    """Pixels of an element, of shape (height, width, 3)."""
    page.run(f"document.getElementById('{element}').scrollIntoView()")
    box = page.run(
        f"(b => [b.left, b.top, b.right, b.bottom].map(Math.round))"
        f"(document.getElementById('{element}').getBoundingClientRect())"
    )
    image = matplotlib.image.imread(page.screenshot(tmp_path / "shot.png"))[..., :3]
    left, top, right, bottom = box
    return image[max(top, 0) : bottom, left:right]


def colourful(pixels: np.ndarray) -> float:
    """Share of pixels that are neither white, grey nor black."""
    return float((np.ptp(pixels, axis=-1) > 0.08).mean())


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="no chromium is installed")
def test_a_browser_without_network_draws_everything(make_page, tmp_path):
    path = make_page({"title": HOSTILE}, {"volume": {"iou_best": 0.5}})
    # Were a script to get past the escaping, the page's own policy must stop it.
    stowaway = "<script>document.body.dataset.hacked = 1</script>"
    path.write_text(path.read_text("utf-8").replace("</h1>", f"</h1>{stowaway}"), "utf-8")
    with browser(tmp_path / "profile") as page:
        page.open(path, until=DRAWN)
        for element, least in {"volume": 0.03, "level": 0.2, "row": 0.2, "column": 0.2, "depth": 0.2}.items():
            assert colourful(seen(page, element, tmp_path)) > least, element

        # Each slider changes its section, and tells where it is.
        for name in ("level", "row", "column"):
            before, told = (
                seen(page, name, tmp_path),
                page.run(f"document.getElementById('{name}-value').value"),
            )
            page.run(
                f"(() => {{ const s = document.getElementById('{name}-index'); s.value = 2;"
                "s.dispatchEvent(new Event('input')); })()"
            )
            assert np.abs(seen(page, name, tmp_path) - before).max() > 0.2, name
            assert page.run(f"document.getElementById('{name}-value').value") != told

        # The outermost surface shrinks to a core.
        big = colourful(seen(page, "volume", tmp_path))
        page.run(
            "(() => { const s = document.getElementById('threshold'); s.value = 95;"
            "s.dispatchEvent(new Event('change')); })()"
        )
        assert colourful(seen(page, "volume", tmp_path)) < big

        assert page.run("document.title") == HOSTILE
        assert page.run("document.body.dataset.hacked") is None
        assert len(page.problems) == 1 and "Content Security Policy" in page.problems[0]
        assert {url.partition(":")[0] for url in page.requests} <= {"file", "data", "blob"}

        # At the width of a phone nothing sticks out.
        page.resize(390, 800)
        page.wait("document.documentElement.scrollWidth <= 390")
        assert colourful(seen(page, "level", tmp_path)) > 0.2
