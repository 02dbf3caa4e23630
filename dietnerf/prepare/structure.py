"""Where photographs were taken from, by structure from motion: COLMAP, through `pycolmap`.

Settings are for few photographs far apart: SIFT features with affine shape, which are found again
from 45 degrees aside, matched between all pairs, and a second search along the epipolar lines. The
ratio test stays strict: with a looser one more photographs are placed, and some of them wrongly.
"""

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dietnerf.data.images import encoded
from dietnerf.errors import UserError
from dietnerf.prepare.photos import Photo

SMALL = 1600  # the longer side of what is matched, pixels
MANY_FRAMES = 80  # of a video; from here on only neighbours are matched
NEIGHBOURS = 10
FEWEST_INLIERS = 20  # matched points that place a photograph
MAX_ERROR = 2.0  # between a point and where it is seen, pixels of the small pictures


@dataclass(frozen=True)
class Lens:
    """A pinhole with OpenCV's first radial distortion coefficient, in pixels of the photograph."""

    width: int
    height: int
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    k1: float


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
class Structure:
    """Placed photographs and the points that they share, in one frame of any scale.

    Args:
        names: of the placed photographs, in the order in which they were given.
        c2w: their poses, camera to world, OpenGL axes, (n, 4, 4).
        lenses: one for each.
        points: (m, 3).
        colours: of the points, uint8, (m, 3).
        depths: for each photograph the distances along its axis of the points in it.
        error: mean distance between points and where they are seen, pixels of what was matched.
        traces: of all photographs, by name.
    """

    names: list[str]
    c2w: np.ndarray
    lenses: list[Lens]
    points: np.ndarray
    colours: np.ndarray
    depths: list[np.ndarray]
    error: float
    traces: dict[str, Trace]


