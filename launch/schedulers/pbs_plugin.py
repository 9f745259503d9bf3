"""PBS (OpenPBS, PBS Pro) for submitit, which finds these classes by the entry points in pyproject.toml.

Campaigns submit commands with it; `submitit.AutoExecutor(folder, cluster="pbs")` also runs functions.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from submitit.core.core import EquivalenceDict, InfoWatcher, Job, PicklingExecutor
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import FailedSubmissionError

_STATES = {"R": "RUNNING", "B": "RUNNING", "E": "DONE", "F": "DONE", "X": "DONE"}


def states(text: str) -> dict[str, str]:
    """Return {job: state} from what `qstat -f -F json` prints; every state but these is PENDING.

    Raises:
        ValueError: If it is something else.
    """
    jobs = json.loads(text).get("Jobs", {}) if text.strip() else {}
    return {job: _STATES.get(about["job_state"], "PENDING") for job, about in jobs.items()}


def script(
    command: str,
    folder: Path,
    *,
    job_name: str = "submitit",
    minutes: int = 60,
    cpus: int = 1,
    gpus: int = 0,
    memory_gb: float = 0.0,
    count: int = 1,
    after: Sequence[str] = (),
    options: Sequence[str] = (),
    setup: Sequence[str] = (),
    teardown: Sequence[str] = (),
) -> str:
    """Return a job's script.

    Args:
        command: Shell text.
        folder: For logs.
        job_name: For people.
        minutes: Wall time.
        cpus: Cores of its one node.
        gpus: Likewise.
        memory_gb: Likewise; 0 for what the site gives.
        count: Of jobs; an array, if there are several.
        after: Ids of jobs that end before it begins.
        options: Of qsub.
        setup: Shell lines before the command.
        teardown: Shell lines after it.
    """
    select = f"select=1:ncpus={cpus}" + f":ngpus={gpus}" * (gpus > 0)
    directives = [
        # qsub takes no longer names, and none with other characters.
        f"-N {re.sub(r'[^A-Za-z0-9_-]', '_', job_name)[:15]}",
        f"-l {select}" + f":mem={int(memory_gb * 1024)}mb" * (memory_gb > 0),
        f"-l walltime={minutes // 60:02d}:{minutes % 60:02d}:00",
        "-r y",
        "-j oe",
        f"-o {folder}/",
        *([f"-J 0-{count - 1}"] if count > 1 else []),
        *([f"-W depend=afterany:{':'.join(after)}"] if after else []),
        *options,
    ]
    lines = [
        "#!/bin/bash",
        *(f"#PBS {directive}" for directive in directives),
        "",
        # PBS itself shows what a job prints only when it is over.
        f'exec >>{shlex.quote(str(folder))}/"$PBS_JOBID"_0_log.out 2>&1',
        "export SUBMITIT_EXECUTOR=pbs",
        *setup,
        command,
        *teardown,
    ]
    return "\n".join(lines) + "\n"


class PbsInfoWatcher(InfoWatcher):
    """Asks qstat."""

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """State of a job, in words that submitit knows."""
        return self.get_info(job_id, mode=mode).get("State", "UNKNOWN")

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Read what qstat prints."""
        text = string if isinstance(string, str) else string.decode()
        return {job: {"State": state} for job, state in states(text).items()}

    def _make_command(self) -> list[str] | None:
        jobs = sorted(self._registered - self._finished)
        return ["qstat", "-x", "-f", "-F", "json", *jobs] if jobs else None


class PbsJob(Job[Any]):
    """A job that qdel ends."""

    _cancel_command = "qdel"
    watcher = PbsInfoWatcher()


class PbsJobEnvironment(JobEnvironment):
    """What a function finds in its job."""

    # The job's id has the place in an array in it. The rest is not set: the first task of one, on one node.
    _env: ClassVar[dict[str, str]] = {
        "job_id": "PBS_JOBID",
        "num_tasks": "SUBMITIT_PBS_TASKS",
        "num_nodes": "SUBMITIT_PBS_NODES",
        "node": "SUBMITIT_PBS_NODE",
        "global_rank": "SUBMITIT_PBS_RANK",
        "local_rank": "SUBMITIT_PBS_LOCAL_RANK",
    }

    def _requeue(self, countdown: int) -> None:
        raise RuntimeError("PBS lets no job requeue itself")


class PbsExecutor(PicklingExecutor):
    """Submits with qsub."""

    job_class = PbsJob

    @classmethod
    def affinity(cls) -> int:
        """2 where there is a PBS: as much as Slurm's, which submitit asks before."""
        return -1 if shutil.which("qsub") is None else 2

    @classmethod
    def _equivalence_dict(cls) -> EquivalenceDict:
        names = {"name": "job_name", "timeout_min": "minutes", "mem_gb": "memory_gb"}
        return cast(EquivalenceDict, {**names, "cpus_per_task": "cpus", "gpus_per_node": "gpus"})

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return set(inspect.signature(script).parameters) - {"command", "folder"}

    def _internal_update_parameters(self, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - self._valid_parameters())
        if unknown:
            raise ValueError(f"{unknown[0]}: no parameter of PBS jobs; valid: {self._valid_parameters()}")
        super()._internal_update_parameters(**kwargs)

    @property
    def _submitit_command_str(self) -> str:
        return shlex.join([sys.executable, "-u", "-m", "submitit.core._submit", str(self.folder)])

    def _num_tasks(self) -> int:
        return 1

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        return script(command, self.folder, **self.parameters)

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        return ["qsub", str(submission_file_path)]

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        job = (string if isinstance(string, str) else string.decode()).strip()
        if not job:
            raise FailedSubmissionError("qsub printed no job id")
        return job
