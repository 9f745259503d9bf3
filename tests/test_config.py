from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atmonr.config import Config, load
from atmonr.errors import ConfigError

MINIMAL = '[field]\nmethod = "instant_ngp"\n'


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "minimal.toml"
    path.write_text(MINIMAL)
    return path


def test_a_short_file_gets_defaults(minimal: Path) -> None:
    config = load(minimal)
    assert config.task == "tomography"
    assert config.field.method == "instant_ngp"
    assert config.train.keep_checkpoints >= 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stpes=5", "train.stpes: unknown key, did you mean 'train.steps'?; valid: steps, "),
        ("steps=5", "steps: unknown key, did you mean 'train.steps'?"),
        ("field.levles=5", "field.levles: unknown key, did you mean 'field.levels'?"),
        ("field.levels=25", "field.levels: 25 is not valid; expected a whole number, >= 1, <= 24"),
        ("field.levels=2.5", "field.levels: 2.5 is not valid; expected a whole number"),
        ("field.levels=true", "field.levels: True is not valid"),
        ("field.method=dense", "field.method: missing or unknown method; valid: instant_ngp, nerf"),
        ("field.finest_cell_pixels=0", "expected a number, > 0"),
        ("train.learning_rate=nan", "train.learning_rate: nan is not valid"),
        ("train.keep_checkpoints=1", "expected a whole number, >= 2"),
        ("train.device=tpu", "train.device: 'tpu' is not valid; expected one of 'auto', 'cpu', 'cuda'"),
        ("render=3", "render: 3 is not valid; expected a section"),
        ("track.uri=3", "track.uri: 3 is not valid; expected text"),
        ("train.steps.more=3", "'steps' is a single value, not a section"),
        ("train.steps", "expected key.name=value"),
        ("=3", "expected key.name=value"),
    ],
)
def test_a_bad_override_is_refused_with_key_reason_and_remedy(
    minimal: Path, override: str, message: str
) -> None:
    minimal.write_text(MINIMAL + "[train]\nsteps = 10\n")
    with pytest.raises(ConfigError) as caught:
        load(minimal, [override])
    assert str(caught.value).startswith(f"--set {override}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(MINIMAL + "ema_decay = 0.9\n")
    with pytest.raises(ConfigError, match=r"bad\.toml: field\.ema_decay: unknown key"):
        load(path)
    path.write_text("[field\n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML"):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML"):
        load(path)
    path.write_text("")
    with pytest.raises(ConfigError, match=r"bad\.toml: field: is missing"):
        load(path)
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot read"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("learning_rate = {}", "learning_rate: a number too long to show is not valid"),
        ("batch_rays = {}", "batch_rays: a whole number of more than 64 bits"),
        ("batch_rays = -{}", "not valid TOML"),
        ("batch_rays = [{}]", "batch_rays: a number too long to show is not valid"),
    ],
)
def test_a_number_that_python_will_not_write_out_is_refused(minimal: Path, setting: str, told: str) -> None:
    """Decimal ones tomllib refuses by itself."""
    minimal.write_text(MINIMAL + "[train]\n" + setting.format(f"0x{'f' * 5000}") + "\n")
    with pytest.raises(ConfigError, match=told):
        load(minimal)


def test_all_mistakes_are_told_at_once(minimal: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.steps.*train\.seed|train\.seed.*train\.steps"):
        load(minimal, ["train.steps=0", "train.seed=-1"])


def test_a_loss_without_any_comparison_is_refused(minimal: Path) -> None:
    with pytest.raises(ConfigError, match="loss: at least one of mse, l1, hdr, dark"):
        load(minimal, ["loss.mse=0.0", "loss.sparsity=1.0"])


def test_settings_of_another_method_are_refused(minimal: Path) -> None:
    with pytest.raises(ConfigError, match=r"field\.levels: unknown key"):
        load(minimal, ["field.method=nerf", "field.levels=4"])


def test_a_password_in_the_tracking_uri_is_refused(minimal: Path) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD"):
        load(minimal, ["track.uri=https://me:secret@example.org"])
    assert load(minimal, ["track.uri=sqlite:///mlflow.db"]).track.uri == "sqlite:///mlflow.db"


def test_override_values_are_toml_or_plain_text(minimal: Path) -> None:
    config = load(
        minimal, ["train.learning_rate=1e-3", "train.steps=7", "track.experiment=a b", 'track.uri="x=1"']
    )
    assert (config.train.learning_rate, config.train.steps) == (1e-3, 7)
    assert (config.track.experiment, config.track.uri) == ("a b", "x=1")


def test_the_override_that_counted_is_the_one_blamed(minimal: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--set train=3: train: 3 is not valid"):
        load(minimal, ["train.steps=5", "train=3"])


def test_an_empty_tracking_uri_is_refused(minimal: Path) -> None:
    with pytest.raises(ConfigError, match=r"track\.uri: '' is not valid"):
        load(minimal, ["track.uri="])


def test_a_config_cannot_be_changed(minimal: Path) -> None:
    config = load(minimal)
    with pytest.raises(ValueError, match="frozen"):
        config.train.steps = 3  # type: ignore[misc]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.floats(min_value=1e-300, max_value=1.0),
    seed=st.integers(0, 2**32 - 1),
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_the_resolved_config_loads_back_equal(tmp_path: Path, rate: float, seed: int, text: str) -> None:
    config = Config.model_validate(
        {
            "field": {"method": "nerf"},
            "train": {"learning_rate": rate, "seed": seed},
            "track": {"experiment": text},
        }
    )
    path = tmp_path / "run.toml"
    path.write_text(config.toml(), encoding="utf-8", newline="")
    assert load(path) == config
    assert load(path).digest == config.digest
    assert load(path).toml() == config.toml()


@pytest.mark.parametrize(
    "override",
    [
        "train.steps=77",
        "train.device=cpu",
        "train.checkpoint_every_steps=3",
        "train.checkpoint_every_minutes=0.5",
        "train.keep_checkpoints=9",
        "train.log_every_steps=1",
        "train.evaluate_every_steps=1",
        "track.uri=sqlite:///x.db",
        "track.experiment=other",
    ],
)
def test_where_and_how_long_it_runs_is_not_identity(minimal: Path, override: str) -> None:
    assert load(minimal).digest == load(minimal, [override]).digest


@pytest.mark.parametrize(
    "override",
    [
        "train.seed=1",
        "train.batch_rays=99",
        "field.levels=3",
        "loss.l1=0.5",
        "render.samples=9",
        "field.method=nerf",
    ],
)
def test_what_is_learned_and_how_is_identity(minimal: Path, override: str) -> None:
    assert load(minimal).digest != load(minimal, [override]).digest


def test_the_mirror_that_a_file_names_can_be_switched_off(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('[field]\nmethod = "instant_ngp"\n[track]\nuri = "sqlite:///mlflow.db"\n')
    assert load(path).track.uri == "sqlite:///mlflow.db"
    assert load(path, ["track.uri=off"]).track.uri is None
