"""Render a run: `python render.py runs/demo`, as `dietnerf render runs/demo`."""

import sys

from dietnerf.main import main

if __name__ == "__main__":
    main(["render", *sys.argv[1:]])
