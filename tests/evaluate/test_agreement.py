"""A package on several targets, one of which rounds what it does not say."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphopt import BadInput, Package
from graphopt.cli._main import run
from graphopt.errors import EnvironmentProblem
from graphopt.evaluate import compare_targets, probed_precision
from graphopt.evaluate._precision import judged
from graphopt.package import RunnablePackage
from graphopt.plugins import registry
from graphopt.targets import Unsupported

CPU: Any = registry.targets()["cpu"]
BFLOAT16 = ml_dtypes.bfloat16


class Rounded:
    """A session whose results are those of another, rounded to bfloat16."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: Any, feeds: Any, options: Any = None) -> list[Any]:
        found = self._session.run(names, feeds, options)
        return [a.astype(BFLOAT16).astype(a.dtype) if a.dtype == np.float32 else a for a in found]


class LowBits(CPU):
    """The cpu target, but for results in bfloat16 that call themselves float32."""

    name = "low-bits"

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        return Rounded(super().session(path, threads=threads))


class Narrow(CPU):
    """A target that runs nothing."""

    name = "narrow"

    def capabilities(self) -> Any:
        def unsupported(model: Any) -> list[Unsupported]:
            return [Unsupported(node.name, node.op_type, "no kernel") for node in model.graph]

        return SimpleNamespace(unsupported=unsupported)


class Absent(CPU):
    """A target whose provider is not installed."""

    name, provider = "absent", "NoSuchExecutionProvider"

    def session(self, path: Path, *, threads: int | None = None) -> Any:
        from graphopt.runtime import open_session

        return open_session(path, providers=(self.provider,))


@pytest.fixture(autouse=True)
def known_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**registry.targets(), **{cls.name: cls for cls in (LowBits, Narrow, Absent)}}
    monkeypatch.setattr(registry, "targets", lambda: found)


def matrices() -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((32, 128)).astype(np.float32), rng.standard_normal((128, 48)).astype(
        np.float32
    )


def rounded(array: Any, to: Any) -> Any:
    return array.astype(to).astype(np.float32)


@pytest.mark.parametrize(
    ("form", "product"),
    [
        ("float32", lambda a, b: a @ b),
        ("float16", lambda a, b: rounded(a, np.float16) @ rounded(b, np.float16)),
        ("float16", lambda a, b: rounded(a @ b, np.float16)),
        ("bfloat16", lambda a, b: rounded(a, BFLOAT16) @ rounded(b, BFLOAT16)),
        ("bfloat16", lambda a, b: rounded(rounded(a, BFLOAT16) @ rounded(b, BFLOAT16), BFLOAT16)),
        ("bfloat16", lambda a, b: rounded(a @ rounded(b, BFLOAT16), BFLOAT16)),
        ("other", lambda a, b: np.round(a * 25) / 25 @ b),
        ("other", lambda a, b: np.zeros((len(a), b.shape[1]))),
    ],
)
def test_a_form_is_told_by_its_numbers(form: str, product: Callable[[Any, Any], Any]) -> None:
    a, b = matrices()
    found = judged(a, b, product(a, b))

    assert found.form == form
    assert found.silent is (form != "float32")


def test_sums_in_float16_are_less_than_float32() -> None:
    a, b = matrices()
    sums = np.zeros((len(a), b.shape[1]), np.float16)
    for k in range(a.shape[1]):
        sums += np.outer(a[:, k].astype(np.float16), b[k].astype(np.float16))

    assert judged(a, b, sums.astype(np.float32)).silent


def test_of_targets() -> None:
    assert probed_precision(CPU()).form == "float32"
    assert probed_precision(LowBits()).form == "bfloat16"
    assert probed_precision(Narrow()).form == "unknown"
    assert "no kernel" in str(probed_precision(Narrow()))


def test_every_side_beside_every_other(tiny_coder_at: Callable[[str], Path], tiny_coder: Path) -> None:
    package = RunnablePackage.load(tiny_coder_at("lossless"))
    found = compare_targets(package, tiny_coder, ["cpu", "low-bits"], tokens=600)
    pairs = {(one.reference, one.side): one.metrics for one in found.pairs}

    assert list(pairs) == [("source", "cpu"), ("source", "low-bits"), ("cpu", "low-bits")]
    assert pairs["source", "cpu"]["kl_mean"].value < 1e-7
    assert pairs["source", "low-bits"]["kl_mean"].value > 1e-6
    near = pairs["source", "low-bits"]["kl_mean"].value
    assert pairs["cpu", "low-bits"]["kl_mean"].value == pytest.approx(near, rel=0.05)
    assert pairs["source", "cpu"]["top1_agreement"].value == 1
    assert pairs["source", "cpu"]["greedy_agreement"].value > 0.99
    assert {name: one.form for name, one in found.precision.items()} == {
        "cpu": "float32",
        "low-bits": "bfloat16",
    }


def test_on_the_command_line(encoder: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    source, package = encoder
    asked = ["validate", str(package), "--reference", str(source), "--targets", f"cpu,low-bits={package}"]

    assert run(asked) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "cpu computes in float32" in said
    assert re.search(
        r"in bfloat16, a product is off by 0\.00\d of its size where the graph says float32", said
    )
    assert run([*asked, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "targets"
    cosines = {(p["reference"], p["side"]): p["metrics"]["cosine_min"]["value"] for p in found["pairs"]}
    assert cosines["source", "cpu"] > 0.999999 > cosines["source", f"low-bits={package}"] > 0.999


@pytest.mark.parametrize(
    ("targets", "code", "said"),
    [
        ("cpu,nowhere", 2, "nowhere"),
        ("cpu,cpu", 2, "not a list of different targets"),
        ("cpu,", 2, "not a list of different targets"),
        ("narrow", 2, "narrow=OUT"),
        ("cpu=no-such-folder", 2, "does not exist"),
        ("absent", 4, "NoSuchExecutionProvider"),
    ],
)
def test_bad_input(
    targets: str, code: int, said: str, encoder: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source, package = encoder

    assert run(["validate", str(package), "--reference", str(source), "--targets", targets]) == code
    assert said in capsys.readouterr().err


def test_a_package_of_another_task(encoder: tuple[Path, Path], tiny_coder_at: Callable[[str], Path]) -> None:
    source, package = encoder
    other = tiny_coder_at("lossless")

    with pytest.raises(BadInput, match="is for text-generation"):
        Package.load(package).compare_targets(source, ["cpu", f"low-bits={other}"])


def test_an_absent_target_is_an_environment_problem(encoder: tuple[Path, Path]) -> None:
    with pytest.raises(EnvironmentProblem):
        Package.load(encoder[1]).compare_targets(encoder[0], ["absent"])


def test_the_package_that_the_folder_has_for_a_target(
    encoder: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphopt.package import add_variant

    source, package = encoder
    folder = Path(shutil.copytree(package, tmp_path / "both"))
    other = Path(shutil.copytree(package, tmp_path / "other"))
    said = json.loads((other / "graphopt.json").read_text())
    said["target"]["name"] = "low-bits"
    (other / "graphopt.json").write_text(json.dumps(said))
    add_variant(folder, other)
    loaded = RunnablePackage.load(folder)

    assert loaded.on("low-bits").path == folder / "targets" / "low-bits"
    assert loaded.on("low-bits").on("cpu").path == folder
    assert loaded.on("narrow").path == folder
    monkeypatch.setattr(LowBits, "capabilities", Narrow.capabilities)
    found = compare_targets(loaded, source, ["cpu", "low-bits"])
    assert [(one.reference, one.side) for one in found.pairs][-1] == ("cpu", "low-bits")
