"""Public data sets by name: an archive is fetched, checked and unpacked (`dietnerf download`)."""
