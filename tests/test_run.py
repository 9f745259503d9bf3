from __future__ import annotations

import json
from pathlib import Path

import pytest

from atmonr import __version__
from atmonr.config import Config, load
from atmonr.errors import ResumeError, StoreError, UsageError
from atmonr.provenance import provenance
from atmonr.run import Run

SCENES = {"east": {"scene_id": "11", "pixel_m": 1.5}, "west": {"scene_id": "22"}}


def make_config(**train: object) -> Config:
    return Config.model_validate({"field": {"method": "nerf"}, "train": train})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "runs" / "first", make_config(), SCENES, {"command": ["atmonr"]})


def test_a_new_run_records_what_was_asked_and_where_it_came_from(run: Run) -> None:
    assert load(run.path / "run.toml") == make_config() == run.config
    assert run.provenance == {"command": ["atmonr"]}
    assert run.scene_names == ["east", "west"]
    assert run.scene_info("east") == SCENES["east"]
    assert run.checkpoints("east").is_dir() and run.pictures("west").is_dir() and run.log(3).parent.is_dir()


def test_an_existing_folder_is_never_reused_by_a_new_run(run: Run) -> None:
    (run.checkpoint("east", 5)).write_text("precious")
    with pytest.raises(UsageError, match="--resume or choose another folder"):
        Run.create(run.path, make_config(), SCENES, {})
    assert run.checkpoint("east", 5).read_text() == "precious"


def test_a_run_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scene name 'a/b'"):
        Run.create(tmp_path / "run", make_config(), {"a/b": {"scene_id": "1"}}, {})
    assert list(tmp_path.iterdir()) == []


def test_opening_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="not a run folder"):
        Run.open(tmp_path)


def test_an_unknown_scene_is_refused_with_the_known_ones(run: Run) -> None:
    with pytest.raises(ResumeError, match="no scene 'north'; it has: east, west"):
        run.scene_info("north")


def test_resume_refuses_another_config_and_leaves_the_run_as_it_was(run: Run) -> None:
    before = (run.path / "run.toml").read_bytes()
    with pytest.raises(ResumeError, match=r"train\.seed was 0, now 1"):
        Run.resume(run.path, make_config(seed=1), SCENES)
    assert (run.path / "run.toml").read_bytes() == before


def test_resume_refuses_other_scenes(run: Run) -> None:
    with pytest.raises(ResumeError, match=r"scene 'west' is not the one .* was 22, now 33"):
        Run.resume(run.path, make_config(), {**SCENES, "west": {"scene_id": "33"}})
    with pytest.raises(ResumeError, match="made with scenes east, west; now east"):
        Run.resume(run.path, make_config(), {"east": SCENES["east"]})


def test_resume_with_more_steps_extends_the_run(run: Run) -> None:
    assert Run.resume(run.path, make_config(steps=99), SCENES).config.train.steps == 99


def test_resume_removes_what_a_killed_process_left_half_written(run: Run) -> None:
    run.checkpoint("east", 5).write_bytes(b"whole")
    half = [
        run.checkpoints("east") / ".step-00000020.0123456789ab.tmp.pt",
        run.checkpoints("east") / ".latest.0123456789ab.tmp",
        run.scene_folder("west") / ".metrics.0123456789ab.tmp.jsonl",
        run.path / ".run.0123456789ab.tmp.toml",
    ]
    for path in half:
        path.write_bytes(b"half")
    Run.resume(run.path, make_config(), SCENES)
    assert list(run.path.rglob(".*")) == []
    assert run.checkpoint("east", 5).read_bytes() == b"whole"


def test_a_damaged_run_file_is_named(run: Run) -> None:
    (run.path / "run.toml").write_text("[field")
    with pytest.raises(ResumeError, match=r"run\.toml: not valid TOML"):
        _ = run.config
    (run.scene_folder("east") / "scene.json").write_text("{")
    with pytest.raises(ResumeError, match=r"scene\.json: expected a JSON object"):
        run.scene_info("east")


