"""Training with Lightning."""

from dietnerf.machine import check_temporary_folder

check_temporary_folder()
