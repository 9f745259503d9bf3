"""OpenVDB files, read back by the OpenVDB module itself, in a process of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr

from atmonr.errors import StoreError, UsageError
from atmonr.export import vdb
from atmonr.export.vdb import find_python, write_vdb

READ = """
import json, sys
try:
    import openvdb as vdb
except ImportError:
    import pyopenvdb as vdb
grids, _ = vdb.readAll(sys.argv[1])
asked = json.loads(sys.argv[2])
told = {}
for grid in grids:
    access = grid.getConstAccessor()
    told[grid.name] = {
        "class": grid.gridClass, "half": grid.saveFloatAsHalf, "background": grid.background,
        "active": int(grid.activeVoxelCount()), "type": grid.valueTypeName,
        "values": [access.getValue(tuple(ijk)) for ijk in asked],
        "on": [access.isValueOn(tuple(ijk)) for ijk in asked],
        "world": [list(grid.transform.indexToWorld(tuple(ijk))) for ijk in asked],
        "metadata": {k: v for k, v in grid.metadata.items() if isinstance(v, (str, float))},
    }
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def openvdb(need) -> list[str]:
    """A Python with the OpenVDB module; Debian's vdb_print comes from the same source package."""
    need("vdb_print")
    return find_python()


def read(python: list[str], path: Path, cells=()) -> dict:
    command = [*python, "-c", READ, str(path), json.dumps([list(map(int, ijk)) for ijk in cells])]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def some_cells(dataset: xr.Dataset) -> list[tuple[int, int, int]]:
    """Cells with cloud and without, x, y, z."""
    values = dataset.extinction.transpose("x", "y", "z").values
    cloudy, clear = np.argwhere(values > 0), np.argwhere(values == 0)
    return [*map(tuple, cloudy[:: len(cloudy) // 40]), *map(tuple, clear[:: len(clear) // 40])]


@pytest.mark.slow
def test_values_and_places_are_those_of_the_product(openvdb, product, tmp_path):
    out = write_vdb(product, tmp_path / "cloud.vdb")
    with xr.open_dataset(product) as dataset:
        cells = some_cells(dataset)
        told = read(openvdb, out, cells)
        assert told.keys() == {"extinction"}
        grid = told["extinction"]
        x, y, z = np.transpose(cells)
        assert grid["values"] == dataset.extinction.transpose("x", "y", "z").values[x, y, z].tolist()
        assert grid["on"] == [value > 0 for value in grid["values"]]
        places = np.stack([dataset.x.values[x], dataset.y.values[y], dataset.z.values[z]], axis=-1)
        assert np.allclose(grid["world"], places, atol=1e-6)
        assert grid["active"] == int((dataset.extinction > 0).sum())
        metadata = grid["metadata"]
        assert metadata["units"] == dataset.extinction.units == "m-1"
        assert json.loads(metadata["product_frame"]) == json.loads(dataset.attrs["frame"])
        assert metadata["product_checkpoint_sha256"] == dataset.attrs["checkpoint_sha256"]
    assert (grid["class"], grid["half"], grid["background"], grid["type"]) == (
        "fog volume",
        False,
        0.0,
        "float",
    )


@pytest.mark.slow
def test_vdb_print_agrees(openvdb, need, product, tmp_path):
    out = write_vdb(product, tmp_path / "cloud.vdb")
    said = subprocess.run([need("vdb_print"), "-m", out], capture_output=True, text=True, check=True).stdout
    assert "voxel dimensions: [200, 200, 100]" in said and "class: fog volume" in said


@pytest.mark.slow
def test_bands_are_named_grids_and_half_floats_are_close(openvdb, write_product, tmp_path):
    product = write_product(bands=4, step_m=400.0)
    out = write_vdb(product, tmp_path / "half.vdb", half=True)
    with xr.open_dataset(product) as dataset:
        values = dataset.extinction.transpose("band", "x", "y", "z").values
        cells = np.argwhere(values[0] > 0)
        told = read(openvdb, out, cells)
        assert list(told) == ["extinction_440", "extinction_550", "extinction_665", "extinction_866"]
        for band, grid in enumerate(told.values()):
            assert grid["half"] is True
            assert grid["metadata"]["wavelength_nm"] == dataset.wavelength.values[band]
            expected = values[band][tuple(cells.T)]
            assert np.allclose(grid["values"], expected, rtol=2**-11, atol=2**-25)
            assert grid["values"] != expected.tolist()


@pytest.mark.slow
def test_missing_cells_and_those_below_the_threshold_are_inactive(openvdb, product, tmp_path):
    mosaic = tmp_path / "mosaic.nc"
    with xr.open_dataset(product) as dataset:
        changed = dataset.load()
    changed.extinction[:, :4] = np.nan
    changed["contributing_granules"] = changed.extinction.notnull().astype("u1")
    changed.to_netcdf(mosaic)
    values = changed.extinction.transpose("x", "y", "z").values
    told = read(openvdb, write_vdb(mosaic, tmp_path / "a.vdb"), [(5, 2, 10)])["extinction"]
    assert told["active"] == int((values > 0).sum()) and told["on"] == [False] and told["values"] == [0.0]
    told = read(openvdb, write_vdb(mosaic, tmp_path / "b.vdb", threshold_per_m=0.01))["extinction"]
    assert told["metadata"]["threshold_per_m"] == 0.01
    assert 0 < told["active"] == int((values >= np.float32(0.01)).sum()) < int((values > 0).sum())


@pytest.mark.slow
def test_a_file_that_reads_back_otherwise_is_not_kept(openvdb, product, tmp_path, monkeypatch):
    script = tmp_path / "wrong.py"
    code = vdb._PIPE.read_text().replace(
        "grids[number].copyFromArray(values", "grids[number].copyFromArray(values * 2"
    )
    script.write_text(code)
    monkeypatch.setattr(vdb, "_PIPE", script)
    with pytest.raises(StoreError, match=r"cloud\.vdb: read back with \d+ cells with other values"):
        write_vdb(product, tmp_path / "cloud.vdb")
    assert list(tmp_path.iterdir()) == [script]


@pytest.mark.slow
def test_a_product_that_is_damaged_midway_leaves_nothing(openvdb, product, tmp_path):
    damaged = tmp_path / "damaged.nc"
    damaged.write_bytes(product.read_bytes())
    with netCDF4.Dataset(damaged, "a") as dataset:
        dataset["extinction"][3, 3, 3] = -1.0
    with pytest.raises(Exception, match=r"damaged\.nc: variable extinction: negative"):
        write_vdb(damaged, tmp_path / "cloud.vdb")
    assert list(tmp_path.iterdir()) == [damaged]


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["raise ImportError('openvdb')", "import os; os.abort()"])
def test_without_a_module_that_works_the_message_names_the_install(product, tmp_path, monkeypatch, broken):
    """One that was built for another NumPy takes its process with it."""
    script = tmp_path / "broken.py"
    script.write_text(broken)
    monkeypatch.setattr(vdb, "_PIPE", script)
    with pytest.raises(UsageError, match="apt-get install python3-openvdb") as caught:
        write_vdb(product, tmp_path / "cloud.vdb")
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == [script]


def test_a_writer_that_dies_says_why(product, tmp_path, monkeypatch):
    script = tmp_path / "dying.py"
    script.write_text("import sys\nif sys.argv[1] != 'probe': sys.exit('no space left')\n")
    monkeypatch.setattr(vdb, "_PIPE", script)
    with pytest.raises(StoreError, match=r"cloud\.vdb: cannot write: the OpenVDB module says: no space left"):
        write_vdb(product, tmp_path / "cloud.vdb")
    assert list(tmp_path.iterdir()) == [script]


def test_an_existing_file_is_left_alone(product, tmp_path):
    out = tmp_path / "cloud.vdb"
    out.write_text("precious")
    with pytest.raises(UsageError, match=r"cloud\.vdb: exists already"):
        write_vdb(product, out)
    assert out.read_text() == "precious"
