"""What every sensor's reader hands over: one granule with canonical names, units and missing values.

A granule is read in blocks of lines or of views, so that a file of any size fits in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from atmonr.errors import GranuleError, UsageError
from atmonr.geo.datum import Datum

if TYPE_CHECKING:
    import xarray as xr


class Quantity(NamedTuple):
    """Units, CF name and physical range of a canonical variable."""

    units: str
    standard_name: str
    lower: float
    upper: float


RADIANCE_UNITS = "W m-2 sr-1 um-1"

# Azimuths are clockwise from north, from the pixel to the sensor or sun. Radiances may be slightly negative
# (noise around zero). The altitude is above the ellipsoid.
QUANTITIES = {
    "radiance": Quantity(RADIANCE_UNITS, "toa_outgoing_radiance_per_unit_wavelength", -1e4, 1e5),
    "latitude": Quantity("degrees_north", "latitude", -90.0, 90.0),
    "longitude": Quantity("degrees_east", "longitude", -180.0, 360.0),
    "surface_altitude": Quantity("m", "height_above_reference_ellipsoid", -1000.0, 10_000.0),
    "sensor_zenith_angle": Quantity("degree", "sensor_zenith_angle", 0.0, 90.0),
    "sensor_azimuth_angle": Quantity("degree", "sensor_azimuth_angle", -360.0, 360.0),
    "solar_zenith_angle": Quantity("degree", "solar_zenith_angle", 0.0, 180.0),
    "solar_azimuth_angle": Quantity("degree", "solar_azimuth_angle", -360.0, 360.0),
}
# Present in some files only. q and u are in units of radiance, and so are the random standard deviations that
# a gridded file gives. `observations` is how many measurements a pixel is the mean of. `quality` holds the
# file's own flags, 0 for good; `Granule.quality_flags` tells what its bits mean. `time` is that of a line or
# of a pixel.
OPTIONAL_QUANTITIES = {
    "q": Quantity(RADIANCE_UNITS, "", -1e5, 1e5),
    "u": Quantity(RADIANCE_UNITS, "", -1e5, 1e5),
    "radiance_stdev": Quantity(RADIANCE_UNITS, "", 0.0, 1e5),
    "q_stdev": Quantity(RADIANCE_UNITS, "", 0.0, 1e5),
    "u_stdev": Quantity(RADIANCE_UNITS, "", 0.0, 1e5),
    "observations": Quantity("1", "number_of_observations", 0.0, 32767.0),
    "quality": Quantity("1", "quality_flag", 0.0, 255.0),
    "time": Quantity("seconds since 1970-01-01 00:00:00", "time", -np.inf, np.inf),
}


class ImageSource(Protocol):
    """The part of a reader that knows its file."""

    def read(self, name: str, views: NDArray[np.integer], lines: slice) -> NDArray[Any]:
        """A new array of a canonical variable, NaN where missing.

        Args:
            name: the variable.
            views: ascending numbers of views in the file.
            lines: consecutive lines, counted northwards.

        Returns:
            (view, line, pixel), or (view, line) for the time of lines.
        """

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True)
class Granule:
    """One satellite file, open for reading; use it in a `with` statement or call `close`.

    Attributes:
        path: the file.
        name: the granule's own name, without version and level.
        level: processing level, such as L1B.
        shape: number of views, lines and pixels.
        time_start: begin of the observation (UTC).
        time_end: its end (UTC), None if the file does not tell.
        sun_earth_distance: in astronomical units.
        views: (V,) ascending numbers of the views in the file.
        view_angle_deg: (V,) angle of the view from nadir at the instrument, positive forward [degrees].
        wavelength_nm: (V,) wavelength of the view [nm].
        solar_irradiance: (V,) at one astronomical unit, for the view's band [W m-2 um-1].
        band: (V,) index of the view's band in `band_wavelength_nm`.
        band_wavelength_nm: (B,) wavelengths of the bands, ascending [nm].
        optional: which of `OPTIONAL_QUANTITIES` the file has.
        time_per_pixel: whether `time` is that of pixels, otherwise of lines.
        flipped: the file's order of lines, of pixels, was reversed so that lines go north and pixels east.
        altitude_datum: what the file measures altitudes from; they are used as if it were the ellipsoid.
        quality_flags: what the bits of `quality` mean, as {mask: meaning}; empty if the file does not tell.
        notes: what had to be assumed or mended, one sentence each.
        source: reads the file's variables.
    """

    path: Path
    name: str
    level: str
    shape: tuple[int, int, int]
    time_start: datetime
    time_end: datetime | None
    sun_earth_distance: float
    views: NDArray[np.int16]
    view_angle_deg: NDArray[np.float32]
    wavelength_nm: NDArray[np.float32]
    solar_irradiance: NDArray[np.float32]
    band: NDArray[np.int8]
    band_wavelength_nm: NDArray[np.float32]
    optional: tuple[str, ...]
    time_per_pixel: bool
    flipped: tuple[bool, bool]
    altitude_datum: Datum
    quality_flags: dict[int, str]
    notes: tuple[str, ...]
    source: ImageSource

    def up_to_angle(self, largest_deg: float) -> Granule:
        """The granule without the views that look farther from nadir, at the instrument, than this.

        Raises:
            UsageError: no view is left.
        """
        kept = np.abs(self.view_angle_deg) <= largest_deg
        if not kept.any():
            least = f"{np.abs(self.view_angle_deg).min():.2f}"
            raise UsageError(
                f"{self.path}: has no view within {largest_deg:g} degrees of nadir; expected {least} or more"
            )
        per_view = ("views", "view_angle_deg", "wavelength_nm", "solar_irradiance", "band")
        chosen = {name: getattr(self, name)[kept] for name in per_view}
        return replace(self, shape=(int(kept.sum()), *self.shape[1:]), **chosen)

    def read_lines(
        self, lines: slice, names: Iterable[str] | None = None, views: slice = slice(None)
    ) -> xr.Dataset:
        """Read a block of lines, all pixels.

        Args:
            lines: which lines; consecutive, counted northwards.
            names: canonical variables to read; all that the granule has by default.
            views: which of the granule's views; all by default.

        Returns:
            Dataset with dimensions view, line, pixel; float32 (time: float64), NaN where missing, longitudes
            in [-180, 180). The `line` coordinate counts lines of the granule, `view` views of the file.

        Raises:
            GranuleError: the file cannot be read, or a value is physically impossible.
        """
        start, stop, step = lines.indices(self.shape[1])
        if step != 1:
            raise ValueError(f"lines {lines}: expected consecutive lines")
        wanted = tuple(names) if names is not None else (*QUANTITIES, *self.optional)
        chosen = self.views[views]
        import xarray as xr  # slow to import, and readers of scenes never come here

        block = xr.Dataset(
            coords={"view": chosen.astype(np.int32), "line": np.arange(start, stop, dtype=np.int32)}
        )
        for name in wanted:
            quantity = QUANTITIES.get(name) or OPTIONAL_QUANTITIES[name]
            values = self.source.read(name, chosen, slice(start, stop))
            self._check_range(name, quantity, values)
            if name == "longitude":
                values[values >= 180.0] -= 360.0
            attributes = {"units": quantity.units}
            if quantity.standard_name:
                attributes["standard_name"] = quantity.standard_name
            block[name] = (("view", "line", "pixel")[: values.ndim], values, attributes)
        return block

    def close(self) -> None:
        """Close the file; nothing can be read afterwards."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_range(self, name: str, quantity: Quantity, values: NDArray[Any]) -> None:
        if name == "time":
            return
        # One pass for each bound, without a temporary array; NaN counts for neither.
        least, most = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        if least < quantity.lower or most > quantity.upper:
            impossible = (values < quantity.lower) | (values > quantity.upper)
            raise GranuleError(
                f"{self.path}: {name} has the value {values[impossible][0]:g}; expected"
                f" {quantity.lower:g} to {quantity.upper:g} {quantity.units} or the fill value"
            )
