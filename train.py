"""Train, validate and test: `python train.py fit --config configs/quickstart.yaml`."""

from dietnerf.training.cli import main

if __name__ == "__main__":
    main()
