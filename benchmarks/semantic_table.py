"""What the semantic loss does to the quality of the fast field: a table over scenes and seeds.

    python benchmarks/semantic_table.py --encoder towers/encoder.json [--seeds 3] [--out runs/table]

Trains configs/fast.yaml (on the generated scenes, configs/quickstart.yaml) with and without the
loss of configs/dietnerf.yaml, whose encoder `--encoder` gives: a JSON object with the arguments of
`dietnerf.semantics.OpenCLIP`. Options that follow go to the runs with the loss, for tuning. What is
there already is not trained again, so that the script goes on where it was stopped.

Writes `table.md` and `table.json` into `--out`: the mean over seeds of the test views' PSNR and
SSIM, each with its spread (largest less smallest); the mean cosine between renderings from 24
viewpoints that neither training nor test used and the mean photograph, under the same encoder; and
seconds of training.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml
from common import ROOT, has_lego

from dietnerf.losses import SceneContext, SemanticConsistency
from dietnerf.runs.checkpoints import find_checkpoint, load_scene
from dietnerf.semantics import OpenCLIP

LEGO = ["--config", "fast"]
TOY = ["--config", "quickstart", "--data.views.init_args.n", "8"]
CAPTURES = {
    "lego, 4 views": [*LEGO, "--config", "views/four"],
    "lego, 8 views": LEGO,
    "coast, 8 views": TOY,
    "blocks, 8 views": [*TOY, "--data.reader.init_args.scene", "blocks"],
}
UNSEEN_SEED, N_UNSEEN = 2**40, 24


def train(run: Path, command: list[str]) -> None:
    """Fit and test a run, unless that was done."""
    if (run / "metrics.json").is_file():
        return
    subprocess.run(["rm", "-rf", str(run)], check=True)
    train_py = [sys.executable, str(ROOT / "train.py")]
    quiet = ["--run", str(run), "--trainer.enable_progress_bar", "false"]
    for words in ([*train_py, "fit", *command], [*train_py, "test"]):
        subprocess.run([*words, *quiet], cwd=ROOT, check=True, stdout=sys.stderr)


def unseen_cosine(run: Path, encoder: OpenCLIP) -> float:
    """Between renderings from viewpoints of their own and the mean of the training photographs."""
    system = load_scene(find_checkpoint(run))
    assert system.camera_set is not None
    cameras, background = system.camera_set.cameras["train"], system.camera_set.background
    loss = SemanticConsistency(encoder, target="mean", jitter=False, resolution=112)
    loss.viewpoints.prepare(cameras)
    with torch.no_grad():
        # The field's own training views stand for the photographs, which it knows by heart.
        seen = [system.render_rays_of(cameras, i, background).rgb for i in range(len(cameras))]
        shape = (cameras.height, cameras.width, 3)
        images = torch.stack([rgb.view(shape).permute(2, 0, 1) for rgb in seen])
        loss.embeddings = encoder(images)
        generator = torch.Generator().manual_seed(UNSEEN_SEED)
        cosines = []
        for _ in range(N_UNSEEN):
            moment = SceneContext(0, system.field, system.sampler, background, generator)
            cosines.append(1 - float(loss(moment)))
    return mean(cosines)


def row(runs: list[Path], encoder: OpenCLIP) -> dict[str, Any]:
    results = [json.loads((run / "metrics.json").read_text()) for run in runs]
    found: dict[str, Any] = {}
    for name in ("psnr", "ssim_uniform7"):
        values = [result["mean"][name] for result in results]
        found[name], found[f"{name}_spread"] = mean(values), max(values) - min(values)
    found["cosine"] = mean(unseen_cosine(run, encoder) for run in runs)
    found["seconds"] = mean(result["train_seconds"] for result in results)
    return found


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| scene | semantic loss | PSNR (spread) | SSIM | cosine, unseen | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        capture, side = name.split("; ")
        lines.append(
            f"| {capture} | {side} | {found['psnr']:.2f} ({found['psnr_spread']:.2f}) "
            f"| {found['ssim_uniform7']:.3f} | {found['cosine']:.3f} | {found['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, required=True, help="JSON: arguments of OpenCLIP")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/semantic_table")
    parser.add_argument("--captures", nargs="*", default=list(CAPTURES))
    args, options = parser.parse_known_args()
    settings = json.loads(args.encoder.read_text())
    encoder = OpenCLIP(**settings)
    encoder.load(torch.device("cpu"))
    overlay = args.out / "encoder.yaml"
    args.out.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load((ROOT / "configs/dietnerf.yaml").read_text())
    (loss,) = content["model"]["losses+"]
    loss["init_args"]["encoder"]["init_args"] = settings
    overlay.write_text(yaml.safe_dump(content))
    sides = {"off": [], "on": ["--config", str(overlay.resolve()), *options]}
    rows: dict[str, dict[str, Any]] = {}
    for capture in args.captures:
        if capture.startswith("lego") and not has_lego():
            continue
        for side, more in sides.items():
            runs = []
            for seed in range(args.seeds):
                runs.append(
                    args.out / f"{capture.replace(', ', '-').replace(' ', '')}-{side}-{seed}"
                )
                train(runs[-1], [*CAPTURES[capture], *more, "--seed_everything", str(seed)])
            rows[f"{capture}; {side}"] = row(runs, encoder)
            (args.out / "table.json").write_text(json.dumps(rows, indent=2) + "\n")
            (args.out / "table.md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
