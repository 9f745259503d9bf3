from __future__ import annotations

import pytest

from atmonr.errors import WorldError
from atmonr.launchers import Launch, detect, meeting_point, slurm_meeting_points

SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


PMI = {"PMI_RANK": "0", "PMI_SIZE": "2"}
HYDRA = {**PMI, "MPI_LOCALRANKID": "0"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
PALS = {"PALS_RANKID": "5", "PMI_RANK": "5", "PMI_SIZE": "8", "PALS_LOCAL_RANKID": "1", "PMI_LOCAL_RANK": "1"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (TORCHRUN, Launch("torchrun", 1, 2, 1, False)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, None),
        (HYDRA, Launch("MPICH or Intel MPI", 0, 2, 0, True)),
        (OPEN_MPI, Launch("Open MPI", 2, 4, 1, True)),
        ({**OPEN_MPI, "PMIX_RANK": "2"}, Launch("Open MPI", 2, 4, 1, True)),
        (PALS, Launch("PALS", 5, 8, 1, True)),
        (SRUN, Launch("Slurm", 3, 4, 1, False)),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        ({**SRUN, "PMIX_RANK": "3"}, Launch("PMIx", 3, 4, 1, True)),
        ({**SRUN, **PMI}, Launch("MPICH or Intel MPI", 0, 2, 0, True)),
        ({**SRUN, **TORCHRUN}, Launch("torchrun", 1, 2, 1, False)),
    ],
)
def test_the_launcher_is_told_by_its_variables(environ: dict[str, str], expected: Launch | None) -> None:
    assert detect(environ) == expected


def test_without_mpi_slurm_tasks_are_ranks_all_the_same() -> None:
    assert detect({**SRUN, **PMI}, mpi=False) == Launch("Slurm", 3, 4, 1, False)
    assert detect({**SRUN, "PMIX_RANK": "3"}, mpi=False) == Launch("Slurm", 3, 4, 1, False)
    assert detect(HYDRA, mpi=False) is None


def test_a_batch_script_outside_srun_is_one_process() -> None:
    assert (
        detect({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}) is None
    )


def test_a_rank_that_is_no_number_is_refused() -> None:
    with pytest.raises(WorldError, match="PMI_SIZE=many: expected a whole number"):
        detect({"PMI_RANK": "0", "PMI_SIZE": "many"})


@pytest.mark.parametrize(
    ("nodes", "host"), [("n1", "n1"), ("gpu[03-05,9]", "gpu03"), ("a,b", "a"), ("rack-2-[1,4]", "rack-2-1")]
)
def test_slurm_ranks_meet_on_the_first_node(nodes: str, host: str) -> None:
    environ = {"SLURM_STEP_NODELIST": nodes, "SLURM_JOB_ID": "123456", "SLURM_STEP_ID": "2"}
    found, ports, job = slurm_meeting_points(environ)
    assert (found, job) == (host, "Slurm job 123456 step 2")
    assert all(1024 < port < 32768 for port in ports)
    own = {**environ, "MASTER_ADDR": "z", "MASTER_PORT": "5"}
    assert slurm_meeting_points(own) == ("z", [5], "Slurm job 123456 step 2")


def test_slurm_jobs_and_steps_of_one_time_try_different_ports() -> None:
    tried = [
        port
        for job in range(1000, 1100)
        for step in range(3)
        for port in slurm_meeting_points(
            {"SLURM_STEP_NODELIST": "n1", "SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}
        )[1]
    ]
    assert len(set(tried)) == len(tried)


def test_ranks_without_a_place_to_meet_are_refused() -> None:
    with pytest.raises(WorldError, match="expected MASTER_ADDR and MASTER_PORT"):
        meeting_point(Launch("torchrun", 0, 2, 0, False), {})
    with pytest.raises(WorldError, match="expected SLURM_STEP_NODELIST and SLURM_JOB_ID"):
        slurm_meeting_points({"SLURM_JOB_ID": "1"})
