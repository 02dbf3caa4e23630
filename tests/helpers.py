"""Rays, fields and runs that tests share."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from dietnerf.fields import AbstractField
from dietnerf.geometry.rays import Rays, Rendering, Samples
from dietnerf.losses import RayLossInput


def refused(
    capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], None], *args: object
) -> str:
    """The one sentence that a command ends with."""
    with pytest.raises(SystemExit) as ended:
        command([str(arg) for arg in args])
    assert ended.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def inward_rays(n_rays: int, near: float = 2.0, far: float = 6.0, seed: int = 0) -> Rays:
    """Rays from a sphere of radius 4 towards the origin, with directions that are not unit."""
    generator = torch.Generator().manual_seed(seed)
    rays_o = 4 * F.normalize(torch.randn(n_rays, 3, generator=generator), dim=-1)
    rays_d = -rays_o / 4 + 0.1 * torch.randn(n_rays, 3, generator=generator)
    return Rays(rays_o, rays_d, torch.full((n_rays,), near), torch.full((n_rays,), far))


class Ball(AbstractField):
    """A red ball of constant density around the origin, whose brightness is one parameter."""

    def __init__(self, radius: float = 1.0, sigma: float = 50.0) -> None:
        super().__init__()
        self.radius = radius
        self.sigma = sigma
        self.brightness = torch.nn.Parameter(torch.tensor(0.8))

    def density(self, samples: Samples) -> tuple[Tensor, Tensor]:
        is_inside = samples.positions.norm(dim=-1) < self.radius
        return self.sigma * is_inside.float(), samples.positions

    def color(self, features: Tensor, samples: Samples) -> Tensor:
        red = torch.tensor([1.0, 0.0, 0.0], device=features.device)
        return self.brightness * red.expand(len(features), 3)


class HostLists(TorchFunctionMode):
    """Notes `tolist` and `numpy`, which on a CPU are not dispatched.

    Args:
        waits: where.
    """

    def __init__(self, waits: "Waits") -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy) and not self._waits.is_paused:
            self._waits.found.append(str(func))
        return func(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    """Notes, on any device, what a GPU would be waited for: values that the host reads, sizes that
    follow from values, and tensors made of the host's numbers, unless they are copied without
    waiting."""

    READING = (
        "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "_unique2",
        "unique_dim", "unique_consecutive", "bincount", "equal",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.is_paused = False
        self._of_host: list[Tensor] = []  # kept, so that no other gets its id
        self._lists = HostLists(self)

    def __enter__(self) -> "Waits":
        self._lists.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._lists.__exit__(*error)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.is_paused = True
        yield
        self.is_paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        result = func(*args, **kwargs)
        if self.is_paused:
            return result
        if name == "lift_fresh":
            self._of_host.append(result)
        elif name in self.READING or self._has_sizes_of_values(name, args, kwargs):
            self.found.append(str(func))
        elif any(arg is of_host for arg in args for of_host in self._of_host):
            is_sent = kwargs.get("non_blocking") or args[2:] == (True,)
            if name != "copy_" or not is_sent:
                self.found.append(f"{func} of the host's numbers")
        return result

    @staticmethod
    def _has_sizes_of_values(name: str, args: Any, kwargs: Any) -> bool:
        if name == "repeat_interleave":
            return kwargs.get("output_size") is None
        if name not in ("index", "index_put", "index_put_", "_index_put_impl_"):
            return False
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])


TINY_TOWER = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1},
}


def tiny_tower(folder: Path) -> dict[str, str]:
    """A vision transformer with random weights that open_clip loads: arguments of `OpenCLIP`."""
    import open_clip

    config, weights = folder / "tiny-tower.json", folder / "tiny-tower.pt"
    config.write_text(json.dumps(TINY_TOWER))
    open_clip.add_model_config(config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model("tiny-tower")
    torch.save(model.state_dict(), weights)
    return {"model": "tiny-tower", "pretrained": str(weights), "model_config": str(config)}


SMALL_FIELD = [
    *("--data.samples_per_step", "2048"),
    *("--model.field.init_args.n_levels", "4"),
    *("--model.field.init_args.log2_table_size", "11"),
    *("--model.field.init_args.finest_resolution", "64"),
    *("--model.sampler.init_args.resolution", "32"),
    *("--model.sampler.init_args.n_steps", "64"),
    *("--model.sampler.init_args.update_every", "2"),
    *("--model.sampler.init_args.warmup_steps", "4"),
]
FEW_STEPS = [
    *("--data.rays_per_step", "64"),
    *("--trainer.max_steps", "12"),
    *("--trainer.val_check_interval", "6"),
    *("--trainer.log_every_n_steps", "4"),
    *("--trainer.enable_progress_bar", "false"),
    *("--save_every", "4"),
    *("--trainer.accelerator", "cpu"),  # also where there is a GPU
]
SMALL_RUN = [
    *("--config", "quickstart"),
    *("--data.reader.init_args.resolution", "16"),
    *("--data.reader.init_args.n_test", "3"),
    *SMALL_FIELD,
    *FEW_STEPS,
]


def fit(run: Path, *options: str) -> None:
    """`train.py fit`: twelve steps on the procedural scene at 16x16, a checkpoint every four."""
    from dietnerf.training.cli import main  # tests of kernels are to run without its packages

    main(["fit", *SMALL_RUN, "--run", str(run), *options])


def weights(checkpoint: Path) -> dict[str, Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def ray_loss_input(weights: list[list[float]], target: Tensor | None = None) -> RayLossInput:
    """Rays from near 2 to far 6 with weights in four even intervals."""
    n = len(weights)
    rays = Rays(
        torch.zeros(n, 3),
        torch.eye(3)[:1].expand(n, 3),
        torch.full((n,), 2.0),
        torch.full((n,), 6.0),
    )
    samples = Samples.dense(rays, torch.tensor([2.5, 3.5, 4.5, 5.5]).expand(n, 4))
    w = torch.tensor(weights, requires_grad=True)
    depth = (w * samples.ts.view(n, 4)).sum(dim=1)
    rendering = Rendering(torch.zeros(n, 3), w.sum(dim=1), depth, w.flatten(), samples)
    target = torch.zeros(n, 3) if target is None else target
    return RayLossInput(0, rays, target, torch.ones(n, 3), rendering, None)
