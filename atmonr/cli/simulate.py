"""`atmonr simulate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from atmonr.cli.options import QuietOption

Product = Literal["L1B", "L1C"]
Packing = Literal["float", "packed", "early"]


def simulate(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the granule and its truth.")],
    preset: Annotated[str | None, typer.Option(help="A procedural cloud, such as cumulus.")] = None,
    volume: Annotated[Path | None, typer.Option(help="A truth file to use instead of a preset.")] = None,
    lines: Annotated[
        int | None, typer.Option(min=1, help="Along track; by default what suits the cloud.")
    ] = None,
    pixels: Annotated[int | None, typer.Option(min=1, help="Across track; likewise.")] = None,
    pixel_m: Annotated[float | None, typer.Option(min=1, help="Size of a pixel [m]; likewise.")] = None,
    latitude_deg: Annotated[float, typer.Option("--latitude", min=-90, max=90, help="Centre [deg].")] = 18.0,
    longitude_deg: Annotated[
        float, typer.Option("--longitude", min=-180, max=180, help="Centre [deg].")
    ] = -61.5,
    solar_zenith_deg: Annotated[float, typer.Option("--solar-zenith", min=0, max=85, help="[deg]")] = 40.0,
    surface: Annotated[str, typer.Option(help="black, ocean or land.")] = "black",
    rayleigh: Annotated[bool, typer.Option("--rayleigh", help="Let the air scatter too.")] = False,
    noise: Annotated[float, typer.Option(min=0, help="Relative standard deviation of each radiance.")] = 0.0,
    product: Annotated[Product, typer.Option(help="L1B as seen, or L1C with all views on one grid.")] = "L1B",
    packing: Annotated[Packing, typer.Option(help="How the file stores numbers.")] = "float",
    seed: Annotated[int, typer.Option(min=0, help="Of the cloud, the ground and the noise.")] = 0,
    subpixels: Annotated[
        int, typer.Option(min=1, help="Lines of sight per pixel, both ways: a pixel is an area.")
    ] = 2,
    earthcare: Annotated[
        bool, typer.Option("--earthcare", help="Add an EarthCARE lidar frame on a track across the cloud.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Make a granule in the native layout, with known truth."""
    from atmonr.cli.progress import progress_bar
    from atmonr.simulate.session import simulate as make_granule

    with progress_bar("simulate", quiet) as progress:
        written: tuple[Path, ...] = make_granule(
            preset,
            out,
            volume=volume,
            lines=lines,
            pixels=pixels,
            pixel_m=pixel_m,
            latitude_deg=latitude_deg,
            longitude_deg=longitude_deg,
            solar_zenith_deg=solar_zenith_deg,
            surface=surface,
            rayleigh=rayleigh,
            noise=noise,
            product=product,
            packing=packing,
            seed=seed,
            subpixels=subpixels,
            progress=progress,
        )
    if earthcare:
        from atmonr.simulate.earthcare import simulate_frame

        written = (*written, simulate_frame(written[1], out, noise=noise, seed=seed))
    for path in written:
        typer.echo(path)
