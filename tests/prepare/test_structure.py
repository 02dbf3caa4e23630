"""The lens, as many photographs tell it."""

import pytest

from dietnerf.prepare.matching import quiet_pycolmap
from dietnerf.prepare.structure import _refine_principal_point


def test_a_lens_off_the_middle_is_found():
    pytest.importorskip("pycolmap")
    colmap = quiet_pycolmap()
    options = colmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_frames_per_rig, options.num_points3D = 1, 25, 200
    options.camera_model_id = colmap.CameraModelId.SIMPLE_RADIAL
    options.camera_params = [1280.0, 552.0, 384.0, 0.0]
    model = colmap.synthesize_dataset(options)
    (camera,) = model.cameras.values()
    camera.params = [1280.0, 512.0, 384.0, 0.0]  # the middle
    _refine_principal_point(colmap, model)
    assert camera.params.tolist() == pytest.approx([1280, 552, 384, 0], abs=0.5)
