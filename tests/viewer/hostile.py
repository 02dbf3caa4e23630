"""What a broken or hostile browser sends: messages that no page of the viewer sends."""

import math
from typing import Any

import msgspec
import viser
from websockets.sync.client import ClientConnection, connect

SUBPROTOCOL = f"viser-v{viser.__version__}"


def visit(port: int, **options: Any) -> ClientConnection:
    """A connection to a viewer, as the viewer's page opens it."""
    return connect(f"ws://127.0.0.1:{port}", subprotocols=[SUBPROTOCOL], **options)


def message(kind: Any, /, **values: Any) -> bytes:
    return msgspec.msgpack.encode({"type": kind, **values})


def camera(**values: Any) -> bytes:
    """A message of a browser that looks at the scene, but for these values."""
    good = {
        "wxyz": (0.0, 1.0, 0.0, 0.0),
        "position": (0.0, 0.0, 4.0),
        "fov": 0.8,
        "near": 0.01,
        "far": 100.0,
        "image_height": 16,
        "image_width": 16,
        "look_at": (0.0, 0.0, 0.0),
        "up_direction": (0.0, 1.0, 0.0),
    }
    return message("ViewerCameraMessage", **good | values)


def update(control: str, /, **updates: Any) -> bytes:
    """A control that was used."""
    return message("GuiUpdateMessage", uuid=control, updates=updates)


def without(name: str) -> bytes:
    content = msgspec.msgpack.decode(camera())
    del content[name]
    return msgspec.msgpack.encode(content)


def twice(name: str, value: Any) -> bytes:
    """A camera with one of its fields a second time."""
    content = camera()  # a map of ten, then of eleven
    return (
        bytes([content[0] + 1]) + content[1:] + b"".join(map(msgspec.msgpack.encode, (name, value)))
    )


def click(**values: Any) -> bytes:
    good = {
        "name": "/cameras/0",
        "instance_index": None,
        "ray_origin": (0.0, 0.0, 0.0),
        "ray_direction": (0.0, 0.0, 1.0),
        "screen_pos": (0.5, 0.5),
        "modifier": None,
        "owner": "",
    }
    return message("SceneNodeClickMessage", **good | values)


BROKEN: dict[str, bytes | str] = {
    "zero quaternion": camera(wxyz=(0.0,) * 4),
    "huge quaternion": camera(wxyz=(1e300,) * 4),
    "NaN quaternion": camera(wxyz=(math.nan,) * 4),
    "short quaternion": camera(wxyz=(1.0,)),
    "a map for a quaternion": camera(wxyz={"w": 1.0}),
    "NaN position": camera(position=(math.nan, 0.0, 0.0)),
    "position beyond float32": camera(position=(1e300, 0.0, 0.0)),
    "integer beyond float32": camera(position=(2**63, 0, 0)),
    "bytes for a position": camera(position=b"\0" * 24),
    "NaN to look at": camera(look_at=(math.nan,) * 3),
    "infinite far": camera(far=math.inf),
    "no field of view": camera(fov=0.0),
    "tiny field of view": camera(fov=5e-324),
    "negative field of view": camera(fov=-0.8),
    "half a turn of view": camera(fov=math.pi),
    "NaN field of view": camera(fov=math.nan),
    "text for a field of view": camera(fov="wide"),
    "nothing for a field of view": camera(fov=None),
    "a huge window": camera(image_height=10**9, image_width=10**9),
    "a window beyond int64": camera(image_height=2**64 - 1),
    "a wide window": camera(image_height=1, image_width=10**7),
    "a negative window": camera(image_height=-5, image_width=-5),
    "half a pixel": camera(image_height=16.5),
    "a truth for a size": camera(image_width=True),
    "no field of view at all": without("fov"),
    "no type": without("type"),
    "two fields of view": twice("fov", math.nan),
    "a list": msgspec.msgpack.encode([1]),
    "a number": b"\x07",
    "nothing": b"",
    "text": "hello",
    "text that is JSON": '{"type": "ViewerCameraMessage"}',
    "bytes": b"\xff" * 100,
    "a string that is not UTF-8": b"\x81\xa4type\xa2\xff\xff",
    "lists in lists": b"\x91" * 10_000,
    "half a message": camera()[:40],
    "a list of four billion": b"\xdd\xff\xff\xff\xff",
    "an extension": b"\xc7\xff\x05" + b"\0" * 255,
    "a type that is a list": message(["ViewerCameraMessage"]),
    "an unknown type": message("Nope"),
    "a script": message("RunJavascriptMessage", source="alert(1)"),
    "a camera with more than a camera has": camera(color=(1.0, 0.0, 0.0)),
    "a click with more than a click has": click(color=1),
    "a click on nothing": click(name=None),
    "a click with NaN": click(ray_origin=(math.nan,) * 3),
    "a control without a name": update(None, value=True),
    "a form": message("GuiFormDirtyMessage", uuid="a"),
    "a tunnel to the internet": message("ShareUrlRequest"),
    "a rendering": message("GetRenderResponseMessage", payload=b"", render_uuid="a"),
    "a download": message(
        "FileTransferStartDownload",
        save_immediately=True,
        transfer_uuid="a",
        filename="../../a",
        mime_type="a/a",
        part_count=1,
        size_bytes=1,
    ),
    "a drag": message("TransformControlsDragStartMessage", name="/cameras/0", owner=""),
}
ODD: dict[str, bytes] = {  # but such as a page may send
    "a folded window": camera(image_height=0, image_width=0),
    "a high window": camera(image_height=16384, image_width=1),
    "a large window": camera(image_height=16384, image_width=16384),
    "far away": camera(position=(1e9, -1e9, 1e9)),
    "looking at oneself": camera(look_at=(0.0, 0.0, 4.0)),
    "no up": camera(up_direction=(0.0, 0.0, 0.0)),
    "a narrow view": camera(fov=2e-3),
    "a wide view": camera(fov=3.1),
    "far before near": camera(near=10.0, far=-1.0),
    "a camera that is not there": click(name="/cameras/999"),
    "a click of another owner": click(owner="5"),
    "a control that is not there": update("nobody", value=True),
}


def upload(uuid: str) -> bytes:
    """The beginning of an empty file, for a control that takes none."""
    return message(
        "FileTransferStartUpload",
        source_component_uuid=uuid,
        transfer_uuid="a",
        filename="a",
        mime_type="a/a",
        part_count=0,
        size_bytes=0,
    )
