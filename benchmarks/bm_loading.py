"""Large captures: seconds and memory that reading them takes.

    python benchmarks/bm_loading.py            # 200 photos of 12 megapixels, an eighth as wide
    python benchmarks/bm_loading.py 1000 3     # photos, downscale

The photos are JPEGs that the benchmark makes itself, links to eight different ones. A process of
its own reads them, as a run does; its peak of memory, with all that is imported, is
reported beside what the photos take.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from common import report
from PIL import Image

WIDTH, HEIGHT, N_DIFFERENT = 4032, 3024, 8


def make_capture(root: Path, n_photos: int) -> None:
    """Photos with detail at all sizes, on a circle around the origin."""
    (root / "images").mkdir()
    generator = np.random.default_rng(0)
    for i in range(N_DIFFERENT):
        photo = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for side in (16, 128, 1024):
            noise = Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8))
            photo += np.asarray(noise.resize((WIDTH, HEIGHT))) / 3
        Image.fromarray(photo.astype(np.uint8)).save(root / f"{i}.jpg", quality=92)
    frames = []
    for i in range(n_photos):
        name = f"images/{i:04d}.jpg"
        (root / name).hardlink_to(root / f"{i % N_DIFFERENT}.jpg")
        angle = 2 * np.pi * i / n_photos
        c, s = np.cos(angle), np.sin(angle)
        pose = [[-s, 0, c, 4 * c], [c, 0, s, 4 * s], [0, 1, 0, 0], [0, 0, 0, 1]]
        frames.append({"file_path": name, "transform_matrix": pose})
    content = {"w": WIDTH, "h": HEIGHT, "fl_x": 3260.0, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(content))


def read(root: str, downscale: str) -> None:
    """Print seconds for the listing and for the pixels, bytes of the photos, and what the process
    took before and at its peak."""
    from dietnerf.data import Transforms
    from dietnerf.training.runtime import prepare_process

    prepare_process()
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    reader = Transforms(root, downscale if downscale == "auto" else float(downscale), 0)
    listing = reader.listing("train")
    assert listing is not None
    listed = time.perf_counter()
    scene = listing.read()
    done = time.perf_counter()
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(listed - started, done - listed, scene.images.nbytes, before, peak)


def main(n_photos: int = 200, downscale: str = "8") -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_capture(Path(folder), n_photos)
        command = [sys.executable, __file__, "read", folder, downscale]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    listing, pixels, n_bytes, before, after = map(float, said.split())
    report(
        "loading",
        pixels,
        "s",
        n_photos=n_photos,
        downscale=downscale,
        seconds_listing=round(listing, 2),
        photos_mb=round(n_bytes / 1e6),
        before_mb=round(before / 1e6),
        peak_mb=round(after / 1e6),
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    if sys.argv[1:2] == ["read"]:
        read(*sys.argv[2:])
    else:
        main(*(int(sys.argv[1]), *sys.argv[2:]) if len(sys.argv) > 1 else ())
