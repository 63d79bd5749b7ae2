"""Weights as the tools that quantized them read them, bit for bit: `make_stored.py` wrote both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from graphopt.errors import BadInput
from graphopt.importers import Imported, quantized_reader
from graphopt.ir import SafetensorsIndex, ordered_blocks_of, tiles

STORED = sorted((Path(__file__).parent / "stored").glob("*.safetensors"))
Array = np.ndarray[Any, Any]


class Layer:
    """One of the files: what it says, its tensors, and what they are."""

    def __init__(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        self.method, self.said = metadata["method"], json.loads(metadata["said"])
        self.tensors: dict[str, Any] = load_file(path)
        self.expected: Array = self.tensors.pop("expected").numpy()
        rounded = self.tensors.pop("rounded")
        self.half = ml_dtypes.bfloat16 if "bfloat16" in str(rounded.dtype) else np.float16
        self.rounded: Array = rounded.float().numpy()

    def imported(self, folder: Path) -> Imported:
        save_file({k: t.contiguous() for k, t in self.tensors.items()}, folder / "model.safetensors")
        return Imported(SafetensorsIndex(folder), quantized_reader(folder, self.method, self.said))

    def weight(self, folder: Path) -> Array:
        made: Array = self.imported(folder).expr("layer.weight").read()
        return made


def named(name: str) -> Layer:
    return Layer(Path(__file__).parent / "stored" / f"{name}.safetensors")


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_number_is_that_of_the_formats_own_reader(tmp_path: Path, path: Path) -> None:
    layer = Layer(path)
    imported = layer.imported(tmp_path)
    expr = imported.expr("layer.weight")

    assert list(imported.keys()) == ["layer.weight"]
    np.testing.assert_array_equal(expr.read(), layer.expected)
    np.testing.assert_array_equal(expr.read().astype(layer.half).astype(np.float32), layer.rounded)
    np.testing.assert_array_equal(expr.read((slice(5, 9), slice(19, 77))), layer.expected[5:9, 19:77])
    np.testing.assert_array_equal(np.concatenate([t for _, t in tiles(expr, 4096)]), layer.expected)
    found = ordered_blocks_of(expr)
    assert isinstance(found, tuple)
    assert (found[1] is not None) == (path.stem == "gptq-desc-act")


@pytest.mark.parametrize("name", ["gptq-v1-symmetric", "auto-round-symmetric", "awq-symmetric", "packed"])
def test_zero_points_that_say_nothing_are_left_out(tmp_path: Path, name: str) -> None:
    found = ordered_blocks_of(named(name).imported(tmp_path).expr("layer.weight"))

    assert isinstance(found, tuple)
    assert found[0].zeros is None


def other_version(layer: Layer) -> None:
    layer.said["checkpoint_format"] = "gptq_v2"


def swapped(layer: Layer) -> None:
    key = next(key for key in layer.tensors if key.endswith(("qweight", "weight_packed")))
    data = layer.tensors[key].numpy().view(np.uint8)
    data[:] = data << 4 | data >> 4


def turned(layer: Layer) -> None:
    key = next(key for key in layer.tensors if key.endswith(("scale", "scales")))
    scales = layer.tensors[key]
    layer.tensors[key] = scales.T.contiguous().reshape(scales.shape)


def without_order(layer: Layer) -> None:
    del layer.tensors["layer.g_idx"]


def symmetric(layer: Layer) -> None:
    layer.said["config_groups"]["group_0"]["weights"]["symmetric"] = True


def as_raw(layer: Layer) -> None:
    layer.said["packing_format"] = "auto_round:exllamav2"


@pytest.mark.parametrize(
    ("name", "mutation"),
    [
        ("gptq-v1", other_version),
        ("gptq-v1", swapped),
        ("gptq-v1", turned),
        ("gptq-desc-act", without_order),
        ("awq", swapped),
        ("awq", turned),
        ("auto-round-gptq", as_raw),
        ("packed-asymmetric", symmetric),
        ("packed-asymmetric", swapped),
        ("packed", turned),
    ],
)
def test_it_would_be_seen(tmp_path: Path, name: str, mutation: Any) -> None:
    """Zero points off by one, swapped nibbles, turned scales and a missing order give other numbers."""
    layer = named(name)
    mutation(layer)

    assert not np.array_equal(layer.weight(tmp_path), layer.expected)


def bits(layer: Layer) -> None:
    layer.said["bits"] = 8


def groups(layer: Layer) -> None:
    layer.said["group_size"] = 64


def no_zeros(layer: Layer) -> None:
    del layer.tensors["layer.qzeros"]


def damaged_index(layer: Layer) -> None:
    layer.tensors["layer.g_idx"][3] = 7


def uneven_index(layer: Layer) -> None:
    layer.tensors["layer.g_idx"][:] = 0


def no_bits(layer: Layer) -> None:
    del layer.said["bits"]


def three_bits(layer: Layer) -> None:
    layer.said["config_groups"]["group_0"]["weights"]["num_bits"] = 3


def marlin(layer: Layer) -> None:
    layer.said["checkpoint_format"] = "marlin"


def gemv(layer: Layer) -> None:
    layer.said["version"] = "gemv"


def wide_zero(layer: Layer) -> None:
    layer.tensors["layer.qzeros"][0, 0] |= 15


def short_groups(layer: Layer) -> None:
    layer.said["config_groups"]["group_0"]["weights"]["group_size"] = 24


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (
            "gptq-v1",
            bits,
            r"not what its configuration says: its scales is \[4, 32\], .* 8 bits",
        ),
        ("gptq-v1", groups, r"its scales is \[4, 32\], and with 4 bits, groups of 64 it would be \[2, 32\]"),
        ("awq", groups, r"its scales is"),
        ("gptq-v1", no_zeros, r"it has g_idx, qweight, scales and no qzeros"),
        ("awq", no_zeros, r"it has qweight, scales and no qzeros"),
        ("gptq-desc-act", damaged_index, r"its g_idx names groups 0 to 7, and there are 4"),
        ("gptq-desc-act", uneven_index, r"cannot be kept(.|\n)*groups are of 0 to 128 inputs"),
        ("gptq-v1", no_bits, r"says of its quantization \(gptq\) is damaged: bits: Field required"),
        ("gptq-v1", marlin, r"in the format 'marlin'"),
        ("gptq-v1", wide_zero, r"cannot be kept(.|\n)*a zero point that is stored as 15(.|\n)*unquantized"),
        ("awq", gemv, r"in the format 'gemv', of which only 'gemm' is read"),
        ("packed", three_bits, r"cannot be kept(.|\n)*3 bits(.|\n)*changed the packing in 0.18"),
        ("packed", short_groups, r"its weight_scale is \[32, 4\]"),
    ],
)
def test_what_does_not_fit_is_refused_in_plain_words(
    tmp_path: Path, name: str, damage: Any, message: str
) -> None:
    layer = named(name)
    damage(layer)

    with pytest.raises(BadInput, match=message):
        layer.imported(tmp_path)
