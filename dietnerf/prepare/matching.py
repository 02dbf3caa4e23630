"""Features of photos and their matches, by COLMAP, in a database that grows from call to call.

SIFT features with affine shape are found again from 45 degrees aside; a second search along the
epipolar lines finds more of them. The ratio test stays strict: with a looser one more photos are
placed, and some of them wrongly. What a database has already is not computed again.
"""

import shutil
from importlib.util import find_spec
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dietnerf.data.images import encoded
from dietnerf.errors import UserError
from dietnerf.files import write_file
from dietnerf.optional import how_to_install
from dietnerf.prepare.panorama import rig_of
from dietnerf.prepare.photos import Photo, prefix_of
from dietnerf.prepare.quality import FEW, Quality

N_COARSE = 256  # features of a photo, the largest, that tell which photos show the same
N_NEIGHBORS = 3  # photos after each, in the order of names or of time, that are matched anyway
FEWEST_PARTNERS = 3  # a photo for which fewer are known is matched with all


def require_pycolmap() -> None:
    """Make sure that the package is there, without importing it: it takes over SIGTERM.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("pycolmap") is None:
        raise UserError(
            f"finding where photos were taken from needs pycolmap: {how_to_install('prepare')}"
        )


def quiet_pycolmap() -> Any:
    """The package, without what it writes to standard error."""
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    return pycolmap


def small_name(photo: Photo) -> str:
    """What the small copy of a photo, and so its image in COLMAP, is called."""
    return f"{photo.name}.png"


def shrink(photos: list[Photo], images: Path, small: Path, longest: int) -> None:
    """Write small copies over white, so that neither size nor hidden colors matter further on."""
    for photo in photos:
        path = small / small_name(photo)
        if path.exists():
            continue
        with Image.open(images / photo.name) as file:
            picture = file.convert("RGBA")
        picture.thumbnail((longest, longest), Image.Resampling.BOX)
        over_white = Image.new("RGBA", picture.size, "white")
        over_white.alpha_composite(picture)
        write_file(path, encoded(over_white.convert("RGB"), "PNG", compress_level=1))


def list_photos(photos: list[Photo], small: Path, database: Path) -> None:
    """Begin a database: one camera for all photos of one size and focal length, and for each view
    of panoramas; the views of a panorama are a rig whose turns are known."""
    colmap = quiet_pycolmap()
    part = database.with_suffix(".part")
    part.unlink(missing_ok=True)
    colmap.Database.open(part).close()

    def lens(photo: Photo) -> tuple[int, int, float, int]:
        view = -1 if photo.view is None else photo.view
        return photo.width, photo.height, round(photo.focal or 0.0, 1), view

    for (width, height, focal, _), group in groupby(sorted(photos, key=lens), lens):
        names = sorted(map(small_name, group))
        reader = colmap.ImageReaderOptions()
        if focal:
            with Image.open(small / names[0]) as file:
                small_width, small_height = file.size
            scaled = focal * max(small_width, small_height) / max(width, height)
            reader.camera_params = f"{scaled},{small_width / 2},{small_height / 2},0"
        mode = colmap.CameraMode.SINGLE
        colmap.import_images(part, small, mode, image_names=names, options=reader)
    _tie_views(photos, part)
    part.replace(database)


def _tie_views(photos: list[Photo], database: Path) -> None:
    """Tell COLMAP which photos are views of one panorama, and how they are turned."""
    views = sorted({photo.view for photo in photos if photo.view is not None})
    if not views:
        return
    colmap = quiet_pycolmap()
    rig = colmap.RigConfig()
    rig.cameras = [
        colmap.RigConfigCamera(
            ref_sensor=view == views[0],
            image_prefix=prefix_of(view),
            cam_from_rig=colmap.Rigid3d(colmap.Rotation3d(turn), np.zeros(3)),
        )
        for view, turn in zip(views, rig_of(views), strict=True)
    ]
    with colmap.Database.open(database) as opened:
        colmap.apply_rig_config([rig], opened)


def extract(photos: list[Photo], small: Path, database: Path, quality: Quality) -> None:
    """Find the features of photos that the database lists."""
    colmap = quiet_pycolmap()
    options = colmap.FeatureExtractionOptions()
    options.use_gpu = False
    options.max_image_size = quality.longest
    options.sift.estimate_affine_shape = True
    options.sift.max_num_features = quality.n_features
    options.sift.first_octave = -1 if quality.is_doubled else 0
    colmap.extract_features(
        database,
        small,
        image_names=[small_name(photo) for photo in photos],
        extraction_options=options,
        device=colmap.Device.cpu,
    )


def thin_out(n: int, only_largest: bool, database: Path, smaller: Path) -> None:
    """Copy a database with at most n features of each photo: COLMAP bounds them by whole octaves,
    and goes up to twice beyond.

    Args:
        n: the bound.
        only_largest: keep the largest, which tell photos apart, and not some of all sizes: the
            smallest are those that poses are exact by.
        database: what is copied.
        smaller: the copy.
    """
    colmap = quiet_pycolmap()
    part = smaller.with_suffix(".part")
    shutil.copyfile(database, part)
    with colmap.Database.open(part) as opened:
        ids = [image.image_id for image in opened.read_all_images()]
        features = {i: (opened.read_keypoints(i), opened.read_descriptors(i)) for i in ids}
        opened.clear_keypoints()
        opened.clear_descriptors()
        for i, (points, descriptors) in features.items():
            area = np.abs(np.linalg.det(points[:, 2:6].reshape(-1, 2, 2)))
            by_size, n_kept = np.argsort(-area, kind="stable"), min(n, len(points))
            last = n_kept - 1 if only_largest else len(points) - 1
            kept = by_size[np.linspace(0, last, n_kept).astype(int)]
            opened.write_keypoints(i, points[kept])
            thinned = colmap.FeatureDescriptors(descriptors.type, descriptors.data[kept])
            opened.write_descriptors(i, thinned)
    part.replace(smaller)


def match(pairs: list[tuple[str, str]], database: Path, is_guided: bool) -> None:
    """Match pairs of photos, by the names of their small copies."""
    colmap = quiet_pycolmap()
    options = colmap.FeatureMatchingOptions()
    options.use_gpu, options.guided_matching = False, is_guided
    geometry = colmap.TwoViewGeometryOptions()
    geometry.ransac.random_seed = 0
    listing = database.with_suffix(".pairs")
    listing.write_text("".join(f"{one} {other}\n" for one, other in pairs))
    colmap.match_image_pairs(
        database,
        matching_options=options,
        pairing_options=colmap.ImportedPairingOptions(match_list_path=listing),
        verification_options=geometry,
        device=colmap.Device.cpu,
    )


def shared_features(photos: list[Photo], database: Path) -> np.ndarray:
    """How many matches agree on a geometry between each two photos, (n, n)."""
    colmap = quiet_pycolmap()
    with colmap.Database.open(database) as opened:
        images = [opened.read_image_with_name(small_name(photo)) for photo in photos]
        place_of = {image.image_id: i for i, image in enumerate(images)}
        counts = np.zeros((len(photos), len(photos)), dtype=int)
        for pair, n in zip(*opened.read_two_view_geometry_num_inliers(), strict=True):
            i, j = (place_of[number] for number in colmap.pair_id_to_image_pair(pair))
            counts[i, j] = counts[j, i] = n
    return counts


def all_pairs(photos: list[Photo]) -> list[tuple[str, str]]:
    """Each two photos from different places, by the names of their small copies."""
    return [
        (small_name(one), small_name(other))
        for one, other in combinations(photos, 2)
        if are_apart(one, other)
    ]


def are_apart(one: Photo, other: Photo) -> bool:
    """Whether two photos are not views of the same panorama."""
    return one.panorama is None or one.panorama != other.panorama


def is_chosen_first(photos: list[Photo]) -> bool:
    """Whether there are too many photos for all pairs to be matched."""
    return len(photos) > FEW


def choose(counts: np.ndarray, n_partners: int) -> list[tuple[int, int]]:
    """The pairs that are worth matching (as Wu 2013, by a few large features of each photo).

    Args:
        counts: how many of these features each two photos share, (n, n).
        n_partners: for each photo, those that share most with it.

    Returns:
        Pairs i < j, with neighbors in order, and all of a photo that shares something with hardly
        any other.
    """
    n = len(counts)
    pairs = {(i, j) for i in range(n) for j in range(i + 1, min(i + 1 + N_NEIGHBORS, n))}
    for i, row in enumerate(counts):
        is_lonely = np.count_nonzero(row) < FEWEST_PARTNERS
        best = np.argsort(-row, kind="stable")[: n if is_lonely else n_partners]
        pairs |= {(min(i, j), max(i, j)) for j in best.tolist() if j != i and (is_lonely or row[j])}
    return sorted(pairs)
