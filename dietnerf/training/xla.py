"""TPUs, through torch_xla: what Lightning lacks, and a CPU in place of one for tests."""

import os
from importlib.util import find_spec
from typing import Any

import torch
from pytorch_lightning.accelerators.xla import XLAAccelerator
from torch import nn

from dietnerf.errors import UserError
from dietnerf.gaussians import Gaussians
from dietnerf.sampling import Occupancy

NAMES = ("tpu", "xla_cpu")  # of --trainer.accelerator
TORCH = "2.9"  # the version of torch that torch_xla's last release is for


class XLAOnCPU(XLAAccelerator):
    """Lightning's accelerator for TPUs where PJRT_DEVICE is CPU, which it would refuse."""

    @staticmethod
    def is_available() -> bool:
        return os.environ.get("PJRT_DEVICE") == "CPU"

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def parse_devices(devices: Any) -> int:
        if devices not in (1, "1", "auto"):
            raise UserError(f"--trainer.accelerator xla_cpu has one device, not {devices}")
        return 1

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device("xla", 0)]

    @staticmethod
    def name() -> str:
        return "xla_cpu"


def accelerator(name: Any) -> Any:
    """The accelerator for Lightning by the value of `--trainer.accelerator`.

    Raises:
        UserError: it needs torch_xla, which is missing, or made for another torch.
    """
    if name not in NAMES:
        return name
    if find_spec("torch_xla") is None:
        raise UserError(
            f"--trainer.accelerator {name} needs torch_xla: see docs/devices.md for the "
            "environment that it wants, or choose another accelerator"
        )
    if not torch.__version__.startswith(TORCH):
        raise UserError(
            f"torch_xla is made for torch {TORCH}, but this is {torch.__version__}: see "
            "docs/devices.md for the environment that it wants"
        )
    if name == "tpu":
        return name
    if not XLAOnCPU.is_available():
        raise UserError(
            "--trainer.accelerator xla_cpu needs the environment variable PJRT_DEVICE=CPU"
        )
    return XLAOnCPU()


def check(device: torch.device, field: nn.Module, sampler: nn.Module) -> None:
    """Refuse what a TPU would recompile for every step.

    Raises:
        UserError: the number of samples, or of Gaussians, depends on values.
    """
    if device.type == "xla" and isinstance(field, Gaussians):
        raise UserError(
            "Gaussians are sorted and moved by values, which a TPU cannot do: train a field there, "
            "as configs/nerf.yaml does"
        )
    if device.type == "xla" and isinstance(sampler, Occupancy):
        raise UserError(
            "the sampler Occupancy places another number of samples in every step, which a TPU "
            "cannot do: use Stratified or Importance, as configs/nerf.yaml does"
        )
