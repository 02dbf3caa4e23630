"""Devices that are none, or not here, wherever one is named."""

from pathlib import Path

import pytest
import torch

import dietnerf
from dietnerf.devices import usable_device
from dietnerf.errors import UserError
from dietnerf.viewer.__main__ import parse as parse_view


@pytest.mark.parametrize("name", ["foo", "", "cpu:x", "cuda:99", "meta", "mkldnn", "xpu", None, -1])
def test_what_is_no_device_here_is_one_sentence(name: object):
    with pytest.raises(UserError, match=r"--device .*cannot be used here.*use cpu") as refused:
        usable_device(name, "--device")
    assert "\n" not in str(refused.value) and "INTERNAL ASSERT" not in str(refused.value)
    assert len(str(refused.value)) < 250


def test_what_is_one():
    for name in ("cpu", torch.device("cpu")):
        assert usable_device(name, "--device") == torch.device("cpu")


def test_load_names_its_argument(finished_run: Path):
    with pytest.raises(UserError, match="load: device foo cannot be used here"):
        dietnerf.load(finished_run, device="foo")
    assert dietnerf.load(finished_run, device="cpu").device.type == "cpu"


def test_the_viewer_names_its_option():
    with pytest.raises(UserError, match="--device foo cannot be used here"):
        parse_view(["runs/x", "--device", "foo"])
