"""What commands of a worker get, and that they end with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from campaigns import frozen

from launch.child import ProcessChild
from launch.policy import Adjustment
from launch.submit import settings_of
from launch.work import Commands, Work

CAMPAIGN = """\
name = "try"
folder = "campaign"
image = "atmonr.sif"
site = "slurm"
[granules]
files = ["*.nc"]
[config]
file = "config.toml"
"""


def work(folder: Path, **changes: object) -> Work:
    values = {"job": "1", "pools": ("gpu",), "slots": 1, "gpus": 0, "cpus": 1, "wall_s": 60.0, "grace_s": 5.0}
    return Work(folder, **{**values, "task_s": {}, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "slots", "gpus", "shares"),
    [
        (None, 2, 4, ["0,1", "2,3"]),
        ("5,7", 2, 2, ["5", "7"]),
        ("0", 2, 1, ["0", "0"]),
        (None, 4, 4, ["0", "1", "2", "3"]),
    ],
)
def test_slots_share_the_gpus_of_their_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    slots: int,
    gpus: int,
    shares: list[str],
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    folder = frozen(tmp_path / "campaign", 1)
    commands = Commands(folder, folder.settings, work(folder.path, slots=slots, gpus=gpus, cpus=8))
    environments = [commands._environment(slot) for slot in range(slots)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == shares
    assert {environment["OMP_NUM_THREADS"] for environment in environments} == {str(8 // slots)}


def test_progress_is_the_last_whole_line(tmp_path: Path) -> None:
    folder = frozen(tmp_path / "campaign", 1)
    commands = Commands(folder, folder.settings, work(folder.path))
    scene, field = folder.tasks()
    assert commands.progress(scene, Adjustment()) == commands.progress(field, Adjustment()) == {}
    metrics = folder.of(field) / "run-seed1" / "scenes" / field.granule / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"step": 5, "loss": 0.5}\n{"step": 6, "lo')
    assert commands.progress(field, Adjustment(seed=1)) == {"step": 5, "loss": 0.5}


def test_a_command_is_asked_to_stop_by_signal_and_by_file(tmp_path: Path) -> None:
    script = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); "
    script += "sys.stdout.write('up\\n'); sys.stdout.flush(); time.sleep(60)"
    child = start(tmp_path, script)
    wait_for(lambda: child.last_words() == "up")
    assert child.poll() is None
    child.stop()
    wait_for(lambda: child.poll() is not None)
    assert child.poll() == 75 and (tmp_path / "STOP").exists()


def test_a_command_that_is_killed_takes_its_own_with_it(tmp_path: Path) -> None:
    child = start(tmp_path, "import os; os.system('sleep 60 & echo $!; wait')")
    wait_for(lambda: child.last_words().isdigit())
    inner = int(child.last_words())
    child.kill()
    assert child.poll() == -9
    wait_for(lambda: not alive(inner))


def test_a_command_ends_with_its_worker(tmp_path: Path) -> None:
    worker = (
        "import sys, time; from pathlib import Path; from launch.child import ProcessChild; "
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']; "
        "child = ProcessChild(command, folder=Path(sys.argv[1]), "
        "log=Path(sys.argv[1]) / 'log', stop_file=None, environment={}); "
        "sys.stdout.write(f'{child._process.pid}\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", worker, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        inner = int(process.stdout.readline())
        assert alive(inner)
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(inner))


def test_an_image_is_named_in_the_command_and_in_the_lock(tmp_path: Path) -> None:
    from launch.campaign_file import load_campaign

    (tmp_path / "atmonr.sif").write_bytes(b"image")
    (tmp_path / "config.toml").write_text('[field]\nmethod = "instant_ngp"\n')
    (tmp_path / "campaign.toml").write_text(CAMPAIGN)
    settings = settings_of(load_campaign(tmp_path / "campaign.toml"))
    assert settings["program"][:3] == ["apptainer", "exec", "--nv"]
    assert settings["program"][-2:] == [str(tmp_path / "atmonr.sif"), "atmonr"]
    assert settings["lock"]["image_digest"].startswith("sha256:6105d6cc76af400325e9")
    assert any(package.startswith("torch==") for package in settings["lock"]["packages"])


def test_an_image_sees_the_granules_wherever_they_are(tmp_path: Path) -> None:
    from launch.campaign_file import load_campaign
    from launch.plan import make_plan

    place = tmp_path / "place"
    for folder in (place / "sub", tmp_path / "archive", tmp_path / "disk"):
        folder.mkdir(parents=True)
    (tmp_path / "disk" / "two.nc").write_bytes(b"2")
    (tmp_path / "archive" / "two.nc").symlink_to(tmp_path / "disk" / "two.nc")
    (place / "sub" / "one.nc").write_bytes(b"1")
    (place / "atmonr.sif").write_bytes(b"image")
    (place / "config.toml").write_text('[field]\nmethod = "instant_ngp"\n')
    (place / "campaign.toml").write_text(
        'name = "try"\nfolder = "../results"\nsite = "slurm"\nimage = "atmonr.sif"\n'
        '[granules]\nfiles = ["sub/*.nc", "../archive/*.nc"]\n[config]\nfile = "config.toml"\n'
    )
    campaign = load_campaign(place / "campaign.toml")
    program = settings_of(campaign, make_plan(campaign).tasks)["program"]
    binds = [program[at + 1] for at, word in enumerate(program) if word == "--bind"]
    # Each by itself: what they have in common may be the root folder.
    assert binds == [str(tmp_path / name) for name in ("archive", "disk", "place", "results")]


def start(place: Path, script: str) -> ProcessChild:
    return ProcessChild(
        [sys.executable, "-c", script],
        folder=place,
        log=place / "log.txt",
        stop_file=place / "STOP",
        environment={},
    )


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(happens: object) -> None:
    over = time.monotonic() + 20
    while not happens():  # type: ignore[operator]
        assert time.monotonic() < over
        time.sleep(0.05)
