"""The messages that a browser may send: those that the viewer's page has a use for, with values
that a camera can have.

viser takes many more, and takes them as they come: any attribute of a control, files, a request to
publish the server through a tunnel.
"""

import math
from typing import Annotated, Literal

import msgspec

LONGEST_SIDE = 16384  # pixels of a window
Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]  # neither NaN nor infinite in float32
Angle = Annotated[float, msgspec.Meta(gt=1e-3, lt=math.pi - 1e-3)]
Pixels = Annotated[int, msgspec.Meta(ge=0, le=LONGEST_SIDE)]  # 0: a window that is folded up
Name = Annotated[str, msgspec.Meta(max_length=200)]
Vector = tuple[Number, Number, Number]


class ViewerCameraMessage(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    """Where somebody looks from."""

    wxyz: tuple[Number, Number, Number, Number]
    position: Vector
    fov: Angle
    near: Number
    far: Number
    image_height: Pixels
    image_width: Pixels
    look_at: Vector
    up_direction: Vector

    def __post_init__(self) -> None:
        if not 0.9 < math.hypot(*self.wxyz) < 1.1:
            raise ValueError("wxyz must be a unit quaternion")


class GuiUpdateMessage(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    """A control that was used: a button, a checkbox, or a choice from a list."""

    uuid: Name
    updates: dict[Literal["value"], bool | Name]


class SceneNodeClickMessage(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    """A drawn camera that was clicked."""

    name: Name
    instance_index: int | None
    ray_origin: Vector
    ray_direction: Vector
    screen_pos: tuple[Number, Number]
    modifier: Name | None
    owner: Name = ""


_DECODER = msgspec.msgpack.Decoder(ViewerCameraMessage | GuiUpdateMessage | SceneNodeClickMessage)


def is_understood(content: bytes) -> bool:
    """Whether a message, in msgpack, is one of those above."""
    try:
        _DECODER.decode(content)
    except (
        Exception
    ):  # whatever msgspec makes of foreign bytes: text that is not UTF-8 is no DecodeError
        return False
    return True
