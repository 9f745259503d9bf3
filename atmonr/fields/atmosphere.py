"""A scene as a field: cloud, air and ground, each a term of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atmonr.config import LightConfig, SurfaceConfig
from atmonr.fields.aspect import FEATURES as ASPECT_FEATURES
from atmonr.fields.aspect import Aspect, direction_network
from atmonr.fields.light import LightGrid
from atmonr.fields.medium import FEATURES, Medium
from atmonr.fields.setting import Setting
from atmonr.fields.surface import Surface
from atmonr.render import molecules

_WIDTH = 32


class Cloud(NamedTuple):
    """Cloud at the samples of rays."""

    extinction: Tensor  # (B, S) of the similar isotropic medium [m^-1]
    source: Tensor  # (B, S) pi J / (mu0 F0)
    departure: Tensor  # (B, S) logarithm of the diffuse part of the source over what the solved light gives
    direct: Tensor  # (B, S) solved transmittance towards the sun
    diffuse: Tensor  # (B, S) solved mean intensity of scattered light [1/sr]


class AtmosphereField(nn.Module):
    """Position and direction to extinction and light.

    Cloud scatters the light of `LightGrid`: the source function is the solved direct and diffuse light times
    a learned function of direction (per band, the same everywhere), times a bounded learned factor of place
    and direction that takes up what the solution misses. What the image leaves open, how bright a place in a
    cloud is, is thereby settled by physics, and extinction has to explain the rest.

    Inside, extinction is that of the similar isotropic medium, 1 - w g times the true one for the albedo w of
    single scattering and the asymmetry g (van de Hulst 1980, ch. 14); `extinction` gives the true one.
    """

    unit_scale: Tensor  # (3,) 1/m
    unit_offset: Tensor  # (3,)
    air_depth: Tensor  # (bands,) vertical optical depth of the real air

    def __init__(
        self, setting: Setting, media: Sequence[Medium], light: LightConfig, surface: SurfaceConfig
    ) -> None:
        """
        Args:
            setting: The scene.
            media: Cloud, one network or, for NeRF, a coarse and a fine one; the last is the result.
            light: Grid and bounds of the light.
            surface: Resolution of the ground.
        """
        super().__init__()
        bands = len(setting.wavelengths_nm)
        self.setting = setting
        self.media = nn.ModuleList(media)
        # Constants on the device: a copy from the host would make every step wait.
        scale, offset = setting.frame.affine()
        self.register_buffer("unit_scale", torch.tensor(scale), persistent=False)
        self.register_buffer("unit_offset", torch.tensor(offset), persistent=False)
        depth = [molecules.optical_depth(wavelength) for wavelength in setting.wavelengths_nm]
        self.register_buffer("air_depth", torch.tensor(depth), persistent=False)
        self.light = LightGrid(setting, light)
        self.surface = Surface(setting, surface)
        self.air = nn.Parameter(torch.tensor(1.0))  # of the real amount
        self.air_gain = nn.Parameter(torch.zeros(bands))
        self.phase = direction_network(2 * bands)
        self.place = nn.Linear(FEATURES, _WIDTH)
        self.direction = nn.Linear(ASPECT_FEATURES, _WIDTH, bias=False)
        self.departure = nn.Linear(_WIDTH, 1, bias=False)
        nn.init.zeros_(self.departure.weight)
        self._similarity = 1.0 - light.single_scattering_albedo * light.asymmetry
        # Scattered share of what the similar medium takes out of a beam.
        self.similar_albedo = light.single_scattering_albedo * (1.0 - light.asymmetry) / self._similarity
        self._departure_limit = light.departure_limit

    def unit(self, points_m: Tensor) -> Tensor:
        """(..., 3) frame coordinates [m] to the unit box."""
        return points_m * self.unit_scale + self.unit_offset

    def similar_extinction(self, unit_N3: Tensor) -> Tensor:
        """(N, C) extinction of the similar isotropic medium [m^-1] at points of the unit box."""
        depth, _ = self.media[-1](unit_N3)
        return depth / self.setting.top_height_m

    def extinction(self, points_N3: Tensor) -> Tensor:
        """(N, C) true cloud extinction [m^-1] at frame coordinates [m]; C is 1 or the number of bands."""
        return self.similar_extinction(self.unit(points_N3)) / self._similarity

    def cloud(self, unit_BS3: Tensor, aspect: Aspect, features_BF: Tensor, medium: int = -1) -> Cloud:
        """Cloud at the samples of rays, in each ray's own band.

        Args:
            unit_BS3: (B, S, 3) samples in the unit box.
            aspect: Directions and bands of the rays.
            features_BF: `aspect.features()`, computed once per ray.
            medium: Which of the media.
        """
        shape = unit_BS3.shape[:2]
        flat = unit_BS3.reshape(-1, 3)
        depth, features = self.media[medium](flat)
        extinction = _own_band(depth.view(*shape, -1), aspect.band) / self.setting.top_height_m
        direct, diffuse = (light.view(shape) for light in self.light.at(flat))
        gain = self.phase(features_BF).view(shape[0], 2, -1)
        gain = gain.gather(2, aspect.band[:, None, None].expand(-1, 2, 1)).exp()
        gain = gain / aspect.sun_cosine[:, None, None]
        solved = gain[:, 0] * direct / 4.0 + gain[:, 1] * diffuse * math.pi
        departure = self._departures(features.view(*shape, -1), features_BF)
        return Cloud(extinction, solved * departure.exp(), departure, direct, diffuse)

    def foot(self, unit_B3: Tensor, aspect: Aspect, features_BF: Tensor) -> Tensor:
        """(B,) reflectance of the lit ground at the foot of rays: cloud shadows included, air not."""
        reflectance: Tensor = self.surface(unit_B3, aspect, features_BF)
        return reflectance * self.light.on_ground(unit_B3)

    def _departures(self, features_BSG: Tensor, features_BF: Tensor) -> Tensor:
        limit = self._departure_limit
        if limit == 0.0:
            return torch.zeros_like(features_BSG[..., 0])
        # The direction's share is the same along the ray: one product per ray, not per sample.
        hidden = torch.relu(self.place(features_BSG) + self.direction(features_BF)[:, None])
        return limit * torch.tanh(self.departure(hidden)[..., 0] / limit)


def _own_band(values_BSC: Tensor, band: Tensor) -> Tensor:
    """(B, S) value of each ray's band; a single channel serves all bands."""
    if values_BSC.shape[-1] == 1:
        return values_BSC[..., 0]
    return values_BSC.gather(2, band[:, None, None].expand(-1, values_BSC.shape[1], 1))[..., 0]
