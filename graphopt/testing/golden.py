"""Golden files: a graph as text, and what a pass makes of it or says against it.

A file is header lines (`pass: NAME`, and perhaps `options: JSON`, `config: JSON`, `task: NAME`,
`blocks: JSON`, `calibration: B=16`), then

    --- before          --- after       or    --- refuses                      or    --- unmatched
    the graph           the graph             a part of a near miss's reason

The last is for graphs with nothing that the pass nearly takes: it changes nothing and says nothing.

Numbers are checked at the sizes of `bind: B=2,S=3; B=1,S=5` with seeded inputs, or, for a graph whose inputs
have a meaning, in every case that `family: NAME` calls legal, or in the one of `inputs: JSON`, arrays by
name. A test of all of them is

    @pytest.mark.parametrize("golden", goldens(FOLDER), ids=str)
    def test_golden(golden): golden.check()

and `python -m graphopt.testing FILE...` writes into files what their passes do now.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.interface import adapt_feeds, adapt_results
from graphopt.ir import graph_hash, text
from graphopt.pipeline import Pass, RunResult
from graphopt.plugins import registry, run_recipe
from graphopt.recipes import Budget, Recipe, Step
from graphopt.testing._example import Example, header_of, specified
from graphopt.testing._execution import outputs, session
from graphopt.verify import Tolerance, compare, tolerance_of

__all__ = ["Golden", "Ran", "accept", "goldens"]

_LONGEST_SUM = 256
"""Terms of the longest sum in an example, which is small: tolerances grow by its root."""
_PARTS = re.compile(r"(.*?)^--- before\n(.*?)^--- (after|refuses|unmatched)\n(.*)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Golden(Example):
    """A golden file. `after` is None where the pass shall refuse, saying `reason` (nothing if that is "")."""

    after: str | None
    reason: str = ""

    @classmethod
    def read(cls, path: Path) -> Golden:
        """The golden file at `path`; `BadInput` where it is none."""
        try:
            parts = _PARTS.fullmatch(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise BadInput(f"{path} is not UTF-8: {error}") from error
        if parts is None:
            raise BadInput(
                f"{path} has no `--- before` and then `--- after`, `--- refuses` or `--- unmatched`"
            )
        head, before, kind, expected = parts.groups()
        header = header_of(path, head)
        if "pass" not in header:
            raise BadInput(f"{path} has no line `pass: NAME` above `--- before`")
        if kind == "after":
            return cls(path, header, before, expected.strip())
        reason = expected.strip()
        if (kind == "refuses") is not bool(reason):
            raise BadInput(
                f"{path}: `--- {kind}` is followed by {'a' if reason else 'no'} reason",
                hint="A part of the reason goes below `--- refuses`, nothing below `--- unmatched`.",
            )
        return cls(path, header, before, None, reason)

    def run(self) -> Ran:
        """Run the pass over the graph."""
        model = self.model()
        name = self.header["pass"]
        recipe = Recipe("golden", "", Budget(), (Step(name, self.options(name)),))
        return Ran(model, run_recipe(model, recipe, self.context(model)))

    def differences(self, after: ir.Model, result: RunResult) -> dict[str, str]:
        """What differs between the graph before and `after`, by case and output; nothing, if all is well."""
        old, new = session(self.model()), session(after)
        tolerance = self._tolerance()
        found: dict[str, str] = {}
        for case in self.cases():
            expected = outputs(old, case.feeds)
            got = adapt_results(result.adapters, outputs(new, adapt_feeds(result.adapters, case.feeds)))
            for name, array in expected.items():
                verdict = compare(*specified(array, got[name], case.compare.get(name)), tolerance)
                if not verdict:
                    found[f"{name} in {case.name}"] = verdict.reason
        return found

    def check(self) -> None:
        """Raise `AssertionError` where the pass does not do what the file says, or changes the numbers."""
        if self.after is None:
            self._check_refused()
        else:
            self._check_rewritten(self.after)

    def _check_rewritten(self, after: str) -> None:
        ran = self.run()
        assert ran.applied > 0, f"{self}: not rewritten; near misses: {ran.reasons}"
        assert ran.result.records[0].modified, f"{self}: edits were applied and changed nothing"
        accept_it = f"to accept: python -m graphopt.testing {self.path}"
        assert ran.text == after, (
            f"{self}: another graph than the file's.\n{ran.text}\n--- instead of\n{after}\n{accept_it}"
        )
        differences = self.differences(ran.model, ran.result)
        assert differences == {}, f"{self}: other numbers: {differences}"

    def _check_refused(self) -> None:
        ran = self.run()
        assert ran.applied == 0, f"{self}: not refused:\n{ran.text}"
        assert graph_hash(ran.model) == graph_hash(self.model()), f"{self}: refused, and changed all the same"
        if not self.reason:
            assert ran.reasons == [], f"{self}: unmatched, and yet the pass says {ran.reasons}"
        assert any(self.reason in said for said in ran.reasons or [""]), (
            f"{self}: refused, but for another reason than {self.reason!r}: {ran.reasons}"
        )

    def _tolerance(self) -> Tolerance:
        name = self.header["pass"]
        cls: type[Pass] = registry.resolve("pass", name, registry.passes())
        return tolerance_of(cls.configure(self.options(name)).effective_contract(), length=_LONGEST_SUM)


@dataclass
class Ran:
    """A golden graph after its pass."""

    model: ir.Model
    result: RunResult

    @property
    def applied(self) -> int:
        return self.result.records[0].applied

    @cached_property
    def reasons(self) -> list[str]:
        """What the near misses say."""
        return [miss.reason for miss in self.result.records[0].near_misses]

    @property
    def text(self) -> str:
        return text(self.model).strip()


def goldens(folder: Path) -> list[Golden]:
    """The golden files (`*.txt`) below `folder`, in order of their paths; `BadInput` where there is none."""
    paths = sorted(folder.rglob("*.txt"))
    if not paths:
        raise BadInput(f"there is no golden file (*.txt) below {folder}")
    return [Golden.read(path) for path in paths]


def accept(path: Path) -> str:
    """Put into a file what its pass does now; a line about it. For the author to read before committing."""
    golden = Golden.read(path)
    ran = golden.run()
    if golden.after is None:
        return f"{golden}: applied {ran.applied}, says {ran.reasons}"
    body = path.read_text(encoding="utf-8").partition("--- after\n")[0]
    path.write_text(f"{body}--- after\n{ran.text}\n", encoding="utf-8")
    return f"{golden}: applied {ran.applied}, {golden.differences(ran.model, ran.result) or 'equal'}"
