from __future__ import annotations

import pytest

from atmonr.errors import WorldError
from atmonr.launchers import Launch, detect, meeting_point

SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (TORCHRUN, Launch("torchrun", 1, 2, 1, False)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, None),
        ({"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0"}, Launch("MPICH", 0, 2, 0, True)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, Launch("Open MPI", 2, 4, 0, True)),
        (SRUN, Launch("Slurm", 3, 4, 1, False)),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        ({**SRUN, "PMIX_RANK": "3"}, Launch("PMIx", 3, 4, 0, True)),
        ({**SRUN, "PMI_RANK": "0", "PMI_SIZE": "2"}, Launch("MPICH", 0, 2, 0, True)),
        ({**SRUN, **TORCHRUN}, Launch("torchrun", 1, 2, 1, False)),
    ],
)
def test_the_launcher_is_told_by_its_variables(environ: dict[str, str], expected: Launch | None) -> None:
    assert detect(environ) == expected


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
def test_slurm_ranks_meet_on_the_first_node_at_a_port_of_the_job(nodes: str, host: str) -> None:
    slurm = detect(SRUN)
    assert slurm is not None
    environ = {"SLURM_STEP_NODELIST": nodes, "SLURM_JOB_ID": "123456"}
    assert meeting_point(slurm, environ) == f"{host}:{20000 + 123456 % 20000}"
    assert meeting_point(slurm, {**environ, "MASTER_ADDR": "z", "MASTER_PORT": "5"}) == "z:5"


def test_ranks_without_a_place_to_meet_are_refused() -> None:
    with pytest.raises(WorldError, match="expected MASTER_ADDR and MASTER_PORT"):
        meeting_point(Launch("torchrun", 0, 2, 0, False), {})
