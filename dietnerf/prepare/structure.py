"""Where photographs were taken from, by structure from motion out of their matches: COLMAP."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dietnerf.prepare.matching import is_chosen_first, quiet_pycolmap, shared_features, small_name
from dietnerf.prepare.photos import Photo
from dietnerf.prepare.quality import FEW

FEWEST_INLIERS = 20  # matched points that place a photograph
GROWTH = 1.4  # of a large set, between two adjustments of all of it
TYPICAL_ERROR = 0.5  # of a right match, pixels of the small pictures
MAX_ERROR = 2.0  # between a point and where it is seen, pixels of the small pictures


@dataclass(frozen=True)
class Lens:
    """A pinhole with OpenCV's first radial distortion coefficients, in pixels of the photograph."""

    width: int
    height: int
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    k1: float
    k2: float = 0.0


@dataclass(frozen=True)
class Trace:
    """What was found of one photograph, placed or not.

    Args:
        n_features: points that stand out.
        n_partners: other photographs that show enough of the same points.
    """

    n_features: int
    n_partners: int


@dataclass(frozen=True)
class PhotoObservations:
    """Where one photograph shows which points.

    Args:
        points: their indices, (n,).
        pixels: column and row in the photograph, whose upper left pixel has its center at 0.5, 0.5,
            (n, 2).
    """

    points: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class Structure:
    """Placed photographs and the points that they share, in one frame of any scale.

    Args:
        names: of the placed photographs, in the order in which they were given.
        c2w: their poses, camera to world, OpenGL axes, (n, 4, 4).
        lenses: one for each.
        points: (m, 3).
        colors: of the points, uint8, (m, 3).
        observations: for each photograph, of the points in it.
        depths: of these points, along the axis of each photograph.
        error: mean distance between points and where they are seen, pixels of what was matched.
        traces: of all photographs, by name.
    """

    names: list[str]
    c2w: np.ndarray
    lenses: list[Lens]
    points: np.ndarray
    colors: np.ndarray
    observations: list[PhotoObservations]
    depths: list[np.ndarray]
    error: float
    traces: dict[str, Trace]


def find_structure(photos: list[Photo], small: Path, database: Path, placed: Path) -> Structure:
    """Find the poses of as many matched photographs as possible; on the CPU, and repeatable.

    Args:
        photos: all of them.
        small: the folder of their small copies.
        database: their matches.
        placed: a file that grows by a byte for each photograph that is placed.

    Returns:
        The largest set of photographs that fit together; none is placed where nothing does.
    """
    colmap = quiet_pycolmap()
    traces = _traces(colmap, database, photos)
    with placed.open("wb", buffering=0) as file:
        options = _options(colmap, is_chosen_first(photos))
        options.constant_cameras = _exact_cameras(colmap, database, photos)
        models = _map(colmap, database, small, options, lambda: file.write(b"."))
    if not models:
        nothing = np.zeros((0, 3))
        return Structure([], np.zeros((0, 4, 4)), [], nothing, nothing, [], [], 0.0, traces)
    model = max(models, key=lambda model: model.num_reg_images())
    if is_chosen_first(photos) and not options.constant_cameras:
        _refine_lenses(colmap, model)
    return _structure(model, photos, traces)


def _options(colmap: Any, are_many: bool) -> Any:
    options = colmap.IncrementalPipelineOptions()
    options.min_model_size = 3
    options.ba_refine_sensor_from_rig = False
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = 0
    options.mapper.init_min_num_inliers = 50
    options.mapper.init_min_tri_angle = 8.0
    options.mapper.abs_pose_min_num_inliers = FEWEST_INLIERS
    options.mapper.filter_max_reproj_error = MAX_ERROR
    if are_many:  # all poses are adjusted less often, which takes a third of the time
        options.ba_global_frames_ratio = options.ba_global_points_ratio = GROWTH
        options.ba_global_max_refinements = 2
    return options


def _exact_cameras(colmap: Any, database: Path, photos: list[Photo]) -> set[int]:
    """Ids of the cameras of panoramas' views, which nothing needs to be found of."""
    names = [small_name(photo) for photo in photos if photo.view is not None]
    with colmap.Database.open(database) as opened:
        return {opened.read_image_with_name(name).camera_id for name in names}


