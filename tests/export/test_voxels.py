from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from atmonr.errors import SceneError
from atmonr.export.voxels import coarse, open_voxels


def test_blocks_are_the_cells_in_the_order_x_y_z(product):
    voxels = open_voxels(product)
    whole = np.full(voxels.shape, np.nan, np.float32)
    for (i, j, k), values in voxels.blocks(np.nan):
        whole[i : i + values.shape[0], j : j + values.shape[1], k : k + values.shape[2]] = values
    with xr.open_dataset(product) as dataset:
        known = dataset.extinction.transpose("x", "y", "z").values
        assert np.isnan(known).any()  # beside the scene; there is no cloud there for other programs
        assert np.array_equal(whole, np.nan_to_num(known))
        assert voxels.first_m == pytest.approx([float(dataset[n][0]) for n in ("x", "y", "z")])
    assert voxels.step_m == pytest.approx((200.0, 200.0, 100.0))
    assert voxels.fields.keys() == {"extinction"}


def test_a_large_product_is_averaged_and_keeps_its_mass_and_place(product):
    voxels = open_voxels(product)
    fine, first, _ = coarse(voxels, np.nan, 10**9)
    assert first == pytest.approx(voxels.first_m) and fine.shape == voxels.shape[::-1]
    few, corner, step = coarse(voxels, np.nan, fine.size // 3)
    assert few.shape == (fine.shape[0], -(-fine.shape[1] // 2), fine.shape[2] // 2)
    assert few.sum() * 4 == pytest.approx(fine.sum(), rel=1e-5)
    assert step == pytest.approx((400.0, 400.0, 100.0))
    assert corner == pytest.approx((first[0] + 100.0, first[1] + 100.0, first[2]))
    assert few[10, 3, 4] == pytest.approx(fine[10, 6:8, 8:10].mean(), rel=1e-5)


def test_cells_of_different_sizes_are_refused(product, tmp_path):
    with xr.open_dataset(product) as dataset:
        altitude = dataset.z.values.copy()
        altitude[-1] += 30.0
        dataset.assign_coords(z=altitude).to_netcdf(tmp_path / "uneven.nc")
    with pytest.raises(SceneError, match=r"uneven\.nc: variable z: .* only a voxel grid can be exported"):
        open_voxels(tmp_path / "uneven.nc")


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "noise.nc").write_bytes(b"noise")
    for name in ("noise.nc", "absent.nc"):
        with pytest.raises(SceneError, match=name):
            open_voxels(tmp_path / name)
