"""What starts workers: this machine, Slurm or PBS.

A scheduler is told to run the same command so many times. It knows no tasks, and what it says about jobs is a
hint: campaigns go on without it.
"""

from __future__ import annotations

from launch.schedulers.base import Order, Scheduler

__all__ = ["Order", "Scheduler", "scheduler_of"]


def scheduler_of(kind: str) -> Scheduler:
    """Return the scheduler of a site profile's `scheduler`."""
    if kind == "slurm":
        from launch.schedulers.slurm import Slurm

        return Slurm()
    if kind == "pbs":
        from launch.schedulers.pbs import Pbs

        return Pbs()
    from launch.schedulers.local import Local

    return Local()
