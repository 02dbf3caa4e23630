"""The commands of `dietnerf`, and what their help says: one screen each."""

from dataclasses import dataclass, field

TRAINING = "dietnerf.training.cli"
EXPORTS = ("mesh", "points", "splats", "depth", "cameras", "push", "pull", "command", "paths")


@dataclass(frozen=True)
class Command:
    """One of the commands.

    Args:
        summary: what it does.
        module: whose `main` takes the words after its name.
        examples: without `dietnerf`.
        needs: what is said where no word follows, or empty where none is needed.
        options: those that people use, and what they are for.
        files: of the package, which add its options, if another is.
    """

    summary: str
    module: str
    examples: tuple[str, ...]
    needs: str = ""
    options: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    @property
    def is_training(self) -> bool:
        """Whether the parser of trainings reads its options."""
        return self.module == TRAINING

    def help_text(self, name: str) -> str:
        """What `dietnerf NAME --help` prints."""
        width = max(map(len, self.options), default=0)
        lines = [f"dietnerf {name}: {self.summary}", "", "Examples:"]
        lines += [f"  {example}" for example in self.examples]
        if self.options:
            lines += ["", "Common options:"]
            lines += [f"  {option:{width}}  {what}" for option, what in self.options.items()]
        example = f"{name} mesh --help" if name == "export" else f"{name} --help all"
        return "\n".join([*lines, "", f"All options: dietnerf {example}"])


RUN = {"--run FOLDER": "folder of the run (runs/latest)"}
OF_PREPARE = {
    "--frames N": "taken of a video (40)",
    "--quality KIND": "fast, normal or careful: time spent on the poses (normal)",
    "--panorama WHICH": "360-degree pictures, cut into views: auto (by their tag), yes, no",
}
OF_FIT = {
    "--scene FOLDER": "photos with poses: transforms.json, COLMAP, poses_bounds.npy, Blender",
    "--run FOLDER": "everything goes in there (runs/NAME of the scene)",
    "--config NAME": "a preset or a YAML file, several overlay each other (chosen from the scene)",
    "--ckpt_path last": "go on with the run",
    "--steps N": "length of the training (as the preset says)",
    "--minutes N": "length of the training, in time instead",
    "--views N": "train on N of the photos alone",
    "--downscale N": "smaller photos (auto: at most 1,600 pixels along a side)",
    "--seed N": "random seed (0)",
    "--viewer": "watch the scene in a browser while it trains",
    "--devices N": "GPUs, or processes on the CPU",
    "--use_semantic_loss false": "take the CLIP loss out of any preset",
}
OF_RENDER = {
    "--out FILE": ".mp4, .gif, or a folder for PNGs",
    "--path KIND": "orbit, swing, walk, spiral, test, ... (as the photos were taken)",
    "--frames N": "of the film (60)",
    "--size W H": "pixels of a frame",
    "--modes ...": "rgb, depth, opacity, beside each other",
    "--beside RUN": "another run, from the same cameras",
    "--fps N": "frames a second (20)",
}