def _refine_lenses(colmap: Any, model: Any) -> None:
    """Adjust all poses once more, with the middle of each lens free, which of cropped photos is
    elsewhere; a lens that many photographs share has a second coefficient of distortion then.

    Its two focal lengths stay one: photos that turn about a single axis do not tell them apart.
    """
    n_photos = Counter(image.camera_id for image in model.images.values() if image.has_pose)
    for number, n in n_photos.items():
        if n > FEW:
            camera = model.camera(number)
            focal, cx, cy, k1 = camera.params.tolist()
            camera.model = colmap.CameraModelId.RADIAL
            camera.params = [focal, cx, cy, k1, 0.0]
    options = colmap.BundleAdjustmentOptions()
    options.refine_principal_point = True
    options.ceres.loss_function_type = colmap.LossFunctionType.CAUCHY  # some matches are wrong
    options.ceres.loss_function_scale = TYPICAL_ERROR
    colmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()


def _map(
    colmap: Any, database: Path, small: Path, options: Any, on_placed: Callable[[], object]
) -> list[Any]:
    """The reconstructions, which have no photograph in common."""
    models = database.with_name("models")
    shutil.rmtree(models, ignore_errors=True)  # of a call that was broken off
    models.mkdir()
    found = colmap.incremental_mapping(
        database, small, models, options, next_image_callback=on_placed
    )
    return list(found.values())


def _traces(colmap: Any, database: Path, photos: list[Photo]) -> dict[str, Trace]:
    n_partners = (shared_features(photos, database) >= FEWEST_INLIERS).sum(axis=1).tolist()
    with colmap.Database.open(database) as opened:
        images = [opened.read_image_with_name(small_name(photo)) for photo in photos]
        n_features = [opened.num_keypoints_for_image(image.image_id) for image in images]
    found = zip(photos, n_features, n_partners, strict=True)
    return {photo.name: Trace(features, partners) for photo, features, partners in found}


def _structure(model: Any, photos: list[Photo], traces: dict[str, Trace]) -> Structure:
    """Out of COLMAP's model: other axes, full size, fewer indirections."""
    placed = {image.name: image for image in model.images.values() if image.has_pose}
    kept = [photo for photo in photos if small_name(photo) in placed]
    images = [placed[small_name(photo)] for photo in kept]
    w2c = [np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]) for image in images]
    numbers = np.array(sorted(model.points3D))
    points = [model.points3D[number] for number in numbers.tolist()]
    places = np.array([point.xyz for point in points])
    observations = [_observations(*pair, numbers) for pair in zip(kept, images, strict=True)]
    depths = [
        places[seen.points] @ pose[2, :3] + pose[2, 3]
        for seen, pose in zip(observations, w2c, strict=True)
    ]
    return Structure(
        [photo.name for photo in kept],
        np.linalg.inv(np.stack(w2c)) * [1, -1, -1, 1],  # y and z axes of a camera: up, backward
        [_lens(photo, image.camera) for photo, image in zip(kept, images, strict=True)],
        places,
        np.array([point.color for point in points], dtype=np.uint8),
        observations,
        depths,
        model.compute_mean_reprojection_error(),
        traces,
    )


def _observations(photo: Photo, image: Any, numbers: np.ndarray) -> PhotoObservations:
    """Those of an image of COLMAP, whose points have these numbers, in ascending order."""
    seen = image.get_observation_points2D()
    scale = [photo.width / image.camera.width, photo.height / image.camera.height]
    pixels = np.array([point.xy for point in seen]).reshape(-1, 2)
    points = np.searchsorted(numbers, [point.point3D_id for point in seen])
    return PhotoObservations(points, pixels * scale)


def _lens(photo: Photo, camera: Any) -> Lens:
    x, y = photo.width / camera.width, photo.height / camera.height
    # Of COLMAP's SIMPLE_RADIAL and RADIAL; the principal point counts from the corner, as here.
    focal, cx, cy, *distortion = camera.params.tolist()
    return Lens(photo.width, photo.height, focal * x, focal * y, cx * x, cy * y, *distortion)
