"""Train one of the small nets that int8 of vision is judged on, with images that a seed draws.

    python benchmarks/train_vision.py glyphs --minutes 10 --threads 1
    python benchmarks/train_vision.py scenes --minutes 10 --threads 1

It writes benchmarks/vision_nets/NAME: weights in float32 and training.json. Minutes are the processor's,
drawing not among them.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from _boxes import Boxes, detected, mean_precision
from _images import images, planar, scene
from _vision_nets import STRIDES, Yolo
from _vision_sources import NETS, shape
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
TRAINED, HELDOUT = 1, 2
"""Seeds of what is learned and of what is judged on; a third one, of vision.py, calibrates."""
_RATE = 4e-3
"""Of AdamW at its highest: a tenth of the way up to it, then down along a cosine."""
_BATCH = 64
_WARM = 0.1


def drawn(name: str, count: int, draw: Callable[[int], tuple[Any, ...]]) -> list[Any]:
    """What `draw` gives, kept in build/vision/drawn."""
    path = HERE.parent / "build" / "vision" / "drawn" / f"{name}-{count}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, *draw(count))
    with np.load(path) as arrays:
        return [arrays[key] for key in arrays.files]


def scenes_drawn(seed: int, count: int) -> tuple[Any, ...]:
    """Pictures; and for each of their things number of picture, label and box, float32[N, 6]."""
    found = [scene(seed, number) for number in range(count)]
    things = [
        (number, label, *box)
        for number, one in enumerate(found)
        for label, box in zip(one.labels, one.boxes, strict=True)
    ]
    return np.stack([one.pixels for one in found]), np.array(things, np.float32)


def batches(count: int) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(count)
        yield from (order[at : at + _BATCH] for at in range(0, count - _BATCH + 1, _BATCH))


def varied(pixels: np.ndarray[Any, np.dtype[np.uint8]], rng: np.random.Generator) -> Tensor:
    """Colours changed places, and half of the pictures are negatives."""
    x = planar(pixels)
    for one in x:
        one[:] = one[rng.permutation(3)] * rng.choice([-1.0, 1.0])
    return torch.from_numpy(x).contiguous(memory_format=torch.channels_last)


def fit(model: torch.nn.Module, loss: Callable[[int], Tensor], minutes: float) -> int:
    """Train for so many minutes of the processor; how many steps that were."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=0.02)
    model.train().to(memory_format=torch.channels_last)
    begun, step, done = time.process_time(), 0, 0.0
    while done < 1:
        rate = min(done / _WARM, 0.5 + 0.5 * np.cos(np.pi * max(0.0, done - _WARM) / (1 - _WARM)))
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (rate + 1e-3)
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
        done = (time.process_time() - begun) / (60 * minutes)
        if step % 50 == 0:
            print(f"{step} {done:.1%} {value.item():.3f}", flush=True)
    model.eval()
    return step


def train_glyphs(model: torch.nn.Module, minutes: float) -> dict[str, Any]:
    pixels, labels = drawn("glyphs", 30_000, lambda count: images(TRAINED, count))
    order, rng = batches(len(pixels)), np.random.default_rng(1)

    def loss(_: int) -> Tensor:
        at = next(order)
        logits = model(varied(pixels[at], rng))
        return F.cross_entropy(logits, torch.from_numpy(labels[at]), label_smoothing=0.05)

    steps = fit(model, loss, minutes)
    held, wanted = drawn("glyphs-heldout", 2_500, lambda count: images(HELDOUT, count))
    with torch.inference_mode():
        found = torch.cat([model(torch.from_numpy(planar(part))) for part in np.array_split(held, 25)])
    right = (found.argmax(1).numpy() == wanted).mean()
    return {"steps": steps, "trained_on": len(pixels), "heldout": len(held)} | {
        "heldout_top1_percent": round(100 * float(right), 2)
    }


