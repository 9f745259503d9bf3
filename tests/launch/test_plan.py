from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from campaigns import tasks_of
from typer.testing import CliRunner

from atmonr.errors import ConfigError, UsageError
from launch.campaign_file import load_campaign
from launch.cli import app
from launch.plan import make_plan
from launch.task import Task, key_of

CAMPAIGN = """\
name = "try"
folder = "campaign"
[granules]
files = ["data/*.nc"]
[config]
file = "config.toml"
"""
CONFIG = '[field]\nmethod = "instant_ngp"\n'


def place(tmp_path: Path, campaign: str = CAMPAIGN, granules: int = 3) -> Path:
    (tmp_path / "data").mkdir(exist_ok=True)
    for number in range(granules):
        (tmp_path / "data" / f"g{number}.nc").write_bytes(b"granule" + number.to_bytes(4, "big"))
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "campaign.toml").write_text(campaign)
    return tmp_path / "campaign.toml"


def show(path: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["plan", str(path), *more], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_plan_tells_all_and_writes_nothing(tmp_path: Path) -> None:
    path = place(tmp_path)
    (tmp_path / "data" / "again.nc").write_bytes((tmp_path / "data" / "g1.nc").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    shown = show(path)
    assert "granules    3," in shown and "duplicate   1: " in shown and "g1.nc is again" in shown
    assert "tasks       3 scenes, 3 fields (1 configs a scene)" in shown
    assert "state       3 ready, 3 waiting" in shown
    assert "campaign work" in shown
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sweep_trains_each_scene_with_every_combination(tmp_path: Path) -> None:
    sweep = '[config.sweep]\n"train.seed" = [0, 1]\n"train.steps" = [10, 20, 30]\n'
    plan = make_plan(load_campaign(place(tmp_path, CAMPAIGN + sweep, granules=2)))
    fields = [task for task in plan.tasks if task.kind == "field"]
    assert len(fields) == 12 and len({task.key for task in fields}) == 12
    assert fields[1].variant == "train.seed=0 train.steps=20"
    assert {task.needs for task in fields} == {task.key for task in plan.tasks if task.kind == "scene"}


def test_keys_follow_contents_not_names(tmp_path: Path) -> None:
    first = {task.key for task in make_plan(load_campaign(place(tmp_path))).tasks}
    (tmp_path / "data" / "g0.nc").rename(tmp_path / "data" / "other.nc")
    assert {task.key for task in make_plan(load_campaign(tmp_path / "campaign.toml")).tasks} == first
    (tmp_path / "data" / "g1.nc").write_bytes(b"processed anew")
    assert len({task.key for task in make_plan(load_campaign(tmp_path / "campaign.toml")).tasks} & first) == 4
    place(tmp_path, CAMPAIGN + 'set = ["train.batch_rays=99"]\n', granules=0)
    changed = {task.key for task in make_plan(load_campaign(tmp_path / "campaign.toml")).tasks}
    assert len(changed & first) == 2  # scenes are as before


def test_tasks_survive_being_written_down() -> None:
    for task in tasks_of(2):
        assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('nam = "x"', "nam: unknown key, did you mean 'name'?"),
        ("site = 3", "site: 3 is not valid; expected text"),
        ('site = "nowhere"', "no such profile; shipped are "),
        ('image = "no.sif"', "image: .*no.sif does not exist"),
        ('ingest_options = "x"', "ingest_options: 'x' is not valid; expected a list of texts"),
        ('name = "a b"', "name"),
    ],
)
def test_what_is_wrong_in_a_campaign_file_is_told(tmp_path: Path, change: str, message: str) -> None:
    text = "\n".join(
        line for line in CAMPAIGN.splitlines() if not line.startswith(change.partition(" ")[0] + " ")
    )
    with pytest.raises(ConfigError, match=message):
        load_campaign(place(tmp_path, f"{change}\n{text}"))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = place(tmp_path, CAMPAIGN.replace("data/*.nc", "**/*.nc"))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "g0.nc").write_bytes(b"other")
    with pytest.raises(UsageError, match="one name but differ"):
        make_plan(load_campaign(path))


def test_a_list_and_what_is_missing(tmp_path: Path) -> None:
    text = CAMPAIGN.replace('files = ["data/*.nc"]', 'files = ["none.nc"]\nlist_file = "list.txt"')
    path = place(tmp_path, text)
    (tmp_path / "list.txt").write_text("# two\ndata/g0.nc\n\ndata/g1.nc\n")
    found = make_plan(load_campaign(path)).found
    assert [granule.name for granule in found.granules] == ["g0", "g1"]
    assert found.missing == ("none.nc",)


# Tells seconds and the most memory of a plan in a process of its own [kB]. Not ru_maxrss: that begins with
# the memory of the process that started this one.
MEASURE = """
import sys, time
from pathlib import Path
from launch.campaign_file import load_campaign
from launch.forecast import forecast

start = time.perf_counter()
lines = list(forecast(load_campaign(Path(sys.argv[1])), limit=None, scripts=True))
seconds = time.perf_counter() - start
assert any("10000 scenes, 10000 fields" in line for line in lines)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
sys.stdout.write(f"{seconds} {int(status['VmHWM'].split()[0])}")
"""


@pytest.mark.slow
@pytest.mark.alone
def test_ten_thousand_granules_are_planned_in_ten_seconds_and_little_memory(
    tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = python("-c", MEASURE, str(place(tmp_path, granules=10_000)))
    assert done.returncode == 0, done.stderr
    seconds, memory_kb = map(float, done.stdout.split())
    assert seconds <= 10.0
    assert memory_kb <= 500_000
