"""Image files as they are opened, whoever made them: of a closed list of formats, one still
picture, and not such that a small file takes gigabytes or hours."""

import math
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from PIL import Image
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

from dietnerf.errors import UserError
from dietnerf.files import open_regular

READ_ERRORS = (  # what Pillow raises for broken files
    OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError,
    ArithmeticError, LookupError, RuntimeError, TypeError, AssertionError, AttributeError,
)  # fmt: skip
# None that runs a program, as EPS does, or names other files.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM")
SEVERAL = ("MPO", "TIFF", "HEIF")  # in which cameras store smaller copies after the photograph
HEIC_SUFFIXES = (".heic", ".heif")
MOST_BYTES = 1 << 30  # of an image file
MOST_PACKED = 256 << 20  # bytes of one whose format is read as a whole, such as WebP
MOST_HEADER = 16 << 20  # bytes before the pixels in other formats
MOST_READS = {"header": 20_000, "pixels": 20_000_000}  # each of a chunk, or of junk in between
MOST_SCANS = 1000  # of a JPEG: each takes as long as an image
MOST_PIXELS_PER_BYTE = 10_000  # of images larger than this: a blank PNG of one bit has 8,000
LARGE = 1 << 24  # pixels
PIECE = 1 << 20  # of a file, bytes


@contextmanager
def open_image(path: Path, is_decoded: bool = True) -> Iterator[Image.Image]:
    """An image file at its first picture.

    Args:
        path: the file.
        is_decoded: the block will ask for pixels, not for what the header says alone.

    Raises:
        UserError: the file is no image of a known format, an animation, or broken, which may show
            only in the block.
    """
    check_codec(path)
    with open_regular(path, MOST_BYTES) as file:
        try:
            read = _Sparingly(file)
            # Closed, and not left by `with`: that would keep the pixels.
            with closing(Image.open(cast(BinaryIO, read), formats=_formats())) as image:
                read.most_reads = MOST_READS["pixels"]
                read.most_bytes = math.inf
                _check_still(image, path)
                if is_decoded:
                    _check_cost(image, file)
                yield image
        except READ_ERRORS as error:
            raise _unreadable(path, error) from error


class _Sparingly:
    """A file that ends with an error where more is read of it than of a sane one.

    Decoders walk through headers piece by piece, and some of them copy at each what came before.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.most_reads, self.most_bytes = MOST_READS["header"], float(MOST_HEADER)
        self.n_reads = self.n_bytes = 0

    def read(self, n: int = -1) -> bytes:
        most = MOST_PACKED if n < 0 else self.most_bytes - self.n_bytes
        content = self.file.read(n if 0 <= n <= most else int(most) + 1)
        self.n_reads += 1
        self.n_bytes += len(content) if n >= 0 else 0
        if self.n_reads > self.most_reads or len(content) > most:
            raise OSError("there is no end to its header")
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _formats() -> list[str]:
    return [*FORMATS, *({"HEIF"} & Image.OPEN.keys())]


def _check_still(image: Image.Image, path: Path) -> None:
    if image.format not in SEVERAL and getattr(image, "is_animated", False):
        raise UserError(f"{path} is an animation: export the frame that is meant as an image")


def _check_cost(image: Image.Image, file: BinaryIO) -> None:
    """Refuse what would take memory or time that neither the file nor its picture is worth.

    Raises:
        OSError: it would.
    """
    n_pixels, n_bytes = math.prod(image.size), file.seek(0, 2)
    if n_pixels > max(LARGE, MOST_PIXELS_PER_BYTE * n_bytes):
        raise OSError("it has more pixels than fit into so few bytes")
    if image.format in ("JPEG", "MPO"):
        file.seek(0)
        pieces = iter(lambda: file.read(PIECE), b"")
        if sum(piece.count(b"\xff\xda") for piece in pieces) > MOST_SCANS:
            raise OSError("it has too many scans")
    if isinstance(image, TiffImageFile):
        sides = (image.tag_v2.get(tag, 1) for tag in (TILEWIDTH, TILELENGTH))
        if math.prod(sides) > max(LARGE, n_pixels):
            raise OSError("its tiles are larger than the image")


def check_codec(path: Path) -> None:
    """Let Pillow read HEIC through pillow-heif.

    Raises:
        UserError: that is missing, and `path` ends in .heic.
    """
    if path.suffix.lower() not in HEIC_SUFFIXES:
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise UserError(
            f"{path} is a HEIC photo, which needs the package pillow-heif: install it with "
            "`pip install pillow-heif`, or export the photos as JPEG"
        ) from error
    register_heif_opener()


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        return UserError(f"{path} has more than {most} million pixels: make it smaller")
    return UserError(
        f"{path} cannot be read as an image, it may be truncated or of another type: "
        "copy or export it again"
    )
