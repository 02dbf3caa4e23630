"""What a command prints about its training views before training."""

from pytorch_lightning.utilities.rank_zero import rank_zero_only, rank_zero_warn

from dietnerf.data.capture_checks import doubts
from dietnerf.errors import UserError
from dietnerf.training.datamodule import SceneDataModule


def say_what_is_trained_on(data: SceneDataModule, trains: bool) -> None:
    """Print their number, size and range, and warn of what is doubtful about them.

    Args:
        data: set up.
        trains: False for a report, which prints errors as warnings.

    Raises:
        UserError: nothing can be learned from them.
    """
    say = rank_zero_only(print)
    dataset, downscale = data.datasets["train"], data.reader.downscale
    cameras, n = dataset.cameras, len(dataset)
    say(
        f"{n} training view{'s' if n > 1 else ''} of {cameras.width}x{cameras.height}"
        + (f" (the reader's downscale is {downscale:g})" if downscale != 1 else "")
        + f", near {float(cameras.near.min()):.3g}, far {float(cameras.far.max()):.3g}",
        flush=True,
    )
    try:
        for sentence in doubts(dataset):
            rank_zero_warn(sentence)
    except UserError as error:
        if trains:
            raise
        rank_zero_warn(str(error))
