"""Which scenes each rank works on, and with whom: arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass

from atmonr.errors import WorldError


@dataclass(frozen=True)
class Assignment:
    """The work of one rank.

    Attributes:
        scenes: Positions of its scenes in the list of all scenes, in the order in which it takes them.
        group: Ranks that share these scenes, this one among them.
        index: Position of this rank in its group.
    """

    scenes: tuple[int, ...]
    group: tuple[int, ...]
    index: int


def layout(world_size: int, n_scenes: int, ranks_per_scene: int) -> list[Assignment]:
    """Deal scenes to groups of neighbouring ranks in turn, so that no group has two scenes more than another.

    Neighbours form a group because launchers fill one machine after the other, and traffic within a group is
    by far the heaviest.

    Args:
        world_size: Number of ranks.
        n_scenes: Number of scenes.
        ranks_per_scene: Ranks that share each scene.

    Returns:
        The work of each rank, in order of rank.

    Raises:
        WorldError: If there is no scene, groups do not come out even, or some ranks would have nothing to do.
    """
    if n_scenes < 1:
        raise WorldError("no scene to train on; expected at least one")
    if world_size % ranks_per_scene:
        raise WorldError(
            f"{world_size} ranks cannot form groups of world.ranks_per_scene={ranks_per_scene}; "
            f"start a multiple of {ranks_per_scene} ranks or set another world.ranks_per_scene"
        )
    n_groups = world_size // ranks_per_scene
    if n_groups > n_scenes:
        idle = world_size - n_scenes * ranks_per_scene
        share = (
            f" or --set world.ranks_per_scene={world_size // n_scenes}" if world_size % n_scenes == 0 else ""
        )
        raise WorldError(
            f"{idle} of {world_size} ranks would idle: {n_scenes} scene(s) with "
            f"world.ranks_per_scene={ranks_per_scene} keep {n_scenes * ranks_per_scene} busy; "
            f"start {n_scenes * ranks_per_scene} ranks{share}"
        )
    return [
        Assignment(
            scenes=tuple(range(rank // ranks_per_scene, n_scenes, n_groups)),
            group=tuple(range(start := rank - rank % ranks_per_scene, start + ranks_per_scene)),
            index=rank % ranks_per_scene,
        )
        for rank in range(world_size)
    ]


def tile_owners(tiles: int, group_size: int) -> list[int]:
    """Return for each tile the position in the group of its owner: whole tiles, neighbours to one rank."""
    return [tile * group_size // tiles for tile in range(tiles)]
