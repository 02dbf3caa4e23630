"""`python -m dietnerf.export mesh runs/demo`."""

from dietnerf.export.command import main

if __name__ == "__main__":
    main()
