"""Folders of runs and their checkpoints, read without Lightning."""
