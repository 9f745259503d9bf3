"""The commands hand over what was typed; what the library does with it is tested with the library."""

from __future__ import annotations

import inspect
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from atmonr import __version__
from atmonr.cli import app
from atmonr.cli import extract as extract_command
from atmonr.cli import ingest as ingest_command
from atmonr.cli import simulate as simulate_command
from atmonr.extract.grids.choose import GridRequest
from atmonr.layout import layout
from atmonr.simulate.session import simulate
from atmonr.store.ingest import ingest
from atmonr.train.plan import Plan, SceneWork


class Recorder:
    """Stands for a library function and remembers how it was called."""

    def __init__(self, returns: Any = None) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.returns = returns

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs))
        return self.returns


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def replace(monkeypatch: pytest.MonkeyPatch, module: str, name: str, returns: Any = None) -> Recorder:
    """Put a recorder in the place of a library function that a command imports."""
    recorder = Recorder(returns)
    stand_in = ModuleType(module)
    setattr(stand_in, name, recorder)
    monkeypatch.setitem(sys.modules, module, stand_in)
    return recorder


def test_help_lists_every_command() -> None:
    shown = call("--help").stdout
    for name in (
        "ingest",
        "train",
        "extract",
        "merge",
        "evaluate",
        "quicklook",
        "export",
        "simulate",
        "demo",
        "doctor",
        "bench",
        "campaign",
    ):
        assert f" {name} " in shown


def test_version() -> None:
    assert call("--version").stdout == f"atmonr {__version__}\n"


def test_ingest_of_one_granule(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = replace(monkeypatch, "atmonr.sensors.harp2", "open_harp2", nullcontext("granule"))
    made = replace(monkeypatch, "atmonr.store.ingest", "ingest", Path("s.zarr"))
    result = call("ingest", "g.nc", "-o", "s.zarr", "--crop-bbox", 170, -5, -170, 5, "--max-view-angle", 45)
    ((args, kwargs),) = made.calls
    assert opened.calls[0][0] == (Path("g.nc"),)
    assert args == ("granule", Path("s.zarr"))
    assert kwargs["bbox"] == (170.0, -5.0, -170.0, 5.0)
    assert kwargs["max_view_angle_deg"] == 45.0
    assert kwargs["top_height_m"] == 20_000.0
    assert result.stdout == "s.zarr\n"


def test_a_top_that_ingest_would_refuse_is_refused_at_once() -> None:
    assert call("ingest", "g.nc", "-o", "s.zarr", "--top-height-m", 50_001).exit_code == 2


def test_ingest_of_several_granules_fills_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "atmonr.sensors.harp2", "open_harp2", nullcontext())
    made = replace(monkeypatch, "atmonr.store.ingest", "ingest")
    call("ingest", "a.L1B.nc", "b.nc", "-o", "scenes")
    assert [args[1] for args, _ in made.calls] == [Path("scenes/a.L1B.zarr"), Path("scenes/b.zarr")]


def test_ingest_of_one_granule_into_a_folder_is_like_that_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "atmonr.sensors.harp2", "open_harp2", nullcontext())
    made = replace(monkeypatch, "atmonr.store.ingest", "ingest")
    call("ingest", "data/a.L1B.nc", "-o", "scenes/")
    assert [args[1] for args, _ in made.calls] == [Path("scenes/a.L1B.zarr")]


def test_train_applies_overrides_and_passes_every_scene(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkout: Path
) -> None:
    trained = replace(monkeypatch, "atmonr.train.session", "train")
    replace(monkeypatch, "atmonr.tasks.recipe", "RECIPE")
    config = checkout / "configs" / "instant_ngp.toml"
    overrides = ["--set", "train.steps=9", "--set", "train.device=cpu"]
    call("train", "-c", config, "--scene", "a", "--scene", "b", "--run", tmp_path, *overrides, "--resume")
    ((args, kwargs),) = trained.calls
    assert args[0].train.steps == 9
    assert args[1:] == ([Path("a"), Path("b")], tmp_path)
    assert kwargs["resume"] is True
    assert kwargs["world"].size == 1


