"""From photos to a scene, and scenes into other formats."""
