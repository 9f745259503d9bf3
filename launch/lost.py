"""Workers that are heard of no more: their attempts are ended by others, and their nodes watched."""

from __future__ import annotations

from launch.attempts import State, finish
from launch.disk import names_in, publish
from launch.folder import Folder
from launch.task import Task

# A node on which so many workers vanished is used no more.
NODE_LOSSES = 2


def declare_lost(
    folder: Folder, task: Task, state: State, *, now_s: float, lease_s: float, by: str, durable: bool
) -> bool:
    """End the attempt of a worker that is gone.

    Args:
        folder: Of the campaign.
        task: In the hands of that worker, as far as its folder tells.
        state: Of the task.
        now_s: Time by the same clock as heartbeats [s since 1970].
        lease_s: Without a heartbeat for so long a worker is gone.
        by: Who says so.
        durable: Whether a power cut must not undo it.

    Returns:
        Whether the attempt is over: the task may be claimed.
    """
    owner = str(state.claim["worker"])
    try:
        age_s = now_s - folder.worker(owner).stat().st_mtime
    except FileNotFoundError:
        age_s = float("inf")
    if age_s <= lease_s:
        return False
    record = {
        "class": "lost",
        "reason": f"no heartbeat of {owner} for {age_s:.0f} s",
        "time_s": now_s,
        "worker": owner,
        "ended_by": by,
    }
    if finish(folder.of(task), state.number, record, durable=durable):
        _blame(folder, str(state.claim["host"]), owner, durable)
    return True


def _blame(folder: Folder, host: str, worker: str, durable: bool) -> None:
    """Remember a worker that vanished; a node where several did is used no more."""
    losses = folder.losses(host)
    publish(losses / f"{worker}.json", {}, durable=durable)
    if len(names_in(losses)) >= NODE_LOSSES:
        reason = f"{NODE_LOSSES} workers vanished on it"
        publish(folder.bad_node(host), {"reason": reason}, durable=durable)
