"""torchvision's Faster R-CNN on a narrow backbone, as TorchScript's exporter writes it at opset 17.

Not run by the tests, for torchvision wants an environment of its own. It was made beside torch 2.13.0:

    pip install --no-deps --target TV torchvision==0.28.0
    PYTHONPATH=TV python tests/build/nets/make_faster_rcnn.py

PyPI's torchvision is made for CUDA, and cannot load its operators beside torch for processors. A trace needs
their names and shapes alone: the exporter writes NonMaxSuppression and RoiAlign for them.
"""

from __future__ import annotations

import lzma
import re
import sys
import warnings
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

OUT = Path(__file__).parent / "faster-rcnn.onnx.xz"
OPERATORS = torch.library.Library("torchvision", "DEF")
SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
}


def _has_ops() -> bool:
    return True


def register() -> None:
    """The operators that torchvision looks for as it is imported."""
    root = Path(find_spec("torchvision").submodule_search_locations[0])
    text = (root / "_meta_registrations.py").read_text(encoding="utf-8")
    for names in re.findall(r'register_meta\("(\w+)"\)|register_fake\("torchvision::(\w+)"\)', text):
        SCHEMAS.setdefault(next(filter(None, names)), "(Tensor x) -> Tensor")
    for name, schema in SCHEMAS.items():
        OPERATORS.define(name + schema)
    OPERATORS.impl("nms", lambda dets, scores, iou: scores.argsort(descending=True)[:20], "CPU")
    OPERATORS.impl(
        "roi_align", lambda x, rois, _, h, w, *rest: x.new_zeros(len(rois), x.size(1), h, w), "CPU"
    )
    import torchvision.extension

    torchvision.extension._has_ops = _has_ops
    sys.modules["torchvision.ops.roi_align"]._has_ops = _has_ops


def network() -> nn.Module:
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

    def level(inputs: int, outputs: int, stride: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())

    body = nn.Sequential(OrderedDict(first=level(3, 8, 4), second=level(8, 16, 2)))
    return FasterRCNN(
        BackboneWithFPN(body, {"first": "0", "second": "1"}, [8, 16], 8),
        min_size=96,
        max_size=160,
        rpn_anchor_generator=_anchors(),
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=30,
        box_detections_per_img=10,
        box_head=TwoMLPHead(8 * 49, 16),
        box_predictor=FastRCNNPredictor(16, 5),
    )


def _anchors() -> nn.Module:
    from torchvision.models.detection.rpn import AnchorGenerator

    return AnchorGenerator(((16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 3)


def main() -> None:
    register()
    torch.manual_seed(20261130)
    net: nn.Module = network().eval()
    image: Tensor = torch.rand(3, 96, 120)
    path = OUT.with_suffix("")
    found = {name: {0: "found"} for name in ("boxes", "labels", "scores")}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            ([image],),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=[*found],
            dynamic_axes={"image": {1: "height", 2: "width"}, **found},
        )
    model = onnx.load(path)
    path.unlink()
    for node in model.graph.node:
        node.ClearField("doc_string")
    OUT.write_bytes(lzma.compress(model.SerializeToString(deterministic=True), preset=9))
    print(len(model.graph.node), "nodes,", OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
