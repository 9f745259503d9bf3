"""Slurm, with scripts and submission by submitit.

Of submitit only the part that writes and sends sbatch scripts is used. Its jobs are pickled functions that
count every signal late in a job as a timeout and give up after a few; ours are a command, and how they end is
read from the campaign folder.
"""

from __future__ import annotations

import getpass
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atmonr.errors import ConfigError
from launch.schedulers.base import SETUP, WAIT, Order, ask, background, send, tell

if TYPE_CHECKING:
    from submitit.slurm.slurm import SlurmExecutor

# Only a scheduler that is asked outside of a container can requeue.
REQUEUE = """\
if [ "$code" -eq 75 ]; then scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}\
${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"; fi
exit "$code\""""
JOB = '"${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"'
NODE_STATES = "NODE_FAIL,BOOT_FAIL"


class Slurm:
    """A Slurm cluster."""

    def script(self, order: Order) -> str:
        """Return exactly what `submit` would give to sbatch."""
        from submitit.slurm import slurm

        parameters = {**_parameters(order), "map_count": order.count}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about ways of asking for GPUs that we do not use
            return slurm._make_sbatch_string(_command(order), order.folder, **parameters)

    def submit(self, order: Order) -> list[str]:
        """Send one array of workers; return the ids of its elements.

        Raises:
            ConfigError: If this is no Slurm cluster.
            StoreError: If sbatch refuses.
        """
        executor = _executor(order)
        executor.parameters = {**_parameters(order), "map_count": order.count}
        job = send("sbatch", executor, _command(order))
        return [f"{job}_{number}" for number in range(order.count)]

    def alive(self, jobs: Sequence[str]) -> set[str] | None:
        """Return which of the jobs wait or run; needs slurmctld, but no accounting."""
        shown = ask(["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i"])
        return None if shown is None else set(jobs) & set(shown.split())

    def failed_nodes(self, jobs: Sequence[str]) -> Mapping[str, str]:
        """Return {node: reason} from the accounting; nothing where there is none, or it is down."""
        parents = _parents(jobs)
        if not parents:
            return {}
        shown = ask(
            [
                "sacct",
                "--noheader",
                "--parsable2",
                "--allocations",
                "--duplicates",
                "--state",
                NODE_STATES,
                "--starttime",
                "now-7days",
                # Without an end, and asked for a state, sacct looks at the one moment of the start.
                "--endtime",
                "now",
                "--jobs",
                ",".join(parents),
                "--format",
                "NodeList,State,JobID",
            ]
        )
        rows = (line.split("|") for line in (shown or "").splitlines())
        return {row[0]: f"{row[1]} of job {row[2]}" for row in rows if len(row) == 3 and "[" not in row[0]}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Signal running jobs to save, and take waiting ones from the queue.

        Raises:
            StoreError: If scancel fails.
        """
        if jobs:
            tell(["scancel", "--quiet", "--state=PENDING", *jobs])
            tell(["scancel", "--quiet", "--batch", "--signal=USR2", *jobs])


def _executor(order: Order) -> SlurmExecutor:
    from submitit.slurm.slurm import SlurmExecutor

    try:
        return SlurmExecutor(order.folder)
    except RuntimeError as error:
        raise ConfigError(f"no srun on PATH: {error}; choose another site profile") from error


def _parents(jobs: Sequence[str]) -> list[str]:
    """The arrays of jobs."""
    return sorted({job.partition("_")[0] for job in jobs})


def _command(order: Order) -> str:
    return f"{background(order, JOB)}\n{WAIT}"


def _parameters(order: Order) -> dict[str, Any]:
    """Parameters of submitit's script; what it does not know goes through unchanged."""
    pool = order.pool
    more: dict[str, Any] = {
        # To the shell alone: a signal to all would also end what mounts the image of a container.
        "signal": f"B:USR2@{pool.grace_s}",
        "requeue": True,
        **dict(map(_flag, pool.options)),
    }
    return {
        "job_name": order.name,
        "time": order.wall_minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": pool.cpus,
        "gpus_per_node": pool.gpus or None,
        "mem": f"{int(pool.memory_gb * 1024)}MB" if pool.memory_gb else None,
        "exclude": ",".join(order.exclude) or None,
        "dependency": f"afterany:{':'.join(_parents(order.after))}" if order.after else None,
        "array_parallelism": pool.max_jobs,
        "wckey": None,  # submitit's own name, which sites that account by it would refuse
        "stderr_to_stdout": True,
        "use_srun": False,
        # Where several daemons share a host, only Slurm knows which node this is.
        "setup": ['export ATMONR_NODE="$SLURMD_NODENAME"', *pool.setup, SETUP],
        "teardown": [REQUEUE],
        "additional_parameters": more,
    }


def _flag(option: str) -> tuple[str, Any]:
    """Split a long option of sbatch, such as `--partition=gpu`, into name and value.

    Raises:
        ConfigError: If it is a short one, whose name submitit would take for a long one's.
    """
    name, equals, value = option.partition("=")
    if not name.startswith("--") or " " in name:
        raise ConfigError(f"options: '{option}': expected sbatch's long form, such as --partition=gpu")
    return name[2:], value if equals else True
