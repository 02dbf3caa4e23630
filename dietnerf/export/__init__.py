"""What leaves the project: pictures and films."""
