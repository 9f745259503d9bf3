"""Site profiles: what a cluster is called upon with. One short TOML file each, shipped in configs/sites/."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from atmonr.config import Section
from atmonr.errors import ConfigError
from launch.toml_file import load_section

# Beside the packages in a checkout; a user's own file is named by its path.
SHIPPED = Path(__file__).resolve().parents[1] / "configs" / "sites"


class Pool(Section):
    """One kind of job. A job is one worker on one node, which works on `slots` tasks at a time."""

    slots: int = Field(1, ge=1, le=1024)
    gpus: int = Field(0, ge=0, le=64)  # of the job, shared out evenly among its slots
    cpus: int = Field(1, ge=1, le=1024)  # likewise
    memory_gb: float = Field(0.0, ge=0)  # 0: what the site gives
    max_jobs: int = Field(1, ge=1, le=100_000)  # queued and running at once
    wall_minutes: int = Field(60, ge=2)  # longest that may be asked for
    grace_s: int = Field(120, ge=1)  # before the end of the wall time, for saving
    options: list[str] = Field([])  # of sbatch or qsub, such as "--partition=gpu"
    setup: list[str] = Field([])  # shell lines before the worker, such as "module load apptainer"
    charge_per_hour: float = Field(0.0, ge=0)  # of a job, in the site's own units

    @field_validator("options")
    @classmethod
    def _options_are_whole(cls, options: list[str]) -> list[str]:
        for option in options:
            if not option.startswith("-"):
                raise ValueError(
                    f"{option!r} is no option; write each as one text, such as '--partition=gpu'"
                )
        return options


class Cost(Section):
    """Throughput to expect before a task of the campaign has finished. 0: unknown."""

    ingest_mb_per_s: float = Field(0.0, ge=0)  # of granules
    rays_per_s: float = Field(0.0, ge=0)  # of training, steps x rays of a batch
    other_s: float = Field(0.0, ge=0)  # of all further stages of a task together
    scene_bytes_per_byte: float = Field(1.0, ge=0)  # of disk, per byte of the granule
    run_mb: float = Field(50.0, ge=0)  # of disk, per trained field


class Site(Section):
    """A cluster, or a laptop."""

    title: str = Field(min_length=1)
    scheduler: Literal["local", "slurm", "pbs"]
    tested: bool = True  # false: written from public descriptions
    # What precedes an image's name to run a program in it.
    container: list[str] = Field(["apptainer", "exec"])
    # Instead of this Python: how atmonr is started on a node, outside of an image.
    program: list[str] = Field([])
    heartbeat_s: float = Field(20.0, gt=0)
    # Without a heartbeat for so long a worker counts as gone: more than files take to be seen by other nodes.
    lease_s: float = Field(300.0, gt=0)
    idle_s: float = Field(60.0, ge=0)  # how long a worker waits for work that others may leave to it
    cost: Cost = Cost()
    gpu: Pool = Pool()
    cpu: Pool | None = None  # without it, everything runs in the jobs of `gpu`

    @property
    def pools(self) -> dict[str, Pool]:
        """By name."""
        return {"gpu": self.gpu} | ({"cpu": self.cpu} if self.cpu is not None else {})

    def pool(self, name: str) -> Pool:
        """Return the pool of this name, `gpu` or `cpu`."""
        return self.cpu if name == "cpu" and self.cpu is not None else self.gpu


def load_site(name: str, beside: Path) -> Site:
    """Read a site profile.

    Args:
        name: Name of a shipped profile, or path of a file.
        beside: Folder that a relative path starts from.

    Raises:
        ConfigError: If there is no such profile or it is not valid.
    """
    if not name.endswith(".toml"):
        path = SHIPPED / f"{name}.toml"
        if not path.is_file():
            shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
            raise ConfigError(
                f"site '{name}': no such profile; shipped are {shipped}; or name a file that ends in .toml"
            )
    else:
        path = beside / name
    site = load_section(path, Site)
    if site.lease_s < 3 * site.heartbeat_s:
        raise ConfigError(
            f"{path}: lease_s: {site.lease_s} is not valid; expected at least three times heartbeat_s"
        )
    return site
