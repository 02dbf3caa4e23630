"""Photographs or a film in, a scene folder with camera poses out (`python -m dietnerf.prepare`);
and scenes into other formats."""
