"""plan-bits: which form each weight is stored in, so that a budget is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from graphopt.errors import BadInput
from graphopt.ir import blocks_of, name_matches, stored_bytes
from graphopt.machine import Profile, known_profile
from graphopt.pipeline import Context, Contract, Edits, Level, NearMiss, Pass
from graphopt.plan import PLAN, Bound, Choice, Table, Together, Unit, allocate, parse_bounds
from graphopt.runtime import default_threads
from graphopt.targets import BlockProduct

from ._forms import Form
from ._measuring import Measuring
from ._rounding import Method
from ._units import WeightUnit, weight_units

_LOGITS = "logits"


class PlanBits(Pass):
    """Bits and blocks are shared out among weights, by the damage that each does and what the budget allows.

    Before: MatMul(x, W), Gemm(x, W, b), and Gather(W, ids) of such a weight
    After:  the same graph: what was decided is for the pass that quantizes
    Weights that are read together share a form: queries, keys and values; gate and up; a tied table and head.
    Each unit's damage is measured in one form of each number of bits, the others of which follow from the
    error of its products: it is rounded so, as it will be (by GPTQ where weights are to be learned, which
    begins there), and multiplied as the kernel does it; the KL divergence of the model's answers from those
    of the model as it is, on the end of the calibration text, by which nothing was rounded, is its damage
    alone. What damages come to together is learned from plans that are measured as a whole. Integer
    programming then finds the plan (a multiple-choice knapsack, as in HAWQ-V3, Yao et al. 2021, with measured
    damage in place of curvature).
    Refuses: models that give no logits, and those without anything to calibrate on; weights that came in
    blocks, small ones and excluded ones are left out.
    """

    name: ClassVar[str] = "plan-bits"
    level: ClassVar[Level] = Level.COMPRESS
    contract: ClassVar[Contract] = Contract.exact()
    main_graph_only: ClassVar[bool] = True
    decides_only: ClassVar[bool] = True
    decides_for: ClassVar[str] = "quantize-weights"

    @dataclass(frozen=True)
    class Options:
        """budget: what to keep to, "bpw=4.25" or "kl_mean=0.02, package_bytes=700MB"; empty: nothing is
        planned; forms that weights may be stored in, BITS/BLOCK, with z for zero points, separated by commas;
        smallest_plan: what a budget of damage makes small, bytes or the time of a token (seconds, those of
        products without zero points, as the target measures them); tokens of calibration text that damage is
        measured on, at most: fewer for large models; part: "2/5" only measures the share 2, from 0, of 5 of
        all damages, and leaves them in the cache for a run that plans. The others are those of
        quantize-weights, and as they are there where nothing is said here.
        """

        budget: str = ""
        forms: str = "2/64,2/64z,2/128,2/128z,2/256,4/32,4/64,4/64z,4/128,4/128z,4/256,8/32,8/128,8/256"
        smallest_plan: Literal["bytes", "seconds"] = "bytes"
        tokens: int = 2048
        part: str = ""
        rounding: Method = "nearest"
        sweeps: int = 2
        accuracy_level: Literal[0, 1, 2, 3, 4] = 4
        embedding: Literal["tied", "all", "keep"] = "tied"
        include: str = "*"
        exclude: str = ""
        smallest: int = 4096

    def edits(self, graph: ir.Graph, context: Context) -> Edits:
        if not self.options.budget or self.name in context.decisions:
            return
        bounds = parse_bounds([self.options.budget])
        units = self._units(graph)
        output = next((value for value in graph.outputs if value.name == _LOGITS), None)
        stream = context.stream()
        reason = "there is no weight to plan for" if not units else None
        if isinstance(stream, str):
            reason = stream
        if output is None:
            reason = "the model gives no logits: its damage has no measure"
        if reason is not None:
            yield NearMiss(graph.name or "graph", reason)
            context.note(f"{self.name}: the budget {self.options.budget} is not planned for: {reason}")
            return
        assert output is not None
        forms = self._forms(context)
        measuring = Measuring(self.options, graph, output, context, units, forms)
        if self.options.part:
            measuring.share(_share(self.options.part))
            return
        damages = measuring.whole()
        table = self._table(graph, units, forms, damages, self._seconds(context, bounds, units, forms))
        plan = allocate(table, bounds, step=self.name, smallest=self.options.smallest_plan)
        joint = zip(damages["sums"].tolist(), damages["joint"].tolist(), strict=True)
        plan = plan.model_copy(update={"joint": tuple(joint)})
        if self.options.rounding == "learned":
            context.note(f"{self.name}: damages are GPTQ's, which learned rounding begins with")
        context.decisions[self.name] = dict(plan.forms)
        context.decisions[PLAN] = plan.model_dump(mode="json")

    def _units(self, graph: ir.Graph) -> list[WeightUnit]:
        """Those that are stored otherwise: a table that nothing is multiplied by is only where all are."""
        embedding = self.options.embedding
        return [
            unit
            for unit in weight_units(graph, lookups=embedding != "keep")
            if self._is_wanted(unit) and (embedding == "all" or not unit.is_table)
        ]

    def _is_wanted(self, unit: WeightUnit) -> bool:
        options = self.options
        return all(
            name_matches(site.name, options.include)
            and not name_matches(site.name, options.exclude)
            and site.rows.shape[0] * site.rows.shape[1] >= options.smallest
            and blocks_of(site.rows) is None
            for site in unit.sites
        )

    def _forms(self, context: Context) -> list[Form]:
        """Those that the target has kernels for."""
        try:
            forms = [Form.parse(text) for text in self.options.forms.split(",")]
        except ValueError as error:
            raise BadInput(f"pass {self.name!r}, option 'forms': {error}") from error
        accepts = context.target.capabilities().accepts if context.target is not None else lambda *_: True
        kept = [form for form in dict.fromkeys(forms) if _asked(accepts, form)]
        if not kept:
            raise BadInput(f"pass {self.name!r}: the target has no kernel for any of {self.options.forms}")
        return kept

    def _table(
        self,
        graph: ir.Graph,
        units: Sequence[WeightUnit],
        forms: Sequence[Form],
        measured: dict[str, np.ndarray[Any, Any]],
        seconds: Callable[[WeightUnit, Form], float] | None,
    ) -> Table:
        planned = {id(site.weight.const_value) for unit in units for site in unit.sites}
        held = {id(v.const_value): v.const_value for v in graph.initializers.values() if v.const_value}
        fixed = float(sum(stored_bytes(tensor) for key, tensor in held.items() if key not in planned))
        table_units = []
        for unit, row in zip(units, measured["damages"].tolist(), strict=True):
            choices = [
                Choice(str(form), damage, _bytes(unit, form), seconds and seconds(unit, form))
                for form, damage in zip(forms, row, strict=True)
                if _fits(unit, form)
            ]
            table_units.append(Unit(unit.names, unit.entries, tuple(choices)))
        together = Together.fitted(measured["sums"].tolist(), measured["joint"].tolist())
        on_top = dict.fromkeys(("weight_bytes", "package_bytes", "peak_memory"), fixed)
        if seconds is not None:
            on_top |= {"tpot": 0.0, "decode_tokens_per_second": 0.0}
        return Table(table_units, together, on_top)

    def _seconds(
        self, context: Context, bounds: Sequence[Bound], units: Sequence[WeightUnit], forms: Sequence[Form]
    ) -> Callable[[WeightUnit, Form], float] | None:
        """How long all products of a unit take of a token, where that matters and is known: of the machine,
        where that was measured (graphopt targets profile), else the target measures these products."""
        if self.options.smallest_plan == "bytes" and not any(bound.of_time for bound in bounds):
            return None
        target = context.target
        sizes = sorted({site.size for unit in units for site in unit.sites if not site.is_lookup})
        blocks = {bits: [f.block for f in forms if f.bits == bits] for bits in {f.bits for f in forms}}
        known: dict[str, float] = {}
        key = f"{self.name}: seconds of a token's products"
        threads = default_threads()
        profile = None if target is None else known_profile(target, threads)
        if profile is not None:
            key += ", by what was measured of the machine"
            known = {
                f"{k} x {n}, {form.bits}/{form.block}": _predicted(profile, threads, k, n, form)
                for n, k in sizes
                for form in {replace(form.fitting(k), zeros=False) for form in forms}
            }
            sizes = []
        for n, k in context.watch(sizes, "timing products of size"):
            for bits, of_bits in blocks.items():
                fitting = sorted({Form(bits, block).fitting(k).block for block in of_bits})
                product = BlockProduct(bits=bits, k=k, n=n, level=self.options.accuracy_level)
                found = None if target is None else target.token_seconds(product, fitting)
                if found is None:
                    return None
                known |= {f"{k} x {n}, {bits}/{block}": s for block, s in found.items()}
        known = context.decide(key, lambda: known)

        def seconds(unit: WeightUnit, form: Form) -> float:
            return sum(
                known[f"{k} x {n}, {form.bits}/{form.fitting(k).block}"]
                for n, k in (site.size for site in unit.sites if not site.is_lookup)
            )

        return seconds


def _predicted(profile: Profile, threads: int, k: int, n: int, form: Form) -> float:
    """Seconds of one row times a weight [k, n] in `form`, without zero points, which comes from memory."""
    from graphopt.cost import Product, product_seconds

    size = n * -(-k // form.block) * (form.block * form.bits // 8 + 4)
    product = Product("", k, n, form.bits, form.block, zeros=False, bytes=size)
    return product_seconds(profile, product, rows=1, threads=threads).value


def _share(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise BadInput(f"pass 'plan-bits', option 'part': {text!r} is no share: the first of five is 0/5")
    return int(number), int(count)


def _asked(accepts: Callable[..., bool], form: Form) -> bool:
    """Whether the target takes the form; one that knows no such rule is not in the way."""
    try:
        return accepts("matmul-nbits", form.bits, form.block)
    except KeyError:
        return True


def _bytes(unit: WeightUnit, form: Form) -> int:
    """Of packed weights, scales and zero points."""
    size = 0
    for rows in unit.weights:
        count, width = rows.shape
        fitting = form.fitting(width)
        blocks = -(-width // fitting.block)
        zeros = -(-blocks * fitting.bits // 8) if fitting.zeros else 0
        size += count * (blocks * (fitting.block * fitting.bits // 8 + 4) + zeros)
    return size


def _fits(unit: WeightUnit, form: Form) -> bool:
    """Whether every weight can be stored so: rows that are looked up are whole blocks."""
    for site in unit.sites:
        width = site.rows.shape[1]
        block = form.fitting(width).block
        if block != form.block or (site.is_lookup and width % block):
            return False
    return True