def test_metrics_are_lines_of_json(run: Run) -> None:
    assert run.read_metrics("east") == []
    run.append_metrics("east", {"step": 1, "loss": 0.5})
    run.append_metrics("east", {"step": 2, "psnr": float("inf"), "loss": float("nan")})
    lines = run.metrics("east").read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.read_metrics("east")
    assert run.read_metrics("east") == [{"step": 1, "loss": 0.5}, {"step": 2, "psnr": None, "loss": None}]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step": 3}', '{"step": 3, "name": "\xe4'])
def test_a_line_torn_by_a_kill_is_left_out_and_does_not_spoil_the_next(run: Run, torn: str) -> None:
    run.append_metrics("east", {"step": 2})
    with open(run.metrics("east"), "ab") as stream:
        stream.write(torn.encode("latin-1"))
    assert run.read_metrics("east") == [{"step": 2}]
    run.truncate_metrics("east", 2)
    run.append_metrics("east", {"step": 3})
    assert run.read_metrics("east") == [{"step": 2}, {"step": 3}]


def test_a_resumed_run_has_no_step_twice(run: Run) -> None:
    for step in range(1, 8):
        run.append_metrics("east", {"step": step})
    run.truncate_metrics("east", 4)
    assert [record["step"] for record in run.read_metrics("east")] == [1, 2, 3, 4]


def test_damage_inside_the_metrics_is_named(run: Run) -> None:
    run.metrics("east").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(StoreError, match=r"metrics\.jsonl: expected one JSON object a line"):
        run.read_metrics("east")


def test_a_metrics_file_that_cannot_be_written_is_named(run: Run) -> None:
    run.metrics("east").mkdir()
    with pytest.raises(StoreError, match=r"metrics\.jsonl: Is a directory"):
        run.append_metrics("east", {"step": 1})


def test_done_is_remembered(run: Run) -> None:
    assert run.done("east") is None
    run.mark_done("east", {"step": 10})
    assert run.done("east") == {"step": 10}
    assert run.done("west") is None


def test_checkpoint_names_sort_by_step(run: Run) -> None:
    names = [run.checkpoint("east", step).name for step in (9, 1000, 123456)]
    assert names == sorted(names)
    assert names[1] == "step-00001000.pt"


def test_checkpoints_are_listed_newest_first_without_half_written_ones(run: Run) -> None:
    for name in ("step-00000009.pt", "step-00001000.pt", ".step-00002000.1a2b.tmp.pt", "latest"):
        (run.checkpoints("east") / name).touch()
    assert run.saved_steps("east") == [1000, 9]
    (run.checkpoint("east", 1000, "tile-0003")).touch()
    assert run.parts_of("east", 1000) == [
        run.checkpoint("east", 1000),
        run.checkpoint("east", 1000, "tile-0003"),
    ]


def test_provenance_names_code_and_command_but_no_machine_or_user() -> None:
    found = provenance()
    assert found["atmonr"] == __version__
    assert set(found) == {
        "atmonr",
        "git_commit",
        "python",
        "packages",
        "command",
        "created_utc",
        "container_image",
    }
    assert found["created_utc"].endswith("+00:00")
    json.dumps(found)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scene.json", b"\xff{}"),
        ("scene.json", b"[" * 100_000),
        ("scene.json", b'{"scene_id": "s", "pixel_m": -1}'),
        ("done.json", b'{"steps": "many"}'),
        ("metrics.jsonl", b'{"step": [1]}\n'),
        ("metrics.jsonl", b"7\n"),
        ("metrics.jsonl", b'{"step": ' + b"9" * 5000 + b"}\n"),
    ],
)
def test_damaged_files_of_a_run_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = Run(tmp_path).scene_folder("s") / name
    path.parent.mkdir(parents=True)
    (path.parent / "scene.json").write_text("{}")
    path.write_bytes(content)
    run = Run(tmp_path)
    with pytest.raises((ResumeError, StoreError), match=name):
        run.scene_info("s"), run.done("s"), run.read_metrics("s")
