"""`python -m dietnerf.prepare photos/ scene/`."""

from dietnerf.prepare.command import main

if __name__ == "__main__":
    main()
