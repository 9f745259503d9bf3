"""What rays of a scene see: sampling, field and quadrature put together."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from atmonr.config import Config, NerfConfig
from atmonr.feed.rays import RayBatch
from atmonr.fields.aspect import Aspect
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.geo.spread import R2
from atmonr.geo.sun import sun_direction
from atmonr.render import molecules, samplers
from atmonr.render.integrate import Rendered, integrate
from atmonr.render.samplers import Samples

_PROPOSAL_PARTS = 64


class Seen(NamedTuple):
    """What B rays show, by one medium of the field."""

    reflectance: Tensor  # (B,)
    cloud_depth: Tensor  # (B,) similar optical depth of cloud along the ray
    sparsity: Tensor  # (B,) `Along.haze` as far as it can be seen through what lies in front of it
    departure: Tensor  # (B,) mean squared departure of the light from its solution, by what each sample shows


class Along(NamedTuple):
    """What lies along B rays, at S samples."""

    optical_depth: Tensor  # (B, S) of cloud and air in each bin
    source: Tensor  # (B, S) source function
    cloud_depth: Tensor  # (B,) see `Seen`
    haze: Tensor  # (B, S) similar optical depth of cloud, of thick cloud by the logarithm of its extinction
    departure: Tensor  # (B, S) see `atmonr.fields.atmosphere.Cloud`


def aspect_of(rays: RayBatch, field: AtmosphereField) -> Aspect:
    """Directions of rays; the sun is that over the middle of each ray."""
    middle = field.unit(rays.points(torch.full_like(rays.length_m, 0.5)[:, None])[:, 0])
    sun = torch.stack(sun_direction(field.setting.sun, middle[:, 0], middle[:, 1]), -1)
    return Aspect(rays.to_sensor(), sun, rays.band)


class Camera:
    """Renders rays of a scene with a field; holds no state of its own."""

    def __init__(self, field: AtmosphereField, config: Config) -> None:
        self.field, self._render = field, config.render
        self._haze_per_m = config.loss.haze / field.setting.top_height_m
        self._fine = config.field.fine_samples if isinstance(config.field, NerfConfig) else 0

    @property
    def samples(self) -> int:
        """Samples per ray, each of which needs a place for `look`."""
        return self._render.samples + self._fine

    def places(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, samples, 3) random places for `look`.

        Along the ray each sample is at a random place of its bin. Across, a ray's samples are spread evenly
        over its pixel (R2 sequence, moved at random as a whole), neighbours far apart: together they see the
        cloud that the pixel covers, though each ray is followed only once. The ground, a single sample, is
        looked at in the middle: at a random place its texture would be noise, which a squared error blurs
        away and fills up with haze.
        """
        device = generator.device
        along = torch.rand(count, self.samples, 1, generator=generator, device=device)
        start = torch.rand(count, 1, 2, generator=generator, device=device)
        count_up = torch.arange(self.samples, device=device)
        turn = torch.stack([count_up * step for step in R2], 1)
        return torch.cat([along, (start + turn).frac()], 2)

    def look(self, rays: RayBatch, places: Tensor) -> list[Seen]:
        """Renders rays with each of the field's media; the last is the result.

        Args:
            rays: B rays.
            places: (B, samples, 3) in [0, 1): place of each sample in its bin, and in the pixel along lines
                and pixels; 0.5 is the middle.
        """
        aspect = aspect_of(rays, self.field)
        features = aspect.features()
        samples, points, foot = self.spread(rays, places)
        seen, rendered = self._through(rays, aspect, features, samples, points, foot, 0)
        if not self._fine:
            return [seen]
        # No gradient: the fine network must not move the samples of the coarse one.
        density = samplers.even_parts(samples, rendered.weights.detach(), _PROPOSAL_PARTS)
        rest = places[:, self._render.samples :]
        fine = samplers.pdf(density, rest[..., 0], self._render.pdf_floor)
        points = rays.points(fine.position, rest[..., 1:] - 0.5)
        return [seen, self._through(rays, aspect, features, fine, points, foot, 1)[0]]

    def spread(self, rays: RayBatch, places: Tensor) -> tuple[Samples, Tensor, Tensor]:
        """The first samples of rays, which need no look at the field.

        Args:
            rays: B rays.
            places: As of `look`.

        Returns:
            (B, S) samples, their (B, S, 3) points and the (B, 3) foot of each ray in the frame [m].
        """
        places = places[:, : self._render.samples]
        samples = self._first_samples(rays, places[..., 0])
        points = rays.points(samples.position, places[..., 1:] - 0.5)
        return samples, points, rays.points(torch.ones_like(rays.length_m[:, None]))[:, 0]

    def sky(self, rays: RayBatch) -> Tensor:
        """(B,) reflectance of the real amount of air alone, scattering once over black ground."""
        aspect = aspect_of(rays, self.field)
        depth = self.field.air_depth[rays.band]
        # Half of the air lies above the scatterer, as seen from sensor and sun.
        seen = (depth / aspect.sensor_cosine) * torch.exp(-0.5 * depth / aspect.sensor_cosine)
        source = molecules.single_scattering_source(aspect.scattering_cosine, aspect.sun_cosine, 0.5 * depth)
        return seen * source

    def _first_samples(self, rays: RayBatch, jitter: Tensor) -> Samples:
        match self._render.sampler:
            case "uniform":
                return samplers.uniform(jitter)
            case "biased":
                return samplers.biased(jitter)
            case "pdf":
                even = (torch.arange(_PROPOSAL_PARTS, device=jitter.device) + 0.5) / _PROPOSAL_PARTS
                places = self.field.unit(rays.points(even.expand(len(rays), -1)))
                thickness = self.field.light.thickness(places.view(-1, 3)).view(len(rays), -1)
                return samplers.pdf(thickness, jitter, self._render.pdf_floor)

    def along(
        self,
        rays: RayBatch,
        aspect: Aspect,
        features: Tensor,
        samples: Samples,
        points: Tensor,
        medium: int = -1,
        inside: Tensor | None = None,
    ) -> Along:
        """Looks at cloud and air at samples of rays.

        Args:
            rays: B rays.
            aspect: Of the rays.
            features: `aspect.features()`.
            samples: (B, S).
            points: (B, S, 3) where they are in the frame [m].
            medium: Which of the field's media.
            inside: (B, S) the samples to look at; there is nothing at the others.
        """
        cloud = self.field.cloud(points, aspect, features, medium, inside)
        air, sunlit_air = self._air_at(points[..., 2], aspect)
        # Air over bright cloud is lit from below too, and in its shadow less from above.
        lit_air = cloud.direct * sunlit_air + cloud.diffuse * math.pi / aspect.sun_cosine[:, None]
        total = cloud.extinction + air
        source = (cloud.extinction * cloud.source + air * lit_air) / total.clamp_min(1e-30)
        step = samples.width * rays.length_m[:, None]
        depth = total * step
        haze = torch.log1p(cloud.extinction / self._haze_per_m) * self._haze_per_m
        return Along(
            depth if inside is None else depth * inside,
            source,
            (cloud.extinction * step).sum(1),
            haze * step,
            cloud.departure,
        )

    def _through(
        self,
        rays: RayBatch,
        aspect: Aspect,
        features: Tensor,
        samples: Samples,
        points: Tensor,
        foot: Tensor,
        medium: int,
    ) -> tuple[Seen, Rendered]:
        along = self.along(rays, aspect, features, samples, points, medium)
        rendered = integrate(along.optical_depth, along.source)
        ground = self.field.foot(foot, aspect, features)
        beneath = rendered.radiance + rendered.transmittance * ground
        added, kept = self.above(aspect)
        departure = (rendered.weights.detach() * along.departure.square()).sum(1)
        sparsity = (rendered.passed.detach() * along.haze).sum(1)
        return Seen(added + kept * beneath, along.cloud_depth, sparsity, departure), rendered

    def _vertical_air(self, aspect: Aspect) -> Tensor:
        """(B, 1) vertical optical depth of all air: the real one times a learned factor.

        The factor is 1 for real air and 0 for a simulation without it.
        """
        return self.field.air_depth[aspect.band, None] * self.field.air.clamp_min(0.0)

    def _air_at(self, height_BS: Tensor, aspect: Aspect) -> tuple[Tensor, Tensor]:
        """(B, S) extinction [m^-1] and source function of air.

        The source is light scattered once, times a gain per band for light scattered more often.
        """
        depth = self._vertical_air(aspect)
        source = molecules.single_scattering_source(
            aspect.scattering_cosine[:, None],
            aspect.sun_cosine[:, None],
            depth * molecules.column_above(height_BS),
        )
        gain = self.field.air_gain.exp()[aspect.band, None]
        return depth * molecules.depth_profile_per_m(height_BS), gain * source

    def above(self, aspect: Aspect) -> tuple[Tensor, Tensor]:
        """(B,) reflectance that the thin air above the rays adds, and (B,) share of what comes from beneath
        that it lets pass."""
        top = self.field.unit_scale.new_full((1, 1), self.field.setting.top_height_m)
        layer = self._vertical_air(aspect) * molecules.column_above(top)
        slant = (layer / aspect.sensor_cosine[:, None])[:, 0]
        source = molecules.single_scattering_source(
            aspect.scattering_cosine[:, None], aspect.sun_cosine[:, None], 0.5 * layer
        )
        gain = self.field.air_gain.exp()[aspect.band]
        return gain * source[:, 0] * -torch.expm1(-slant), torch.exp(-slant)
