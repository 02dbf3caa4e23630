"""Image towers of OpenCLIP, frozen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dietnerf.data.files import read_object
from dietnerf.errors import UserError
from dietnerf.files import check_regular
from dietnerf.semantics.base import AbstractImageEncoder

LOCAL = "local-dir:"  # open_clip's name for a folder with a model
PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
SECONDS_TO_ANSWER = 5.0  # timeout for the hub
WEIGHTS_FILES = (".pt", ".pth", ".bin", ".safetensors", ".npz")
WAYS_OUT = (
    "Give a file with the encoder's option `pretrained`, or go on without the semantic loss: "
    "--use_semantic_loss false"
)


@final
class OpenCLIP(AbstractImageEncoder):
    """The image half of a CLIP model that `open_clip` knows, in eval mode and without gradients of
    its weights.

    Images are resized and cropped as open_clip does it for PIL images, differentiably: the shorter
    side becomes the tower's, bicubic with antialiasing.

    Args:
        model: open_clip's name of the model, as `ViT-B-32-quickgelu` (OpenAI's weights need the
            quick GELU), or `hf-hub:owner/repository`, or `local-dir:folder`.
        pretrained: open_clip's tag of the weights, which are taken from the hub's cache and fetched
            into it where they are missing, or a file (.pt, .safetensors).
        feature: `cls` takes the class token behind the last block, before the last norm and the
            projection, as the DietNeRF authors do; `projected` the embedding that CLIP compares
            with texts, as the JAX port does. A tower that is no ViT has its pooled features only.
        dtype: precision of the tower.
        use_cuda_graphs: on a GPU, capture forward and backward of the tower as CUDA graphs, one for
            each size of a batch, so that the host does not launch their kernels one by one.
        mean, std: of the colors, red, green, blue; without them, what belongs to the weights.
        model_config: a JSON file that describes `model`, where open_clip does not.
    """

    def __init__(
        self,
        model: str = "ViT-B-32-quickgelu",
        pretrained: str | None = "openai",
        feature: Literal["cls", "projected"] = "cls",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        use_cuda_graphs: bool = False,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        model_config: str | None = None,
    ) -> None:
        for name, value in (("mean", mean), ("std", std)):
            if value is not None and len(value) != 3:
                raise UserError(f"OpenCLIP: {name} must be three numbers, got {len(value)}")
        self.model = model
        self.pretrained = pretrained
        self.feature = feature
        self.dtype = dtype
        self.use_cuda_graphs = use_cuda_graphs
        self._graphed: dict[torch.Size, Callable[..., Any]] = {}
        self.mean, self.std = mean, std
        self.model_config = model_config
        self.visual: nn.Module | None = None

    def load(self, device: torch.device) -> None:
        self._check_files()
        if self.model_config is not None:
            _check_model_config(Path(self.model_config))
        import open_clip  # takes seconds: not where this loss is off

        if self.model_config is not None:
            open_clip.add_model_config(self.model_config)
        self._check_names(open_clip)
        given = {"mean": self.mean, "std": self.std}
        try:
            model = open_clip.create_model(
                self.model,
                self.pretrained,
                precision=PRECISIONS[self.dtype],
                device=device,
                force_preprocess_cfg={name: v for name, v in given.items() if v is not None},
                require_pretrained=True,
            )
        except Exception as error:  # whatever open_clip, the hub or the file system raises
            reason = " ".join(str(error).split())
            raise UserError(f"{self._name()} cannot be loaded ({reason}). {WAYS_OUT}") from error
        self.visual = model.visual.eval().requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        prepared = self.prepared(images).to(getattr(torch, self.dtype))
        if self.use_cuda_graphs and prepared.is_cuda and prepared.requires_grad:
            return self._replayed(prepared)
        return self._features(prepared)

    def _replayed(self, prepared: Tensor) -> Tensor:
        size = prepared.shape
        if size not in self._graphed:
            example = torch.zeros_like(prepared).requires_grad_()
            self._graphed[size] = torch.cuda.make_graphed_callables(self._features, (example,))
        found: Tensor = self._graphed[size](prepared)
        return found

    def _features(self, prepared: Tensor) -> Tensor:
        tower = self._tower()
        if self.feature == "cls" and hasattr(tower, "class_embedding"):
            found = tower.forward_intermediates(
                prepared, indices=1, intermediates_only=True, output_extra_tokens=True
            )
            tokens: Tensor = found["image_intermediates_prefix"][-1]
            return tokens[:, 0]
        pooled: Tensor = tower(prepared)
        return pooled

    def prepared(self, images: Tensor) -> Tensor:
        """Inputs of the tower from images in [0, 1], (n, 3, height, width) to (n, 3, side, side).

        The mean difference to open_clip's preprocessing of 8-bit PIL images is below 0.01 in units
        of the result, which has about unit variance; PIL rounds to 8 bit in between.
        """
        settings: dict[str, Any] = self._tower().preprocess_cfg
        side, height, width = _side(settings["size"]), *images.shape[-2:]
        shorter = min(height, width)
        size = (side * height // shorter, side * width // shorter)
        if size != (height, width):
            images = F.interpolate(
                images,
                size,
                mode=settings["interpolation"],
                antialias=True,
                align_corners=False,
            ).clamp(0, 1)
        top, left = (round((length - side) / 2) for length in size)  # as torchvision rounds
        mean, std = (images.new_tensor(settings[n]).view(3, 1, 1) for n in ("mean", "std"))
        return (images[:, :, top : top + side, left : left + side] - mean) / std

    def _tower(self) -> Any:
        if self.visual is None:
            raise ValueError("OpenCLIP: load() must come before images are encoded")
        return self.visual

    def _name(self) -> str:
        return f"The image encoder {self.model}" + (
            "" if self.pretrained is None else f" ({self.pretrained})"
        )

    def _check_files(self) -> None:
        """Refuse missing files, which would otherwise be taken for names of weights."""
        named = [("model_config", self.model_config)]
        if self.pretrained is not None and _is_path(self.pretrained):
            named.append(("pretrained", self.pretrained))
        for option, path in named:
            if path is not None and not Path(path).exists():
                raise UserError(f"{path}, the image encoder's {option}, is not there. {WAYS_OUT}")
        files = [Path(path) for _, path in named if path is not None]
        if self.model.startswith(LOCAL):
            beside = Path(self.model.removeprefix(LOCAL)).glob("*")
            files += (file for file in beside if file.suffix in (".json", *WEIGHTS_FILES))
        for file in files:
            check_regular(file)
        if self.model_config is not None:  # a broken one would stay in open_clip's register
            read_object(Path(self.model_config))

    def _check_names(self, open_clip: Any) -> None:
        """Refuse unknown names, and weights that cannot be fetched from the hub, within seconds."""
        if self.model.startswith(LOCAL):
            return
        if self.model.startswith("hf-hub:"):
            _check_hub(self.model.removeprefix("hf-hub:"), self._name())
            return
        if self.model not in open_clip.list_models():
            raise UserError(
                f"open_clip knows no model {self.model}; `python -c 'import open_clip; "
                "print(open_clip.list_models())'` lists them"
            )
        if self.pretrained is None:
            raise UserError(f"The image encoder {self.model} has no weights. {WAYS_OUT}")
        if _is_path(self.pretrained):
            return
        settings = open_clip.get_pretrained_cfg(self.model, self.pretrained)
        if not settings:
            known = ", ".join(open_clip.list_pretrained_tags_by_model(self.model)) or "none"
            raise UserError(
                f"open_clip knows no weights {self.pretrained} of {self.model} (it knows {known})"
            )
        if settings.get("hf_hub"):
            _check_hub(settings["hf_hub"], self._name())


def _check_model_config(path: Path) -> None:
    """Refuse a description of a model that would fetch other models from the hub.

    Raises:
        UserError: it is invalid, or names a place on the hub.
    """
    content = read_object(path)
    for part in ("vision_cfg", "text_cfg"):
        options = content.get(part) or {}
        if not isinstance(options, dict):
            raise UserError(f"{path}: {part} must hold options, got {options!r:.60}")
        for name, value in options.items():
            is_fetched = name == "hf_model_name" or name.endswith("_pretrained")
            if (is_fetched and value) or (name == "timm_model_name" and ":" in str(value)):
                raise UserError(
                    f"{path}: {part} has {name} {value!r:.60}, which would be fetched from the "
                    "hub; give the weights as a file, with the encoder's option `pretrained`"
                )


def _side(size: int | tuple[int, int] | list[int]) -> int:
    return size if isinstance(size, int) else size[0]


def _is_path(pretrained: str) -> bool:
    return pretrained.endswith(WEIGHTS_FILES) or Path(pretrained).exists()


def _check_hub(place: str, name: str) -> None:
    """Refuse weights that are neither in the hub's cache nor available.

    Args:
        place: owner/repository, or owner/repository/file.
        name: whose weights they are.

    Raises:
        UserError: says which file is missing, and where it was searched.
    """
    import huggingface_hub
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE

    owner, _, rest = place.strip("/").partition("/")
    repository, *file = rest.split("/")
    repo = f"{owner}/{repository}"
    try:
        huggingface_hub.utils.validate_repo_id(repo)
    except huggingface_hub.errors.HFValidationError as error:
        raise UserError(f"{name}: {place!r:.80} is no owner/repository on the hub") from error
    wanted = file or ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    cached = (huggingface_hub.try_to_load_from_cache(repo, one) for one in wanted)
    if any(isinstance(path, str) for path in cached):
        return
    try:
        huggingface_hub.get_session().head(ENDPOINT, timeout=SECONDS_TO_ANSWER)
    except Exception as error:  # of whichever HTTP library the hub uses
        raise UserError(
            f"{name} needs {wanted[0]} of {repo}, which is not in {HF_HUB_CACHE}, and {ENDPOINT} "
            f"cannot be reached. Fetch it where it can (`hf download {repo}`), and copy it there. "
            f"{WAYS_OUT}"
        ) from error
