"""`python -m dietnerf`: as the command `dietnerf`."""

from dietnerf.main import main

if __name__ == "__main__":
    main()
