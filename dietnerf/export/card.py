"""The model card of a scene on the hub."""

from typing import Any

from dietnerf.plain import as_markdown
from dietnerf.runs.results import Results

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
    repository: str, facts: dict[str, Any], results: Results | None, film: str | None
) -> str:
    """The card as Markdown; texts of the run are escaped.

    Args:
        repository: owner/name.
        facts: the facts in a checkpoint: version, history, cameras.
        results: None where the run was not tested.
        film: name of a GIF or MP4 beside the card, without spaces or punctuation, or None.
    """
    name = repository.split("/")[1]
    views = facts["camera_set"]["view_ids"].get("train", [])
    history = facts["history"]
    paragraphs = [
        f"# {name}",
        _shown(film, name) if film else None,
        f"A radiance field of {len(views)} photographs, made by dietnerf "
        f"{as_markdown(facts['version'])}: {int(history['steps']):,} steps in "
        f"{float(history['seconds']):.0f} seconds. It can be seen from any "
        "side:",
        f"```\npython render.py hf://{repository}\ndietnerf export mesh hf://{repository}"
        f" --out {name}.glb\n```",
        f"Training views: {', '.join(map(as_markdown, views))}. The options are in `config.yaml`:",
        f"```\ndietnerf export pull {repository} runs/{name}\n"
        f"python train.py fit --config runs/{name}/config.yaml --run runs/{name}-again\n```",
        _scores(results),
        "The weights are safetensors; nothing here runs code when it is loaded.",
    ]
    return FRONT + "\n" + "\n\n".join(text for text in paragraphs if text) + "\n"


def _shown(film: str, name: str) -> str:
    if film.endswith(".mp4"):
        return f'<video src="{film}" controls loop muted></video>'
    return f"![{name}]({film})"


def _scores(results: Results | None) -> str | None:
    if results is None or not results.mean:
        return None
    rows = [f"| {NAMES.get(name, name)} | {value:.4g} |" for name, value in results.mean.items()]
    return "\n".join([f"{as_markdown(results.protocol)}:", "", "| | |", "|---|---|", *rows])
