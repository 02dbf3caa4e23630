"""The lens, and where photographs show points, out of COLMAP's models."""

from typing import Any

import numpy as np
import pytest

from dietnerf.prepare.matching import quiet_pycolmap
from dietnerf.prepare.photos import Photo
from dietnerf.prepare.structure import Structure, _refine_lenses, _structure
from dietnerf.prepare.transforms import reliable_observations

pytest.importorskip("pycolmap")


def model_of(n_photos: int, n_points: int, **options: object) -> Any:
    """A model of COLMAP without errors, of pictures of 1024x768."""
    colmap = quiet_pycolmap()
    chosen = colmap.SyntheticDatasetOptions()
    chosen.num_rigs, chosen.num_frames_per_rig, chosen.num_points3D = 1, n_photos, n_points
    chosen.camera_model_id = colmap.CameraModelId.SIMPLE_RADIAL
    chosen.camera_params = [1280.0, 512.0, 384.0, 0.0]
    for name, value in options.items():
        setattr(chosen, name, value)
    return colmap.synthesize_dataset(chosen)


def structure_of(model: Any) -> Structure:
    """That of photos twice as large as the pictures."""
    names = sorted(image.name.removesuffix(".png") for image in model.images.values())
    return _structure(model, [Photo(name, 2048, 1536, None) for name in names], {})


OFF_THE_MIDDLE = [1280.0, 552.0, 390.0, 0.03, -0.02]


def test_a_lens_off_the_middle_is_found():
    radial = quiet_pycolmap().CameraModelId.RADIAL
    model = model_of(25, 200, camera_model_id=radial, camera_params=OFF_THE_MIDDLE)
    (camera,) = model.cameras.values()
    camera.model = quiet_pycolmap().CameraModelId.SIMPLE_RADIAL
    camera.params = [1280.0, 512.0, 384.0, 0.0]  # the middle
    _refine_lenses(quiet_pycolmap(), model)
    found = structure_of(model).lenses[0]
    pixels = [found.fl_x, found.fl_y, found.cx, found.cy]  # of photos twice as large
    assert pixels == pytest.approx([2560, 2560, 1104, 780], abs=1)
    assert [found.k1, found.k2] == pytest.approx(OFF_THE_MIDDLE[3:], abs=1e-3)


def test_wrong_matches_do_not_bend_a_lens():
    model = model_of(25, 400, camera_params=[1280.0, 552.0, 384.0, 0.0])
    (camera,) = model.cameras.values()
    random = np.random.default_rng(0)
    for image in model.images.values():
        for point in image.points2D:
            if point.has_point3D() and random.random() < 0.05:
                point.xy = point.xy + random.uniform(0, 12, 2)  # to one side
    camera.params = [1280.0, 512.0, 384.0, 0.0]
    _refine_lenses(quiet_pycolmap(), model)
    assert camera.params[:3].tolist() == pytest.approx([1280, 552, 384], abs=0.5)


def test_a_lens_of_few_photos_among_many_is_simple():
    model = model_of(20, 200, camera_params=[1280.0, 552.0, 384.0, 0.02])
    (camera,) = model.cameras.values()
    camera.params = [1270.0, 512.0, 384.0, 0.0]
    _refine_lenses(quiet_pycolmap(), model)
    assert camera.params.tolist() == pytest.approx([1280, 552, 384, 0.02], abs=0.5)
    lens = structure_of(model).lenses[0]
    assert lens.fl_x == lens.fl_y and lens.k2 == 0


def test_points_are_seen_where_the_full_photos_show_them():
    structure = structure_of(model_of(4, 50))
    for pose, seen, depths in zip(
        structure.c2w, structure.observations, structure.depths, strict=True
    ):
        assert len(seen.points) > 20
        x, y, z = ((structure.points[seen.points] - pose[:3, 3]) @ pose[:3, :3]).T
        np.testing.assert_allclose(depths, -z)
        shown = np.stack([1024 + 2560 * x / -z, 768 + 2560 * y / z], axis=1)
        np.testing.assert_allclose(seen.pixels, shown, atol=1e-6)


@pytest.mark.parametrize("track_length", [2, 3])
def test_what_two_photos_show_is_not_told(track_length: int):
    structure = structure_of(model_of(5, 50, track_length=track_length))
    assert sum(len(seen.points) for seen in structure.observations) == 50 * track_length
    assert len(reliable_observations(structure)) == (150 if track_length == 3 else 0)
