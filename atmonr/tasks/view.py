"""What rays of a scene see: sampling, field and quadrature put together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from atmonr.config import Config, NerfConfig
from atmonr.feed.rays import RayBatch
from atmonr.fields.aspect import Aspect
from atmonr.fields.atmosphere import AtmosphereField
from atmonr.geo.sun import sun_direction
from atmonr.render import molecules, samplers
from atmonr.render.integrate import Rendered, integrate
from atmonr.render.samplers import Samples

_PROPOSAL_PARTS = 64


class Seen(NamedTuple):
    """What B rays show, by one medium of the field."""

    reflectance: Tensor  # (B,)
    cloud_depth: Tensor  # (B,) similar optical depth of cloud along the ray
    departure: Tensor  # (B,) mean squared departure of the light from its solution, by what each sample shows


class Along(NamedTuple):
    """What lies along B rays, at S samples."""

    optical_depth: Tensor  # (B, S) of cloud and air in each bin
    source: Tensor  # (B, S) source function
    cloud_depth: Tensor  # (B,) similar optical depth of cloud along the ray
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
        self._fine = config.field.fine_samples if isinstance(config.field, NerfConfig) else 0

    @property
    def jitters(self) -> int:
        """Random numbers per ray that `look` takes."""
        return self._render.samples + self._fine

    def look(self, rays: RayBatch, jitter: Tensor) -> list[Seen]:
        """Renders rays with each of the field's media; the last is the result.

        Args:
            rays: B rays.
            jitter: (B, jitters) in [0, 1): place of each sample in its bin.
        """
        aspect = aspect_of(rays, self.field)
        features = aspect.features()
        samples = self.first_samples(rays, jitter[:, : self._render.samples])
        seen, rendered = self._through(rays, aspect, features, samples, 0)
        if not self._fine:
            return [seen]
        # No gradient: the fine network must not move the samples of the coarse one.
        density = samplers.even_parts(samples, rendered.weights.detach(), _PROPOSAL_PARTS)
        fine = samplers.pdf(density, jitter[:, self._render.samples :], self._render.pdf_floor)
        return [seen, self._through(rays, aspect, features, fine, 1)[0]]

    def sky(self, rays: RayBatch) -> Tensor:
        """(B,) reflectance of the real amount of air alone, scattering once over black ground."""
        aspect = aspect_of(rays, self.field)
        depth = self.field.air_depth[rays.band]
        # Half of the air lies above the scatterer, as seen from sensor and sun.
        seen = (depth / aspect.sensor_cosine) * torch.exp(-0.5 * depth / aspect.sensor_cosine)
        source = molecules.single_scattering_source(aspect.scattering_cosine, aspect.sun_cosine, 0.5 * depth)
        return seen * source

    def first_samples(self, rays: RayBatch, jitter: Tensor) -> Samples:
        """Samples that need no look at the field; (B, S) random numbers put each into its bin."""
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
        medium: int = -1,
        inside: Tensor | None = None,
    ) -> Along:
        """Looks at cloud and air at samples of rays.

        Args:
            rays: B rays.
            aspect: Of the rays.
            features: `aspect.features()`.
            samples: (B, S).
            medium: Which of the field's media.
            inside: (B, S) the samples to look at; there is nothing at the others.
        """
        points = rays.points(samples.position)
        cloud = self.field.cloud(points, aspect, features, medium, inside)
        air, sunlit_air = self._air_at(points[..., 2], aspect)
        total = cloud.extinction + air
        source = (cloud.extinction * cloud.source + air * sunlit_air) / total.clamp_min(1e-30)
        step = samples.width * rays.length_m[:, None]
        depth = total * step
        return Along(
            depth if inside is None else depth * inside,
            source,
            (cloud.extinction * step).sum(1),
            cloud.departure,
        )

    def ground(self, rays: RayBatch, aspect: Aspect, features: Tensor) -> Tensor:
        """(B,) reflectance of the lit ground at the foot of rays."""
        foot = rays.points(torch.ones_like(rays.length_m)[:, None])[:, 0]
        return self.field.foot(foot, aspect, features)

    def _through(
        self, rays: RayBatch, aspect: Aspect, features: Tensor, samples: Samples, medium: int
    ) -> tuple[Seen, Rendered]:
        along = self.along(rays, aspect, features, samples, medium)
        rendered = integrate(along.optical_depth, along.source)
        beneath = rendered.radiance + rendered.transmittance * self.ground(rays, aspect, features)
        added, kept = self.above(aspect)
        departure = (rendered.weights.detach() * along.departure.square()).sum(1)
        return Seen(added + kept * beneath, along.cloud_depth, departure), rendered

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
