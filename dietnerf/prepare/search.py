"""The search for poses, step by step in a process of its own, with a word of how far it is."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from dietnerf.prepare.matching import (
    N_COARSE,
    all_pairs,
    are_apart,
    choose,
    extract,
    is_chosen_first,
    list_photos,
    match,
    shared_features,
    shrink,
    small_name,
    thin_out,
)
from dietnerf.prepare.photos import Photo
from dietnerf.prepare.progress import progress
from dietnerf.prepare.quality import Quality
from dietnerf.prepare.structure import Structure, find_structure
from dietnerf.workers import workers

N_CORES = os.cpu_count() or 1
BATCH = 8 * N_CORES  # photos or pairs between two words of progress
COARSE_BATCH = 64 * N_CORES  # pairs of photos with few features each
SECONDS = 0.5  # between two looks at how many photos are placed


def search(photos: list[Photo], images: Path, work: Path, quality: Quality) -> Structure:
    """Find the poses of as many photographs as possible.

    Photographs of one size and focal length share a camera, whose focal length and distortion are
    adjusted.

    Args:
        photos: all of them.
        images: the folder that they are in.
        work: a folder for what is needed on the way; what an earlier call with the same arguments
            left there is not computed again.
        quality: how much time is spent.

    Returns:
        The largest set of photographs that fit together; none is placed where nothing does.

    Raises:
        RuntimeError: COLMAP failed, or ended its process, as it does where it has no room.
    """
    small, features, database = work / "small", work / "features.db", work / "matches.db"
    with workers(1, _be_quiet) as pool:
        shrinking = (shrink, images, small, quality.longest)
        _in_batches(pool, "small copies", "photos", photos, BATCH, *shrinking)
        if not features.exists():
            pool.submit(list_photos, photos, small, features).result()
        _in_batches(pool, "features", "photos", photos, BATCH, extract, small, features, quality)
        if not database.exists():
            pool.submit(thin_out, quality.n_features, False, features, database).result()
        pairs = all_pairs(photos)
        if is_chosen_first(photos):
            pairs = _chosen(pool, photos, pairs, features, quality)
        _in_batches(pool, "matches", "pairs", pairs, BATCH, match, database, quality.is_guided)
        placed = work / "placed"
        found = pool.submit(find_structure, photos, small, database, placed)
        _watch(found, placed, len(photos))
        return found.result()


def _chosen(
    pool: ProcessPoolExecutor,
    photos: list[Photo],
    pairs: list[tuple[str, str]],
    features: Path,
    quality: Quality,
) -> list[tuple[str, str]]:
    """The pairs that show the same, by a few features of each photo."""
    coarse = features.with_name("coarse.db")
    if not coarse.exists():
        pool.submit(thin_out, N_COARSE, True, features, coarse).result()
    _in_batches(pool, "choice of pairs", "pairs", pairs, COARSE_BATCH, match, coarse, False)
    counts = pool.submit(shared_features, photos, coarse).result()
    return [
        (small_name(photos[i]), small_name(photos[j]))
        for i, j in choose(counts, quality.n_partners)
        if are_apart(photos[i], photos[j])
    ]


def _in_batches(
    pool: ProcessPoolExecutor,
    task: str,
    unit: str,
    items: list[Any],
    size: int,
    function: Callable[..., None],
    *arguments: Any,
) -> None:
    with progress(task, len(items), unit) as bar:
        for first in range(0, len(items), size):
            batch = items[first : first + size]
            pool.submit(function, batch, *arguments).result()
            bar.update(len(batch))


def _watch(found: Future[Structure], placed: Path, n: int) -> None:
    """Say how many photographs are placed until all are that can be."""
    with progress("poses", n, "photos") as bar:
        while not found.done():
            wait([found], timeout=SECONDS)
            n_placed = min(placed.stat().st_size, n) if placed.exists() else 0
            bar.update(n_placed - bar.n)


def _be_quiet() -> None:
    """Keep to itself what COLMAP says of its own code when it fails."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
