"""A turntable: views around the focus of the cameras, within the range that they cover."""

import math
from dataclasses import dataclass
from typing import Self

import torch

from dietnerf.geometry.cameras import Cameras
from dietnerf.geometry.poses import Surroundings, face_one_way, fly, look_at

Bounds = tuple[float, float]

BEYOND = math.radians(15)  # angle by which a view may be outside of the range of the cameras
STEEPEST = math.radians(89)  # straight from above there is no upright picture
NEARER, FARTHER = 0.5, 1.5  # than the cameras


@dataclass(frozen=True)
class Turntable:
    """Cameras around the middle of a scene.

    Args:
        cameras: the training cameras; the first one is where the sliders begin.
        around: how they stand.
        azimuths: from and to, radians, seen from the first camera; a whole turn unless all cameras
            face one way.
        elevations: from and to, radians above the ground.
        distances: from and to, scene units.
        home: azimuth, elevation and distance of the first camera.
    """

    cameras: Cameras
    around: Surroundings
    azimuths: Bounds
    elevations: Bounds
    distances: Bounds
    home: tuple[float, float, float]

    @classmethod
    def of(cls, cameras: Cameras) -> Self:
        around = Surroundings.of(cameras)
        azimuths, elevations, distances = around.angles(cameras.positions)
        turns = torch.remainder(azimuths - azimuths[0] + math.pi, 2 * math.pi) - math.pi
        bounds = (-math.pi, math.pi)
        if face_one_way(cameras):
            bounds = (float(turns.min()) - BEYOND, float(turns.max()) + BEYOND)
        return cls(
            cameras,
            around,
            bounds,
            (
                max(float(elevations.min()) - BEYOND, -STEEPEST),
                min(float(elevations.max()) + BEYOND, STEEPEST),
            ),
            (NEARER * float(distances.min()), FARTHER * float(distances.max())),
            (0.0, float(elevations[0]), float(distances[0])),
        )

    def camera(self, azimuth: float, elevation: float, distance: float) -> Cameras:
        """One camera; radians, azimuth from the first training camera, and scene units."""
        return self.orbit([azimuth], elevation, distance)

    def orbit(self, azimuths: list[float], elevation: float, distance: float) -> Cameras:
        """A camera at each azimuth, all at one height."""
        start, _, _ = self.around.angles(self.cameras.positions[:1])
        turns = torch.tensor(azimuths)
        places = self.around.positions(
            start + turns, torch.full_like(turns, elevation), torch.full_like(turns, distance)
        )
        poses = look_at(places, self.around.center, self.around.up)
        return fly(self.cameras, poses, self.around)

    def full_turn(self, n_frames: int, elevation: float, distance: float) -> Cameras:
        """An orbit, or for cameras that face one way a swing to both ends and back."""
        shares = [i / n_frames for i in range(n_frames)]
        low, high = self.azimuths
        if math.isclose(high - low, 2 * math.pi):
            return self.orbit([2 * math.pi * share for share in shares], elevation, distance)
        middle, reach = (low + high) / 2, (high - low) / 2
        azimuths = [middle + reach * math.sin(2 * math.pi * share) for share in shares]
        return self.orbit(azimuths, elevation, distance)
