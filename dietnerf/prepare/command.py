"""`dietnerf prepare PHOTOS SCENE`: find where photos were taken from, write a scene."""

import argparse
import math
import shlex
import shutil
from pathlib import Path
from statistics import median

from dietnerf.arguments import Parser, number, path_name, typed
from dietnerf.capture_report import report_capture
from dietnerf.data.files import exists, is_folder
from dietnerf.errors import UserError, exit_on_user_error, leaving_on_signals
from dietnerf.files import check_writable, new_folder
from dietnerf.prepare import video
from dietnerf.prepare.kept import kept_beside, kept_work, key_of
from dietnerf.prepare.matching import require_pycolmap
from dietnerf.prepare.photos import Photo, copy_photos, find_photos
from dietnerf.prepare.quality import CHOICES, QUALITIES, Choice
from dietnerf.prepare.search import search
from dietnerf.prepare.structure import Structure, Trace
from dietnerf.prepare.transforms import (
    angle_of_view,
    cameras_of,
    reliable_observations,
    upright,
    write_transforms,
)

FEWEST = 3  # photographs that make a scene
MOST_FRAMES = 10_000  # of a video
FEW_FEATURES, FEW_PARTNERS = 300, 3


def parse(args: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = Parser(prog="dietnerf prepare", description=__doc__)
    add = parser.add_argument
    add("photos", type=path_name, help="folder of photos, or a video file")
    add("scene", type=path_name, help="folder to be made: images and transforms.json")
    frames = number(int, FEWEST, MOST_FRAMES)
    add("--frames", type=frames, default=40, help="taken of a video (default: 40)")
    add("--quality", choices=QUALITIES, default="normal", help="time spent (default: normal)")
    add(
        "--panorama",
        choices=CHOICES,
        default="auto",
        help="cut 360-degree pictures into views: those with a GPano tag (auto), all, or none",
    )
    options = parser.parse_args(args)
    check_new(options.scene)
    return options


def check_new(scene: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UserError: it does, or cannot be made, or what is kept beside it cannot be.
    """
    check_writable(scene, "scene")
    if scene.is_dir() and any(scene.iterdir()):
        raise UserError(f"{scene} is not empty, and stays as it is: name a folder that is new")
    kept_beside(scene)


def prepare(
    photos: Path,
    scene: Path,
    n_frames: int = 40,
    quality: str = "normal",
    panorama: Choice = "auto",
) -> Structure:
    """Make a scene folder; it appears only if at least three photographs could be placed.

    What was found until the work was broken off is kept beside the scene, and gone on from.

    Args:
        photos: folder of photographs, or a video.
        scene: folder to be made.
        n_frames: how many frames of a video are taken.
        quality: a key of `QUALITIES`.
        panorama: which photographs are 360-degree pictures.

    Returns:
        What was found, in the scene's frame.

    Raises:
        UserError: photographs cannot be read, or too few could be placed.
    """
    with new_folder(scene) as part:
        images = part / "images"
        found = _collect(photos, n_frames, part, panorama)
        print("finding what they have in common, and where they were taken from", flush=True)
        structure = _search(found, images, kept_beside(scene), quality)
        if len(structure.names) < FEWEST:
            raise UserError(" ".join(_failure(structure, found)))
        structure = upright(structure)
        print("\n".join(report(structure, found)))
        for photo in found:
            if photo.name not in structure.names:
                (images / photo.name).unlink()
        write_transforms(structure, part)
    return structure


def _collect(photos: Path, n_frames: int, part: Path, panorama: Choice) -> list[Photo]:
    """Copy the photographs, or frames of the video, into the images of a scene."""
    is_film = photos.suffix.lower() in video.SUFFIXES and exists(photos) and not is_folder(photos)
    frames = part / "frames"
    if is_film:
        print(f"choosing the sharpest frames of {n_frames} parts of {photos}", flush=True)
        paths = video.write_frames(photos, n_frames, frames)
    else:
        paths = find_photos(photos)
    found, notes = copy_photos(paths, part / "images", panorama)
    print("\n".join([f"{len(found)} photos", *(f"  {note}" for note in notes)]), flush=True)
    if len(found) < FEWEST:
        raise UserError(f"{photos} has {len(found)} photos; a scene needs at least {FEWEST}")
    places = {photo.panorama or photo.name for photo in found}
    if len(places) < FEWEST:
        raise UserError(
            f"{photos} shows what is seen from {len(places)} places alone, and depth needs at "
            f"least {FEWEST}: take more 360-degree pictures, some steps apart"
        )
    shutil.rmtree(frames, ignore_errors=True)
    return found


def _search(photos: list[Photo], images: Path, kept: Path, quality: str) -> Structure:
    """What `search` finds.

    Raises:
        UserError: COLMAP failed.
    """
    key = key_of([images / photo.name for photo in photos], quality, *photos)
    with kept_work(kept, key) as work:
        try:
            return search(photos, images, work, QUALITIES[quality])
        except RuntimeError as error:  # BrokenProcessPool as well
            free = shutil.disk_usage(images).free / 1e6
            raise UserError(
                f"COLMAP failed ({error}): it needs memory, and room beside the scene, where "
                f"{free:.0f} MB are free"
            ) from error


def report(structure: Structure, photos: list[Photo]) -> list[str]:
    """What was found, and for photographs that were left over, why."""
    angles = sorted(round(math.degrees(angle_of_view(lens))) for lens in structure.lenses)
    width = f"{angles[0]}" if angles[0] == angles[-1] else f"{angles[0]} to {angles[-1]}"
    lines = [
        f"{len(structure.names)} of {len(photos)} photos are placed, by {len(structure.points)} "
        f"points that lie {structure.error:.1f} pixels off on average",
        f"  the camera sees {width} degrees from left to right",
    ]
    missing = _missing(structure, photos)
    if missing:
        lines.append(f"  not placed: {_why(structure, missing)}")
        lines += [f"  {sentence}" for sentence in advice(missing, structure.traces)]
    return lines


def _failure(structure: Structure, photos: list[Photo]) -> list[str]:
    n = len(structure.names)
    placed = f" ({', '.join(structure.names)})" if n else ""
    missing = _missing(structure, photos)
    return [
        f"only {n} of {len(photos)} photos could be placed{placed}, and a scene needs {FEWEST};",
        f"not placed: {_why(structure, missing)}.",
        *advice(missing, structure.traces),
    ]


def _missing(structure: Structure, photos: list[Photo]) -> list[str]:
    return [photo.name for photo in photos if photo.name not in structure.names]


def _why(structure: Structure, missing: list[str]) -> str:
    return ", ".join(
        f"{name} ({structure.traces[name].n_features} features, shares enough of them with "
        f"{structure.traces[name].n_partners} photos)"
        for name in missing
    )


def advice(missing: list[str], traces: dict[str, Trace]) -> list[str]:
    """What to try, by what was found of the photographs that could not be placed."""
    found = [traces[name] for name in missing]
    sentences = []
    if median(trace.n_features for trace in found) < FEW_FEATURES:
        sentences.append(
            "There is little pattern in them: put a newspaper or a printed cloth under the object, "
            "use more light and hold still."
        )
    if min(trace.n_partners for trace in found) < FEW_PARTNERS:
        sentences.append(
            "They have too little in common with the others: take more photos in between, at most "
            "20 degrees apart, so that neighbors show two thirds of the same."
        )
    if not sentences:
        sentences.append(
            "They do not fit together: take them without zoom, of things that neither move nor "
            "mirror, and from different places, not turning on the spot."
        )
    return sentences


def run(options: argparse.Namespace) -> None:
    """Make a scene of photographs, and say what they cover."""
    require_pycolmap()
    structure = prepare(
        *(options.photos, options.scene, options.frames), options.quality, options.panorama
    )
    picture, has_depths = options.scene / "capture.png", len(reliable_observations(structure)) > 0
    report_capture(cameras_of(structure), structure.names, picture, has_depths=has_depths)


@exit_on_user_error
@leaving_on_signals()
def main(args: list[str] | None = None) -> None:
    """Make a scene of photographs; `args` defaults to the command line."""
    options = parse(args)
    run(options)
    folder = shlex.quote(f"runs/{options.scene.resolve().name}")
    print(
        f"The scene is in {options.scene}. Next:\n"
        f"  {typed('fit')} --scene {shlex.quote(str(options.scene))} --run {folder}\n"
        f"  {typed('render')} {folder}"
    )