def test_a_dry_run_prints_the_plan_of_many_ranks_and_meets_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkout: Path
) -> None:
    scenes = [SceneWork(name, Path(name), rays, 7, 9) for name, rays in (("a", 10**6), ("b", None), ("c", 9))]
    found = Plan(layout(4, 3, 1, 2), scenes, [[0, 2], [1]], [1.0, 0.5])
    planned = replace(monkeypatch, "atmonr.train.session", "plan", found)
    replace(monkeypatch, "atmonr.tasks.recipe", "RECIPE")
    config = checkout / "configs" / "instant_ngp.toml"
    result = call("train", "-c", config, "--scene", "a", "--run", tmp_path, "--dry-run", "--ranks", 4)
    ((_, kwargs),) = planned.calls
    assert (kwargs["ranks"], kwargs["resume"]) == (4, False)
    assert result.stdout.splitlines() == [
        "4 ranks in 2 groups of 2; 3 scenes to train in 2 waves, 0 finished",
        "",
        "group  ranks  busy  scenes (a group that is free takes the next)",
        "0      0-1    100%  a c",
        "1      2-3    50%   b",
        "",
        "scene  rays     rays/rank  MB/rank  steps left",
        "a      1000000  1000000    25.0     9",
        "b      ?        ?          ?        9",
        "c      9        9          0.0      9",
    ]


def test_a_wrong_override_ends_with_78_and_names_the_key(checkout: Path) -> None:
    config = checkout / "configs" / "instant_ngp.toml"
    result = call("train", "-c", config, "--scene", "a", "--run", "r", "--set", "train.stpes=9")
    assert result.exit_code == 78
    assert "did you mean 'train.steps'?" in result.stderr


def test_extract_leaves_steps_to_the_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    extracted = replace(monkeypatch, "atmonr.extract.session", "extract")
    call("extract", "--run", "r", "--grid", "voxel", "-o", "parts.zarr", "--device", "cpu")
    ((args, kwargs),) = extracted.calls
    assert args == (Path("r"), Path("parts.zarr"))
    assert kwargs["grid"] == GridRequest()


def test_a_height_of_zero_is_not_taken_for_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    extracted = replace(monkeypatch, "atmonr.extract.session", "extract")
    call("extract", "--run", "r", "-o", "p", "--max-height-m", 0, "--device", "cpu")
    assert extracted.calls[0][1]["grid"] == GridRequest(max_height_m=0.0)


def test_merge_takes_several_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    merged = replace(monkeypatch, "atmonr.extract.merge", "merge", Path("e.nc"))
    call("merge", "a.zarr", "b.zarr", "-o", "e.nc")
    assert merged.calls == [
        (
            ([Path("a.zarr"), Path("b.zarr")], Path("e.nc")),
            {"horizontal_step_m": None, "vertical_step_m": None},
        )
    ]


def test_evaluate_shows_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = replace(
        monkeypatch, "atmonr.evaluate.session", "evaluate", {"volume": {"iou": 0.75}, "bands": 4}
    )
    result = call("evaluate", "e.nc", "--truth", "t.nc", "-o", "s.json")
    assert scored.calls[0][1]["truth"] == Path("t.nc")
    assert "volume.iou" in result.stdout and "0.75" in result.stdout


def test_simulate_shows_what_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(monkeypatch, "atmonr.simulate.session", "simulate", (Path("g.nc"), Path("t.nc")))
    result = call("simulate", "--preset", "cumulus", "-o", "d", "--latitude", 60, "--rayleigh")
    ((args, kwargs),) = made.calls
    assert args == ("cumulus", Path("d"))
    assert kwargs["latitude_deg"] == 60.0 and kwargs["rayleigh"] is True
    assert result.stdout == "g.nc\nt.nc\n"


