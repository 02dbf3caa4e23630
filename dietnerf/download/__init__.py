"""Public data sets by name: an archive is downloaded, checked and unpacked (`dietnerf
download`)."""