def assigned(things: Tensor, model: Yolo) -> tuple[Tensor, Tensor]:
    """Cells and things, int64[pairs, 2], number of the cell in the batch first: those near a thing's middle
    at the stride of its size."""
    centers, strides = model.centers, model.strides[:, 0]
    middles, sizes = (things[:, 2:4] + things[:, 4:]) / 2, (things[:, 4:] - things[:, 2:4]).amax(1)
    level = torch.tensor(STRIDES)[torch.bucketize(sizes, torch.tensor([26.0, 52.0]))]
    near = (centers[None] - middles[:, None]).abs().amax(2) < 1.01 * level[:, None]
    thing, cell = torch.nonzero(near & (strides[None] == level[:, None]), as_tuple=True)
    return things[thing, 0].long() * len(centers) + cell, thing


def generalized_overlap(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU (Rezatofighi et al. 2019) of boxes [N, 4], pair by pair."""
    shared = (torch.minimum(one[:, 2:], other[:, 2:]) - torch.maximum(one[:, :2], other[:, :2])).clamp(min=0)
    around = torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])
    areas = sum((b[:, 2:] - b[:, :2]).prod(1) for b in (one, other))
    union = areas - shared.prod(1)
    iou = shared.prod(1) / union
    return iou, iou - 1 + union / around.prod(1)


def train_scenes(model: Yolo, minutes: float) -> dict[str, Any]:
    pixels, things = drawn("scenes", 12_000, lambda count: scenes_drawn(TRAINED, count))
    begin = np.searchsorted(things[:, 0], np.arange(len(pixels) + 1))
    order, rng = batches(len(pixels)), np.random.default_rng(1)

    def loss(_: int) -> Tensor:
        at = next(order)
        output = model(varied(pixels[at], rng)).flatten(0, 1)
        parts = [things[begin[one] : begin[one + 1]].copy() for one in at]
        for number, part in enumerate(parts):
            part[:, 0] = number
        there = torch.from_numpy(np.concatenate(parts))
        cell, thing = assigned(there, model)
        iou, giou = generalized_overlap(output[cell, :4], there[thing, 2:])
        wanted = torch.zeros_like(output[:, 4:])
        wanted[cell, there[thing, 1].long()] = 0.5 + 0.5 * iou.detach().clamp(min=0)
        scores = output[:, 4:]
        surprise = F.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
        away = (wanted - scores.detach().sigmoid()).abs() ** 2
        return (surprise * away).sum() / len(cell) * 2 + 2 * (1 - giou).mean()

    for heads in model.scores:
        torch.nn.init.constant_(heads[-1].bias, -4.0)
    steps = fit(model, loss, minutes)
    held, wanted = drawn("scenes-heldout", 1_000, lambda count: scenes_drawn(HELDOUT, count))
    return {"steps": steps, "trained_on": len(pixels), "heldout": len(held)} | {
        "heldout_map_percent": round(100 * judged(model, held, wanted), 2)
    }


def judged(model: Yolo, pixels: Any, things: Any) -> float:
    """Mean average precision on these scenes."""
    with torch.inference_mode():
        outputs = torch.cat([model(torch.from_numpy(planar(part))) for part in np.array_split(pixels, 20)])
    parts = [things[things[:, 0] == number] for number in range(len(pixels))]
    wanted = [Boxes(part[:, 2:], part[:, 1].astype(np.int64), np.ones(len(part))) for part in parts]
    return mean_precision([detected(one) for one in outputs.numpy()], wanted)


NAMES: dict[str, Callable[[Any, float], dict[str, Any]]] = {"glyphs": train_glyphs, "scenes": train_scenes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = shape(args.name)
    found = NAMES[args.name](model, args.minutes)
    out: Path = args.out or NETS / args.name
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, out / "model.safetensors")
    facts = {
        "parameters": sum(one.numel() for one in model.parameters()),
        **found,
        "minutes": args.minutes,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
