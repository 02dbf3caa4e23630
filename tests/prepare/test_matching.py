"""Which of many photos are matched with which."""

from pathlib import Path

import numpy as np
import pytest

from dietnerf.prepare.matching import N_NEIGHBORS, choose, thin_out


def ring(n: int, reach: int) -> np.ndarray:
    """Photos all around, each of which shares less with those farther off, up to `reach`."""
    apart = np.abs(np.arange(n)[:, None] - np.arange(n))
    apart = np.minimum(apart, n - apart)
    return np.where((apart > 0) & (apart <= reach), 100 - apart, 0)


def test_each_photo_is_matched_with_those_that_share_most_with_it():
    pairs = choose(ring(30, 10), 8)
    assert {(0, j) for j in (1, 2, 3, 4, 26, 27, 28, 29)} <= set(pairs)
    assert (0, 10) not in pairs and (0, 15) not in pairs
    assert all(i < j for i, j in pairs) and len(set(pairs)) == len(pairs) == 30 * 4


def test_neighbors_in_order_are_matched_whatever_they_share():
    counts = ring(30, 10)
    counts[12, :], counts[:, 12] = 0, 0
    counts[12, 20:24] = counts[20:24, 12] = 90
    pairs = choose(counts, 4)
    assert {(12, 12 + k) for k in range(1, N_NEIGHBORS + 1)} <= set(pairs)


def test_a_photo_that_shares_nothing_is_matched_with_all():
    counts = ring(30, 10)
    counts[12, :], counts[:, 12] = 0, 0
    pairs = choose(counts, 4)
    assert {(min(12, j), max(12, j)) for j in range(30) if j != 12} <= set(pairs)


def test_features_are_bounded(tmp_path: Path):
    """COLMAP itself finds up to twice as many as it is told."""
    colmap = pytest.importorskip("pycolmap")
    with colmap.Database.open(tmp_path / "all.db") as opened:
        camera = opened.write_camera(
            colmap.Camera(model="PINHOLE", width=40, height=30, params=[50, 50, 20, 15])
        )
        image = opened.write_image(colmap.Image(name="a.png", camera_id=camera))
        sizes = np.float32([3, 9, 1, 7])
        places = np.arange(8, dtype=np.float32).reshape(4, 2)
        shapes = sizes[:, None] * np.float32([1, 0, 0, 1])
        opened.write_keypoints(image, np.hstack([places, shapes]))
        descriptors = np.repeat(np.arange(4, dtype=np.uint8)[:, None], 128, axis=1)
        kind = colmap.FeatureExtractorType.SIFT
        opened.write_descriptors(image, colmap.FeatureDescriptors(kind, descriptors))
    for only_largest, kept in ((True, [1, 3]), (False, [1, 2])):
        thin_out(2, only_largest, tmp_path / "all.db", tmp_path / "two.db")
        with colmap.Database.open(tmp_path / "two.db") as opened:
            assert opened.read_keypoints(image)[:, :2].tolist() == places[kept].tolist()
            assert opened.read_descriptors(image).data[:, 0].tolist() == kept
    with colmap.Database.open(tmp_path / "all.db") as opened:
        assert opened.num_keypoints() == 4
