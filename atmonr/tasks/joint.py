"""Several scenes with one decoder: what a cloud's features mean is learned from all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atmonr.config import Config
from atmonr.errors import SceneError
from atmonr.fields.build import build_field
from atmonr.fields.decoder import decoder_of
from atmonr.layout import tile_owners
from atmonr.store.scene import Scene
from atmonr.tasks.base import Alone, Part, Peers
from atmonr.tasks.tomography import Tomography, setting_of


class JointTomography:
    """Fits a field to each scene (a `atmonr.tasks.base.Task`); tables, air and ground are private.

    Every rank holds some scenes whole and takes a batch of each in every step. The loss is the mean over
    scenes; gradients of the decoder, of which each scene has a copy, are summed over scenes and ranks.
    """

    def __init__(self, config: Config, scenes: Sequence[Scene], device: torch.device, peers: Peers) -> None:
        _refuse_other_bands(scenes)
        self._names, self._peers = [scene.name for scene in scenes], peers
        owners = tile_owners(len(scenes), peers.size)
        own = [scene for scene, owner in zip(scenes, owners, strict=True) if owner == peers.rank]
        torch.manual_seed(config.train.seed)
        common = decoder_of(build_field(config, setting_of(scenes[0])).to(device))
        self.tasks: dict[str, Tomography] = {}
        for scene in own:
            torch.manual_seed(config.train.seed)
            task = self.tasks[scene.name] = Tomography(config, scene, device, Alone())
            with torch.no_grad():
                for name, parameter in decoder_of(task.field).items():
                    parameter.copy_(common[name])
        self.parts: Mapping[str, Part] = {
            name: Part(task.field, task.optimizers, scene=name) for name, task in self.tasks.items()
        }
        copies = [decoder_of(task.field).values() for task in self.tasks.values()]
        self.tied: Sequence[Sequence[nn.Parameter]] = list(map(list, zip(*copies, strict=True)))

    def begin(self) -> None:
        """Guesses air and ground of every scene and solves for its light."""
        for task in self.tasks.values():
            task.begin()

    def losses(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """Yields this rank's part of the mean loss over scenes, one by one; see `atmonr.tasks.base.Task`."""
        for number, task in enumerate(self.tasks.values(), start=1):
            for name, loss in task.losses(step):
                yield name if number == len(self.tasks) else "", loss / len(self._names)

    def after_step(self, step: int) -> None:
        """Solves for the light of every scene, every so many steps."""
        for task in self.tasks.values():
            task.after_step(step)

    def evaluate(self, step: int) -> dict[str, float]:
        """Scores on each scene's held-out rays, named `score@scene`."""
        own = {
            f"{score}@{name}": value
            for name, task in self.tasks.items()
            for score, value in task.evaluate(step).items()
        }
        return {name: value for part in self._peers.gather_all(own) for name, value in part.items()}

    def finish(self, pictures: Sequence[Path]) -> list[dict[str, Any]]:
        """Draws each scene's held-out views into its own folder and returns their scores."""
        folders = dict(zip(self._names, pictures, strict=True))
        own = {name: task.finish([folders[name]])[0] for name, task in self.tasks.items()}
        scores = {name: score for part in self._peers.gather_all(own) for name, score in part.items()}
        return [scores[name] for name in self._names]


def _refuse_other_bands(scenes: Sequence[Scene]) -> None:
    first = scenes[0].wavelengths_nm.tolist()
    for scene in scenes[1:]:
        if scene.wavelengths_nm.tolist() != first:
            raise SceneError(
                f"{scene.path}: bands {scene.wavelengths_nm.tolist()} nm, those of {scenes[0].path} are "
                f"{first}; expected the same bands of all scenes that share a decoder"
            )