COMMANDS = {
    "make": Command(
        "a folder of photos in, a trained scene and a film out",
        "dietnerf.make",
        (
            "dietnerf make photos/ --out scene/",
            "dietnerf make photos/ --out scene/ --minutes 1 --no_film",
            "dietnerf make film.mp4 --out scene/ --frames 40",
        ),
        "name a folder of photos, or a video",
        {
            "--out FOLDER": "scene, run and film go in there; poses and training go on from it",
            **OF_PREPARE,
            **{name: OF_FIT[name] for name in ("--steps N", "--minutes N")},
            **{name: OF_FIT[name] for name in ("--downscale N", "--viewer")},
            "--film_frames N": "of the film (60); --frames is of a video that is taken in",
            "--no_film": "leave the film out",
        },
        files=("make.py",),
    ),
    "prepare": Command(
        "find where photos, or frames of a video, were taken from",
        "dietnerf.prepare.command",
        ("dietnerf prepare photos/ scene/", "dietnerf prepare film.mp4 scene/ --frames 40"),
        "name a folder of photos, or a video, and a folder for the scene",
        OF_PREPARE,
        files=("prepare/command.py",),
    ),
    "report": Command(
        "what the photos of a scene cover, and which preset suits, before anything is trained",
        TRAINING,
        ("dietnerf report --scene scene/",),
        "name a scene, a preset or a run",
        {**RUN, "--scene FOLDER": OF_FIT["--scene FOLDER"], "--config NAME": "a preset"},
    ),
    "fit": Command(
        "train a scene",
        TRAINING,
        (
            "dietnerf fit --scene scene/",
            "dietnerf fit --scene nerf_llff_data/fern --downscale 8 --views 3",
            "dietnerf fit --config quickstart --run runs/demo",
            "dietnerf fit --run runs/demo --ckpt_path last",
        ),
        "name a scene or a preset",
        OF_FIT,
    ),
    "test": Command(
        "score a run on the photos that were held out: PSNR, SSIM, LPIPS",
        TRAINING,
        ("dietnerf test --run runs/demo",),
        options={
            **RUN,
            "--ckpt_path NAME": "last, best, or a file (last)",
            "--lpips_weights FILE": "torchvision's VGG-16, where torch's cache lacks it",
        },
    ),
    "validate": Command(
        "PSNR of a run on its validation photos",
        TRAINING,
        ("dietnerf validate --run runs/demo",),
        options=RUN,
    ),
    "predict": Command(
        "the test views of a run as pictures",
        TRAINING,
        ("dietnerf predict --run runs/demo",),
        options=RUN,
    ),
    "render": Command(
        "a film of a run along a camera path",
        "dietnerf.export.render",
        ("dietnerf render runs/demo", "dietnerf render runs/demo --out film.mp4 --frames 120"),
        "name a run",
        OF_RENDER,
        files=("export/render.py", "export/paths.py"),
    ),
    "view": Command(
        "fly through a run in a browser",
        "dietnerf.viewer.__main__",
        ("dietnerf view runs/demo",),
        "name a run",
        {
            "--port N": "of this machine (8080)",
            "--host ADDRESS": "0.0.0.0 serves the whole network (127.0.0.1)",
        },
        files=("viewer/__main__.py",),
    ),
    "export": Command(
        "a run as mesh, points, splats, depth maps, cameras, and to and from the Hugging Face hub",
        "dietnerf.export.command",
        (
            "dietnerf export mesh runs/demo --out mesh.glb",
            "dietnerf export points runs/demo",
            "dietnerf export push runs/demo owner/name",
        ),
        "say what is to be exported: mesh, points, depth, cameras, push or pull",
        files=tuple(f"export/{name}.py" for name in EXPORTS),
    ),
    "app": Command(
        "a page in a browser that shows all runs of a folder",
        "dietnerf.demo.command",
        ("dietnerf app", "dietnerf app runs/ --port 8501"),
        options={"--port N": "of this machine (8501)"},
        files=("demo/command.py",),
    ),
    "download": Command(
        "public data sets by name: NeRF synthetic, LLFF, mip-NeRF 360, ...",
        "dietnerf.download.command",
        (
            "dietnerf download",
            "dietnerf download nerf_synthetic/lego",
            "dietnerf download nerf_llff_data --out data",
        ),
        options={
            "--out FOLDER": "the data set's folder is made in there ($DIETNERF_DATA, or data)",
            "--sha256 DIGITS": "that the archive must have, instead of the published one",
            "--keep_archive": "after it was unpacked",
        },
        files=("download/command.py",),
    ),
    "benchmark": Command(
        "scenes x methods x seeds into one table",
        "dietnerf.benchmark",
        ("dietnerf benchmark benchmarks/plans/fern.yaml --out runs/fern",),
        "name a plan",
        {
            "--out FOLDER": "of all runs and of the table (runs/benchmark)",
            "--processes N": "at a time, where there is no GPU (1)",
            "--seeds N": "instead of the plan's number",
        },
        files=("benchmark.py",),
    ),
    "doctor": Command(
        "what is installed and built, what is missing, and how to get it",
        "dietnerf.doctor",
        ("dietnerf doctor",),
    ),
}


def overview() -> str:
    """What `dietnerf --help` prints."""
    return "\n".join(
        [
            "dietnerf: a few photos in, a scene to fly through out",
            "",
            *(f"  {name:10} {command.summary}" for name, command in COMMANDS.items()),
            "",
            "Photos of your own:  dietnerf make photos/ --out scene/",
            "A made-up scene:     dietnerf fit --config quickstart --run runs/demo",
            "                     dietnerf render runs/demo",
            "Help for a command:  dietnerf fit --help",
        ]
    )
