"""The page that a scene has on the model hub."""

from typing import Any

FRONT = """---
library_name: dietnerf
pipeline_tag: image-to-3d
tags:
- nerf
- dietnerf
- radiance-field
- few-shot
---
"""
NAMES = {
    "psnr": "PSNR (dB)",
    "ssim_uniform7": "SSIM (uniform window of 7)",
    "ssim_gauss11": "SSIM (Gaussian window of 11)",
    "lpips_vgg_paper": "LPIPS (VGG, as the paper)",
    "lpips_vgg": "LPIPS (VGG)",
}


def model_card(
    repository: str, facts: dict[str, Any], metrics: dict[str, Any], film: str | None
) -> str:
    """The card as Markdown.

    Args:
        repository: owner/name.
        facts: what a checkpoint says of itself: version, history, capture.
        metrics: of `metrics.json`; empty where the run was not tested.
        film: name of a GIF beside the card, or None.
    """
    name = repository.split("/")[1]
    views = facts["capture"]["view_ids"].get("train", [])
    history = facts["history"]
    paragraphs = [
        f"# {name}",
        f"![{name}]({film})" if film else None,
        f"A radiance field of {len(views)} photographs, made by dietnerf {facts['version']}: "
        f"{history['steps']:,} steps in {history['seconds']:.0f} seconds. It can be seen from any "
        "side:",
        f"```\npython render.py hf://{repository}\npython -m dietnerf.export mesh hf://{repository}"
        f" --out {name}.glb\n```",
        f"Training views: {', '.join(map(str, views))}. The options are in `config.yaml`:",
        f"```\npython -m dietnerf.export pull {repository} runs/{name}\n"
        f"python train.py fit --config runs/{name}/config.yaml --run runs/{name}-again\n```",
        _scores(metrics),
        "The weights are safetensors; nothing here runs code when it is loaded.",
    ]
    return FRONT + "\n" + "\n\n".join(text for text in paragraphs if text) + "\n"


def _scores(metrics: dict[str, Any]) -> str | None:
    mean = {k: v for k, v in metrics.get("mean", {}).items() if v is not None}
    if not mean:
        return None
    rows = [f"| {NAMES.get(name, name)} | {value:.4g} |" for name, value in mean.items()]
    return "\n".join([f"{metrics.get('protocol', 'Test views')}:", "", "| | |", "|---|---|", *rows])
