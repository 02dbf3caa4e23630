"""Train, validate and test: `python train.py fit --config configs/quickstart.yaml`."""

from dietnerf.main import main

if __name__ == "__main__":
    main()