def require_pycolmap() -> Any:
    """The package, quiet.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise UserError(
            "finding where photos were taken from needs pycolmap: `pip install 'dietnerf[prepare]'`"
        ) from error
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    return pycolmap


def place(photos: list[Photo], images: Path, work: Path, is_film: bool) -> Structure:
    """Find the poses of as many photographs as possible; on the CPU, and repeatable.

    Photographs of one size and focal length share a camera, whose focal length and distortion are
    adjusted.

    Args:
        photos: all of them.
        images: the folder that they are in.
        work: an empty folder for the data base and what else is needed on the way.
        is_film: they are frames in the order of time.

    Returns:
        The largest set of photographs that fit together; none is placed where nothing does.
    """
    colmap = require_pycolmap()
    small, database = work / "small", work / "database.db"
    for photo in photos:
        _shrink(images / photo.name, small / f"{photo.name}.png")
    _extract(colmap, photos, small, database)
    _match(colmap, database, is_film and len(photos) > MANY_FRAMES)
    models = _map(colmap, database, small, work / "models")
    traces = _traces(colmap, database, photos)
    if not models:
        nothing = np.zeros((0, 3))
        return Structure([], np.zeros((0, 4, 4)), [], nothing, nothing, [], 0.0, traces)
    return _structure(max(models, key=lambda model: model.num_reg_images()), photos, traces)


def _shrink(photo: Path, small: Path) -> None:
    """A smaller copy over white, so that neither size nor hidden colours matter further on."""
    with Image.open(photo) as file:
        picture = file.convert("RGBA")
    picture.thumbnail((SMALL, SMALL), Image.Resampling.BOX)
    over_white = Image.new("RGBA", picture.size, "white")
    over_white.alpha_composite(picture)
    small.parent.mkdir(parents=True, exist_ok=True)
    small.write_bytes(encoded(over_white.convert("RGB"), "PNG", compress_level=1))


def _extract(colmap: Any, photos: list[Photo], small: Path, database: Path) -> None:
    """Find features, with a camera for each group of photographs that can share one."""
    options = colmap.FeatureExtractionOptions()
    options.use_gpu = False
    options.sift.estimate_affine_shape = True
    colmap.Database.open(database).close()

    def lens(photo: Photo) -> tuple[int, int, float]:
        return photo.width, photo.height, round(photo.focal or 0.0, 1)

    for (width, height, focal), group in groupby(sorted(photos, key=lens), lens):
        names = sorted(f"{photo.name}.png" for photo in group)
        reader = colmap.ImageReaderOptions()
        if focal:
            with Image.open(small / names[0]) as file:
                small_width, small_height = file.size
            scaled = focal * max(small_width, small_height) / max(width, height)
            reader.camera_params = f"{scaled},{small_width / 2},{small_height / 2},0"
        shared = {"camera_mode": colmap.CameraMode.SINGLE, "image_names": names}
        colmap.import_images(database, small, **shared, options=reader)
        colmap.extract_features(
            database,
            small,
            **shared,
            reader_options=reader,
            extraction_options=options,
            device=colmap.Device.cpu,
        )


def _match(colmap: Any, database: Path, only_neighbours: bool) -> None:
    options = colmap.FeatureMatchingOptions()
    options.use_gpu, options.guided_matching = False, True
    geometry = colmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = 0
    common = {"verification_options": geometry, "device": colmap.Device.cpu}
    if only_neighbours:
        pairs = colmap.SequentialPairingOptions()
        pairs.overlap = NEIGHBOURS
        colmap.match_sequential(database, matching_options=options, pairing_options=pairs, **common)
    else:
        colmap.match_exhaustive(database, matching_options=options, **common)


def _map(colmap: Any, database: Path, small: Path, models: Path) -> list[Any]:
    """The reconstructions, which have no photograph in common."""
    models.mkdir()
    options = colmap.IncrementalPipelineOptions()
    options.min_model_size = 3
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = 0
    options.mapper.init_min_num_inliers = 50
    options.mapper.init_min_tri_angle = 8.0
    options.mapper.abs_pose_min_num_inliers = FEWEST_INLIERS
    options.mapper.filter_max_reproj_error = MAX_ERROR
    return list(colmap.incremental_mapping(database, small, models, options).values())


def _traces(colmap: Any, database: Path, photos: list[Photo]) -> dict[str, Trace]:
    with colmap.Database.open(database) as opened:
        pairs, counts = opened.read_two_view_geometry_num_inliers()
        matched = [
            colmap.pair_id_to_image_pair(pair)
            for pair, n in zip(pairs, counts, strict=True)
            if n >= FEWEST_INLIERS
        ]
        traces = {}
        for photo in photos:
            image = opened.read_image_with_name(f"{photo.name}.png")
            n_partners = sum(image.image_id in pair for pair in matched)
            traces[photo.name] = Trace(opened.num_keypoints_for_image(image.image_id), n_partners)
    return traces


def _structure(model: Any, photos: list[Photo], traces: dict[str, Trace]) -> Structure:
    """Out of COLMAP's model: other axes, full size, fewer indirections."""
    placed = {image.name: image for image in model.images.values() if image.has_pose}
    kept = [photo for photo in photos if f"{photo.name}.png" in placed]
    images = [placed[f"{photo.name}.png"] for photo in kept]
    w2c = [np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]) for image in images]
    points = [model.points3D[i] for i in sorted(model.points3D)]
    places = np.array([point.xyz for point in points])
    of_image: dict[int, list[int]] = {image.image_id: [] for image in images}
    for i, point in enumerate(points):
        for seen in point.track.elements:
            of_image[seen.image_id].append(i)
    depths = [
        places[of_image[image.image_id]] @ pose[2, :3] + pose[2, 3]
        for image, pose in zip(images, w2c, strict=True)
    ]
    return Structure(
        [photo.name for photo in kept],
        np.linalg.inv(np.stack(w2c)) * [1, -1, -1, 1],  # y and z axes of a camera: up, backward
        [_lens(photo, image.camera) for photo, image in zip(kept, images, strict=True)],
        places,
        np.array([point.color for point in points], dtype=np.uint8),
        depths,
        model.compute_mean_reprojection_error(),
        traces,
    )


def _lens(photo: Photo, camera: Any) -> Lens:
    x, y = photo.width / camera.width, photo.height / camera.height
    # Of COLMAP's SIMPLE_RADIAL; the principal point counts from the corner, as here.
    focal, cx, cy, k1 = camera.params.tolist()
    return Lens(photo.width, photo.height, focal * x, focal * y, cx * x, cy * y, k1)
