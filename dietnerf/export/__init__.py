"""Exports of trained scenes: images, films, meshes, points, depth maps, cameras and the model
hub."""
