"""Render a run: `python render.py runs/demo`."""

from dietnerf.export.render import main

if __name__ == "__main__":
    main()
