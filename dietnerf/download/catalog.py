"""Public data sets that `dietnerf download` knows: where they are, how large, under what terms.

A SHA-256 stands here only where two projects publish the same one, independently of each other
(nerfbaselines and nerfmirror). dietnerf itself redistributes no archive.
"""

import difflib
from dataclasses import dataclass

from dietnerf.errors import UserError

MIRROR = "https://github.com/yxlao/nerfmirror/releases/download/20220618"
MATCHNERF = "https://huggingface.co/donydchen/matchnerf/resolve/main"
BASELINES = "https://huggingface.co/datasets/nerfbaselines/nerfbaselines-data/resolve/main"
GOOGLE = "https://storage.googleapis.com/gresearch/refraw360"
SHORT = 12  # length of terms that are printed in the same line
NOT_STATED = "none is stated by its authors"


@dataclass(frozen=True)
class DataSet:
    """An archive, and the folder that is made of it.

    Args:
        summary: what it shows.
        addresses: of the archive; the others are tried where one does not have it.
        scenes: folders in it that a reader takes, the one for the next command first.
        terms: its license, in a few words, or that none is stated.
        page: of its authors.
        gigabytes: size of the archive, about, if it is known.
        inside: folder of the archive that is unpacked, or all of it.
        sha256: of the archive, if it is published.
    """

    summary: str
    addresses: tuple[str, ...]
    scenes: tuple[str, ...]
    terms: str
    page: str
    gigabytes: float | None = None
    inside: str = ""
    sha256: str | None = None

    @property
    def archive(self) -> str:
        """Name of the archive's file."""
        return self.addresses[0].rpartition("/")[2]


TERMS_OF_SYNTHETIC = {
    **dict.fromkeys(("chair", "ficus", "hotdog", "materials", "mic"), "CC0"),
    "drums": "CC BY",
    "lego": "CC BY-NC",
    "ship": "CC BY-SA",
}
GIGABYTES_OF_SYNTHETIC = {
    "chair": 0.13, "drums": 0.15, "ficus": 0.13, "hotdog": 0.16,
    "lego": 0.18, "materials": 0.14, "mic": 0.10, "ship": 0.29,
}  # fmt: skip
NERF = "https://www.matthewtancik.com/nerf"

DATA_SETS = {
    "nerf_example_data": DataSet(
        "lego and fern, as the code of NeRF takes them",
        ("https://cseweb.ucsd.edu/~viscomp/projects/LF/papers/ECCV20/nerf/nerf_example_data.zip",),
        ("nerf_synthetic/lego", "nerf_llff_data/fern"),
        f"lego CC BY-NC; fern: {NOT_STATED}",
        NERF,
        inside="nerf_example_data",
    ),
    "nerf_synthetic": DataSet(
        "eight objects rendered by Blender, 800x800 with alpha",
        (f"{MIRROR}/nerf_synthetic.zip", f"{MATCHNERF}/nerf_synthetic.zip"),
        ("lego", *(name for name in TERMS_OF_SYNTHETIC if name != "lego")),
        "by model: CC BY (drums), CC BY-SA (ship), CC BY-NC (lego), CC0 (the others)",
        NERF,
        1.27,
        "nerf_synthetic",
        "f01fd1b4ab045b0d453917346f26f898657bb5bec4834b95fdad1f361826e45e",
    ),
    **{
        f"nerf_synthetic/{name}": DataSet(
            f"{name} alone, without validation views",
            (f"{BASELINES}/blender/{name}.zip",),
            (".",),
            terms,
            NERF,
            GIGABYTES_OF_SYNTHETIC[name],
            name,
        )
        for name, terms in TERMS_OF_SYNTHETIC.items()
    },
    "nerf_llff_data": DataSet(
        "eight scenes, 20 to 62 photos each from one side",
        (f"{MIRROR}/nerf_llff_data.zip", f"{MATCHNERF}/nerf_llff_data.zip"),
        ("fern", "flower", "fortress", "horns", "leaves", "orchids", "room", "trex"),
        NOT_STATED,
        "https://bmild.github.io/llff/",
        inside="nerf_llff_data",
        sha256="5794b432feaf4f25bcd603addc6ad0270cec588fed6a364b7952001f07466635",
    ),
    "360_v2": DataSet(
        "mip-NeRF 360: seven scenes from all around",
        (f"{GOOGLE}/360_v2.zip",),
        ("garden", "bicycle", "bonsai", "counter", "kitchen", "room", "stump"),
        NOT_STATED,
        "https://jonbarron.info/mipnerf360/",
        12.5,
    ),
    "360_extra_scenes": DataSet(
        "mip-NeRF 360: the two scenes that came later",
        (f"{GOOGLE}/360_extra_scenes.zip",),
        ("flowers", "treehill"),
        NOT_STATED,
        "https://jonbarron.info/mipnerf360/",
    ),
    "tandt_db": DataSet(
        "Tanks and Temples and Deep Blending, as 3D Gaussian splatting takes them",
        (
            "https://repo-sam.inria.fr/fungraph/3d-gaussian-splatting/datasets/input/tandt_db.zip",
            "https://huggingface.co/camenduru/gaussian-splatting/resolve/main/tandt_db.zip",
        ),
        ("tandt/truck", "tandt/train", "db/drjohnson", "db/playroom"),
        "for research alone: tanksandtemples.org/license, github.com/Phog/DeepBlending",
        "https://repo-sam.inria.fr/fungraph/3d-gaussian-splatting/",
        0.65,
    ),
    "dtu": DataSet(
        "15 scans of DTU, as 2D Gaussian splatting takes them",
        ("https://huggingface.co/datasets/dylanebert/2DGS/resolve/main/dtu.tar.gz",),
        (),
        NOT_STATED,
        "https://roboimagedata.compute.dtu.dk/?page_id=36",
        3.3,
    ),
    "shiny_blender": DataSet(
        "Ref-NeRF: six shiny objects rendered by Blender",
        (f"{GOOGLE}/ref.zip",),
        (),
        NOT_STATED,
        "https://dorverbin.github.io/refnerf/",
    ),
}


def find_data_set(name: str) -> DataSet:
    """The data set of this name.

    Raises:
        UserError: there is none; names the closest one.
    """
    if name in DATA_SETS:
        return DATA_SETS[name]
    ends = {known.rpartition("/")[2]: known for known in DATA_SETS}
    close = difflib.get_close_matches(name, [*DATA_SETS, *ends], n=1)
    meant = (
        f"did you mean {ends.get(close[0], close[0])}?"
        if close
        else "without a name all are listed"
    )
    raise UserError(f"there is no data set {name!r:.60}: {meant}")


def listing() -> str:
    """All data sets: name, size, what they show, their terms."""
    width = max(map(len, DATA_SETS))
    lines = []
    for name, data in DATA_SETS.items():
        size = "" if data.gigabytes is None else f"{data.gigabytes:g} GB"
        begin = f"  {name:{width}}  {size:>7}  "
        is_short = len(data.terms) < SHORT
        lines.append(f"{begin}{data.summary}{f' ({data.terms})' if is_short else ''}")
        if not is_short:
            lines.append(f"{'':6}license: {data.terms}")
    return "\n".join(lines)
