"""Which ranks work together, which tiles each owns, and which scene comes next: arithmetic only."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from atmonr.errors import WorldError


@dataclass(frozen=True)
class Layout:
    """Ranks in groups, each of which trains one scene at a time.

    Attributes:
        groups: Ranks of each group, neighbours in ascending order; every rank is in one.
        tile_owners: For each tile of a scene, the position in the group of the rank that owns it.
    """

    groups: tuple[tuple[int, ...], ...]
    tile_owners: tuple[int, ...]

    def group_of(self, rank: int) -> int:
        """Return the position in `groups` of a rank's group."""
        return rank // len(self.groups[0])


def layout(
    world_size: int, n_scenes: int, tiles: int, ranks_per_scene: int, *, together: bool = False
) -> Layout:
    """Form groups of neighbouring ranks.

    Neighbours form a group because launchers fill one machine after the other, and traffic within a group is
    by far the heaviest.

    Args:
        world_size: Number of ranks.
        n_scenes: Number of scenes, finished ones too, so that a resumed run may use the ranks it began with.
        tiles: Parts that each scene is split into.
        ranks_per_scene: Ranks that share the rays of each scene.
        together: All scenes are trained at once, by one group in which each rank has some of them.

    Raises:
        WorldError: If there is no scene, groups do not come out even, or some ranks would have nothing to do.
    """
    if n_scenes < 1:
        raise WorldError("no scene to train on; expected at least one")
    size = 1 if together else group_size(world_size, tiles, ranks_per_scene)
    _refuse_idle_ranks(world_size, n_scenes, size, tiles)
    if together:
        return Layout((tuple(range(world_size)),), (0,))
    return Layout(
        groups=tuple(tuple(range(first, first + size)) for first in range(0, world_size, size)),
        tile_owners=tuple(tile_owners(tiles, size)),
    )


def group_size(world_size: int, tiles: int, ranks_per_scene: int) -> int:
    """Return how many ranks train a scene together.

    Raises:
        WorldError: If the ranks cannot form such groups, or tiles and shared rays are both asked for.
    """
    if tiles > 1 and ranks_per_scene > 1:
        raise WorldError(
            f"world.tiles={tiles} and world.ranks_per_scene={ranks_per_scene}: ranks own either tiles or "
            "shares of the rays; leave out world.ranks_per_scene"
        )
    size = min(tiles, world_size) if tiles > 1 else ranks_per_scene
    if world_size % size:
        key = f"world.tiles={tiles}" if tiles > 1 else f"world.ranks_per_scene={ranks_per_scene}"
        name = key.partition("=")[0]
        raise WorldError(
            f"{world_size} ranks cannot form groups of {size} ({key}); "
            f"start a multiple of {size} ranks or set another {name}"
        )
    return size


def tile_owners(tiles: int, group_size: int) -> list[int]:
    """Return for each tile the position in the group of its owner: whole tiles, neighbours to one rank."""
    return [tile * group_size // tiles for tile in range(tiles)]


def pull_order(costs: Sequence[float]) -> list[int]:
    """Return positions of scenes in the order in which free groups take them.

    Longest first (Graham 1969, doi:10.1137/0117039): what is left for the end is then short, so that groups
    end at nearly the same time, at worst 4/3 of the best possible.
    """
    return sorted(range(len(costs)), key=lambda scene: (-costs[scene], scene))


def predict(costs: Sequence[float], order: Sequence[int], n_groups: int) -> list[list[int]]:
    """Return which scenes each group would take if the costs were exact: the next one goes to the first free.

    Args:
        costs: By position of the scene, in any one unit.
        order: Positions of the scenes to do, in the order in which they are taken.
        n_groups: Number of groups; those for which none is left get none.
    """
    taken: list[list[int]] = [[] for _ in range(n_groups)]
    free = [(0.0, group) for group in range(n_groups)]
    for scene in order:
        time, group = heapq.heappop(free)
        taken[group].append(scene)
        heapq.heappush(free, (time + costs[scene], group))
    return taken


def _refuse_idle_ranks(world_size: int, n_scenes: int, size: int, tiles: int) -> None:
    busy = n_scenes * size
    if world_size <= busy:
        return
    shares = tiles == 1 and world_size % n_scenes == 0
    other = f" or --set world.ranks_per_scene={world_size // n_scenes}" if shares else ""
    raise WorldError(
        f"{world_size - busy} of {world_size} ranks would idle: {n_scenes} scene(s) with {size} rank(s) each "
        f"keep {busy} busy; start {busy} ranks{other}"
    )