def test_simulate_adds_a_lidar_frame_of_the_same_cloud_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "atmonr.simulate.session", "simulate", (Path("d/g.nc"), Path("d/t.nc")))
    framed = replace(monkeypatch, "atmonr.simulate.earthcare", "simulate_frame", Path("d/e.h5"))
    result = call("simulate", "--preset", "deep", "-o", "d", "--earthcare", "--noise", 0.02, "--seed", 5)
    assert framed.calls == [((Path("d/t.nc"), Path("d")), {"noise": 0.02, "seed": 5})]
    assert result.stdout == "d/g.nc\nd/t.nc\nd/e.h5\n"


def test_campaigns_join_the_command_line_and_its_errors() -> None:
    shown = call("campaign", "--help").stdout
    for verb in ["plan", "submit", "status", "logs", "resume", "cancel", "collect", "reproduce", "report"]:
        assert f" {verb} " in shown
    result = call("campaign", "status", "none.toml")
    assert result.exit_code == 78
    assert "none.toml: cannot read" in result.stderr


@pytest.mark.parametrize(
    ("command", "function"),
    [
        (ingest_command.ingest, ingest),
        (extract_command.extract, GridRequest),
        (simulate_command.simulate, simulate),
    ],
)
def test_defaults_are_those_of_the_library(command: Any, function: Any) -> None:
    typed = inspect.signature(command).parameters
    for name, parameter in inspect.signature(function).parameters.items():
        if name in typed and parameter.default is not inspect.Parameter.empty and name != "pixel_m":
            assert typed[name].default == parameter.default, name


def test_export_hands_over_what_each_format_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = replace(monkeypatch, "atmonr.export.vdb", "write_vdb")
    shown = replace(monkeypatch, "atmonr.export.html", "write_html")
    vdb, page = tmp_path / "c.vdb", tmp_path / "c.html"
    result = call(
        "export", "e.nc", "--vdb", vdb, "--half", "--threshold", 1e-4, "--html", page, "--score", "s.json"
    )
    ((args, kwargs),) = made.calls
    assert args == (Path("e.nc"), vdb)
    assert kwargs["half"] is True and kwargs["threshold_per_m"] == 1e-4
    assert shown.calls == [((Path("e.nc"), page, Path("s.json")), {})]
    assert result.stdout.split() == [str(vdb), str(page)]


def test_export_hands_over_how_a_video_is_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import atmonr.export.video as library

    recorder = Recorder()
    monkeypatch.setattr(library, "write_video", recorder)
    options = ("--size", "640x360", "--fps", 30, "--seconds", 2.5, "--path", "flyover", "--sun", 40, -42)
    call("export", "e.nc", "--video", tmp_path / "c.mp4", *options, "--exaggerate", 3, "--device", "cpu")
    ((args, kwargs),) = recorder.calls
    assert args == (
        Path("e.nc"),
        tmp_path / "c.mp4",
        library.Film("flyover", 640, 360, 30, 2.5, (40.0, -42.0), 3.0, None),
    )
    assert kwargs["device"].type == "cpu"


def test_export_of_nothing_or_over_something_is_refused_before_any_work(tmp_path: Path) -> None:
    nothing = call("export", "e.nc")
    assert nothing.exit_code == 2 and "give --vdb, --video, --html" in nothing.stderr
    there = tmp_path / "c.mp4"
    there.write_text("precious")
    over = call("export", "e.nc", "--vdb", tmp_path / "c.vdb", "--video", there)
    assert over.exit_code == 2 and "c.mp4: exists already" in over.stderr
    odd = call(
        "export", "e.nc", "--vdb", tmp_path / "c.vdb", "--video", tmp_path / "d.mp4", "--size", "641x360"
    )
    assert odd.exit_code == 2 and "expected even numbers" in odd.stderr
    assert there.read_text() == "precious" and list(tmp_path.iterdir()) == [there]
