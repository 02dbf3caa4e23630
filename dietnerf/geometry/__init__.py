"""Cameras, rays, and poses."""
