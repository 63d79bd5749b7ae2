"""What onnxruntime-web has kernels for: a session of one node is tried for each of the CPU provider's here.

    build/.venv/bin/python scripts/web/kernels.py targets/web.toml

puts the table into that file, in the place of the one that it has, and prints what changed. It needs node and
`make build/web/.installed`. Where onnxruntime itself opens no session of one node, as they are made here, the
standard's own test cases are tried; kernels that are in none are named, and not in the table.
"""

from __future__ import annotations

import base64
import datetime
import itertools
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from graphopt_targets.cpu import _rules as rules
from onnx import helper
from onnx.backend.test.case.node import collect_testcases
from onnxruntime.capi import onnxruntime_pybind11_state as state

from graphopt.io import read_toml

WEB = Path("build/web")
NEWEST = 2**31 - 1
STANDARD = "ai.onnx"
DOMAINS = {"": STANDARD, "com.microsoft": "com.microsoft"}
FLOAT = "tensor(float)"
OPTIONAL = "Optional"
BASES = 64
"""Choices of types that are tried until onnxruntime opens a session."""
CHUNK = 400
"""Sessions of a process of node: memory of WebAssembly only grows."""
USUAL: Mapping[str, Any] = {
    "INT": 1,
    "FLOAT": 1.0,
    "STRING": "",
    "INTS": [1],
    "FLOATS": [1.0],
    "STRINGS": ["a"],
}
"""Values of attributes that a node needs."""
ATTRIBUTES: Mapping[str, Mapping[str, Any]] = {
    "BitShift": {"direction": "LEFT"},
    "FusedGemm": {"activation": "Relu"},
    "MatMulNBits": {"K": 32, "N": 16, "bits": 4, "block_size": 32},
    "MaxRoiPool": {"pooled_shape": [1, 1]},
    **{name: {"hidden_size": 1} for name in ("GRU", "LSTM", "RNN", "DynamicQuantizeLSTM")},
    **{name: {"kernel_shape": [1, 1]} for name in ("MaxpoolWithMask", "QLinearAveragePool")},
}
"""Those for which the usual values will not do, or that a node needs though no schema says so."""
BODIES: Mapping[str, str] = {
    "If": """(bool b) => (float[1] y) { y = If(b)<
        then_branch = t () => (float[1] a) { a = Constant<value = float[1] {1}>() },
        else_branch = e () => (float[1] c) { c = Constant<value = float[1] {2}>() }> }""",
    "Loop": """(int64 n, bool b, float[1] x) => (float[1] y) { y = Loop(n, b, x)<
        body = l (int64 i, bool c, float[1] s) => (bool d, float[1] t) { d = Identity(c)  t = Neg(s) }> }""",
    "Scan": """(float[1] x, float[2,1] v) => (float[1] y, float[2,1] w) { y, w = Scan<num_scan_inputs = 1,
        body = s (float[1] a, float[1] b) => (float[1] c, float[1] d) { c = Add(a, b)  d = Neg(c) }
        >(x, v) }""",
}
"""Graphs of operators that hold others."""
SIZES: Mapping[str, Iterable[tuple[int, ...]]] = {
    "head-size": [(size,) for size in range(1, 513)],
    "rotary-head-size": [(size, part) for size in range(8, 257, 8) for part in range(8, size + 1, 8)],
    "qk-norm": [()],
    "matmul-nbits": list(itertools.product(range(1, 9), (8, 16, 32, 64, 128, 256, 512))),
    "matmul-nbits-float-zeros": [(bits,) for bits in range(1, 9)],
    "matmul-nbits-g-idx": [(bits,) for bits in range(1, 9)],
}
"""Of each rule that the cpu target knows, the values it is tried with."""

Types = Mapping[str, str]


@dataclass
class Form:
    """A kernel for one form of its operator: from `first` to `last`, None being any later version.

    `kernel` are types by the name that it constrains, and `found` those of them for which a session opens.
    """

    schema: Any
    first: int
    last: int | None
    kernel: Mapping[str, Sequence[str]]
    found: dict[str, set[str]] = field(default_factory=dict)

    @property
    def names(self) -> str:
        return f"{DOMAINS[self.schema.domain]}::{self.schema.name} {self.first}"

    def bases(self) -> Iterator[Types]:
        """Choices of types, those with floats first."""
        ordered = [sorted(kinds, key=lambda kind: (kind != FLOAT, kind)) for kinds in self.kernel.values()]
        for kinds in itertools.islice(itertools.product(*ordered), BASES):
            yield dict(zip(self.kernel, kinds, strict=True))

    def around(self, base: Types) -> Iterator[Types]:
        """`base`, and what differs from it in one type."""
        yield base
        for name, kinds in self.kernel.items():
            yield from ({**base, name: kind} for kind in kinds if kind != base[name])

    def written(self) -> str:
        last = "+" if self.last is None else "" if self.last == self.first else f"-{self.last}"
        types = [
            f"{name}:{','.join(sorted(map(element, kinds)))}"
            for name, kinds in self.found.items()
            if not any("," in kind for kind in kinds)
        ]
        return " ".join([f"{self.first}{last}", *types])


def element(kind: str) -> str:
    return kind[7:-1] if kind.startswith("tensor(") else kind


def forms(newest: int) -> Iterator[Form]:
    """Those of the CPU provider's kernels, and of operators that it expands, up to a `newest` opset."""
    schemas: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
    for schema in state.get_all_operator_schema():
        if schema.domain in DOMAINS:
            schemas[schema.domain, schema.name][schema.since_version] = schema
    kernels: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider":
            kernels[kernel.domain, kernel.op_name].append(kernel)
    for (domain, name), versions in sorted(schemas.items()):
        for since, schema in sorted(versions.items()):
            if not domain and since > newest:
                continue
            later = min((v for v in versions if v > since), default=None)
            last = later - 1 if later is not None else None
            last = last if domain else min(last or newest, newest)
            own = [k for k in kernels[domain, name] if is_for(k.version_range, since)]
            for kernel in own:
                yield Form(schema, since, last, {k: sorted(v) for k, v in kernel.type_constraints.items()})
            if not own and not domain and has_body(name, since):
                allowed = {p.typeStr: sorted(p.types) for p in schema.inputs if not p.typeStr.endswith(")")}
                yield Form(schema, since, last, allowed)


def is_for(kernel: tuple[int, int], since: int) -> bool:
    first, last = kernel
    return first == since or (first < since <= last and last != NEWEST)


def has_body(name: str, version: int) -> bool:
    try:
        schema = onnx.defs.get_schema(name, version)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def model_of(form: Form, types: Types) -> bytes | None:
    """A graph of one node of these types; None where its attributes or types are beyond this script."""
    schema, given, inputs = form.schema, list[str](), []
    for index, parameter in enumerate(schema.inputs):
        if parameter.option.name == OPTIONAL and not is_needed(schema.name, parameter.name):
            given.append("")
            continue
        kind = types.get(parameter.typeStr) or types.get(parameter.name)
        if kind is None:
            usual = sorted(parameter.types, key=lambda kind: (kind != FLOAT, kind))
            kind = parameter.typeStr if parameter.typeStr.endswith(")") else usual[0]
        try:
            inputs.append(helper.make_value_info(f"x{index}", type_of(kind)))
        except ValueError:
            return None
        given.append(f"x{index}")
    try:
        attributes = {
            name: USUAL[attribute.type.name]
            for name, attribute in schema.attributes.items()
            if attribute.required and name not in ATTRIBUTES.get(schema.name, ())
        }
    except KeyError:
        return None
    attributes |= ATTRIBUTES.get(schema.name, {})
    while given and not given[-1]:
        given.pop()
    outputs = [f"y{i}" for i, p in enumerate(schema.outputs) if p.option.name != OPTIONAL]
    node = helper.make_node(schema.name, given, outputs, domain=schema.domain, **attributes)
    return serialized([node], inputs, outputs, {schema.domain: form.first})


def is_needed(operator: str, name: str) -> bool:
    """Whether a node needs an input though it is optional."""
    return operator.startswith("QLinear") or (operator, name) == ("Resize", "scales")


def serialized(nodes: Any, inputs: Any, outputs: Iterable[str], opsets: Mapping[str, int]) -> bytes:
    graph = onnx.GraphProto(name="trial", node=nodes, input=inputs)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return bytes(model.SerializeToString(deterministic=True))


def type_of(text: str) -> onnx.TypeProto:
    """ "seq(tensor(float))" as onnx has it. `ValueError` for maps and sparse tensors."""
    kind, _, inner = text.removesuffix(")").partition("(")
    if kind == "seq":
        return helper.make_sequence_type_proto(type_of(inner))
    if kind == "optional":
        return helper.make_optional_type_proto(type_of(inner))
    if kind != "tensor":
        raise ValueError(text)
    name = {"float": "FLOAT", "double": "DOUBLE"}.get(inner, inner.upper())
    return helper.make_tensor_type_proto(onnx.TensorProto.DataType.Value(name), None)


def opens(model: bytes | None) -> bool:
    """Whether onnxruntime here opens a session on it."""
    if model is None:
        return False
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def in_web(asked: Sequence[tuple[bytes, Mapping[str, np.ndarray] | None]]) -> list[str | None]:
    """For each model None where onnxruntime-web opens a session, and runs it on the arrays, else why not."""
    said: list[str | None] = []
    for start in range(0, len(asked), CHUNK):
        lines = (json.dumps(line(*one)) for one in asked[start : start + CHUNK])
        done = subprocess.run(
            ["node", "open.js"], cwd=WEB, input="\n".join(lines), capture_output=True, text=True, check=True
        )
        said += [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("null", '"'))]
        assert len(said) == min(start + CHUNK, len(asked)), done.stdout[-2000:] + done.stderr[-2000:]
    return said


def line(model: bytes, feeds: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
    arrays = {
        name: {
            "type": array.dtype.name,
            "dims": array.shape,
            "data": base64.b64encode(array.tobytes()).decode(),
        }
        for name, array in (feeds or {}).items()
    }
    return {"model": base64.b64encode(model).decode(), "feeds": None if feeds is None else arrays}


def newest_opset() -> int:
    """The last version of the standard's operators that onnxruntime-web takes."""
    node = helper.make_node("Neg", ["x"], ["y"])
    inputs = [helper.make_value_info("x", type_of(FLOAT))]
    trials = range(20, onnx.defs.onnx_opset_version() + 1)
    said = in_web([(serialized([node], inputs, ["y"], {"": version}), None) for version in trials])
    return max(version for version, why in zip(trials, said, strict=True) if why is None)


def cases() -> Mapping[tuple[str, str], list[onnx.ModelProto]]:
    """The standard's test cases of one node, by operator."""
    found: dict[tuple[str, str], list[onnx.ModelProto]] = defaultdict(list)
    for case in collect_testcases(None):
        if case.model is not None and len(case.model.graph.node) == 1:
            node = case.model.graph.node[0]
            found[node.domain, node.op_type].append(case.model)
    return found


def probe(made: Sequence[Form]) -> tuple[list[Form], list[str], list[str]]:
    """Forms with what was found, those that WebAssembly lacks, and those of which nobody knows."""
    trials: list[tuple[Form, Types | None, bytes]] = []
    standard, unknown = cases(), []
    for form in made:
        base = next((types for types in form.bases() if opens(model_of(form, types))), None)
        if base is not None:
            models = ((types, model_of(form, types)) for types in form.around(base))
            trials += [(form, types, model) for types, model in models if model is not None and opens(model)]
            continue
        own = [m for m in standard[form.schema.domain, form.schema.name] if is_of(m, form)]
        if form.schema.name in BODIES:
            head = f'<ir_version: 10, opset_import: ["" : {form.first}]> g '
            own.append(onnx.parser.parse_model(head + BODIES[form.schema.name]))
        models = [model.SerializeToString() for model in own]
        trials += [(form, None, model) for model in models if opens(model)]
        if not any(map(opens, models)):
            unknown.append(form.names)
    said = in_web([(model, None) for *_, model in trials])
    tried = {id(form): form for form, *_ in trials}
    runs = set[int]()
    for (form, types, _), why in zip(trials, said, strict=True):
        if why is None:
            runs.add(id(form))
            for name, kind in (types or {}).items():
                form.found.setdefault(name, set()).add(kind)
    lacking = [form.names for key, form in tried.items() if key not in runs]
    return [form for key, form in tried.items() if key in runs], lacking, unknown


def is_of(model: onnx.ModelProto, form: Form) -> bool:
    version = next((o.version for o in model.opset_import if o.domain == form.schema.domain), 0)
    return form.first <= version <= (form.last or version)


def sizes() -> dict[str, Any]:
    """What onnxruntime-web says of each rule: the values that it takes, or whether it takes it at all."""
    asked = [(rule, values) for rule, tried in SIZES.items() for values in tried]
    models = []
    for rule, values in asked:
        node, feeds = rules._RULES[rule](*values)
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in feeds.items()
        ]
        graph = serialized([node], inputs, list(node.output), {"": 23, node.domain: 1})
        models.append((graph, feeds))
    taken: dict[str, Any] = {rule: [] for rule in SIZES}
    for (rule, values), why in zip(asked, in_web(models), strict=True):
        if why is None:
            taken[rule].append(list(values))
    return {rule: bool(found) if SIZES[rule] == [()] else found for rule, found in taken.items()}


Newer = dict[str, set[str]]
"""By operator, names of inputs, outputs and attributes."""


def newer(newest: int) -> Newer:
    """What operators have here and not in onnxruntime-web."""
    schemas: dict[str, Any] = {}
    for schema in state.get_all_operator_schema():
        name = f"{DOMAINS.get(schema.domain)}::{schema.name}"
        if schema.domain in DOMAINS and schema.since_version <= newest:
            schemas[name] = max(schemas.get(name, schema), schema, key=lambda one: one.since_version)
    found: Newer = defaultdict(set)
    left = dict(schemas)
    while left:
        trials = {name: model for name, one in left.items() if (model := whole(one, found[name])) is not None}
        said = dict(zip(trials, in_web([(model, None) for model in trials.values()]), strict=True))
        left = {}
        for name, why in said.items():
            schema = schemas[name]
            count = re.search(r"has (input|output) size \d+ not in range \[min=\d+, max=(\d+)\]", why or "")
            attribute = re.search(r"Unrecognized attribute: (\w+) for operator", why or "")
            if count is not None:
                parameters = schema.inputs if count[1] == "input" else schema.outputs
                found[name] |= {parameter.name for parameter in parameters[int(count[2]) :]}
            if attribute is not None:
                found[name].add(attribute[1])
            if count is not None or attribute is not None:
                left[name] = schema
    return found


def whole(schema: Any, known: set[str]) -> bytes | None:
    """A node with all that its operator may have but for what is `known` to be newer; None as `model_of`."""
    try:
        inputs = [
            helper.make_value_info(f"x{i}", type_of(min(p.types, key=lambda kind: (kind != FLOAT, kind))))
            for i, p in enumerate(schema.inputs)
            if p.name not in known
        ]
    except ValueError:
        return None
    attributes = {
        key: USUAL[attribute.type.name]
        for key, attribute in schema.attributes.items()
        if attribute.type.name in USUAL and key not in known
    }
    given = [value.name for value in inputs]
    outputs = [f"y{i}" for i, p in enumerate(schema.outputs) if p.name not in known]
    node = helper.make_node(schema.name, given, outputs, domain=schema.domain, **attributes)
    return serialized([node], inputs, outputs, {schema.domain: schema.since_version})


def table(found: Sequence[Form], taken: Mapping[str, Any], refused: Newer, version: str, newest: int) -> str:
    by_domain: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for form in found:
        by_domain[DOMAINS[form.schema.domain]][form.schema.name].append(form.written())
    lines = [
        "[operators]",
        'source = "scripts/web/kernels.py: sessions of one node in onnxruntime-web"',
        f'version = "onnxruntime-web {version}, up to opset {newest}"',
        f"date = {datetime.datetime.now(datetime.UTC).date()}",
        "",
        "[operators.rules]",
        *(f"{rule} = {json.dumps(value)}" for rule, value in taken.items()),
    ]
    for domain in DOMAINS.values():
        lines += ["", f'[operators.refused."{domain}"]']
        lines += [
            f"{name.partition('::')[2]} = {json.dumps(sorted(names))}"
            for name, names in sorted(refused.items())
            if names and name.startswith(f"{domain}::")
        ]
    for domain, operators in by_domain.items():
        lines += ["", f'[operators.domains."{domain}"]']
        lines += [f"{name} = {json.dumps(list(dict.fromkeys(texts)))}" for name, texts in operators.items()]
    return "\n".join(lines) + "\n"


def entries(settings: Mapping[str, Any]) -> set[str]:
    operators = settings.get("operators", {})
    kernels = {
        f"{domain}::{name} {text}"
        for domain, named in operators.get("domains", {}).items()
        for name, texts in named.items()
        for text in texts
    }
    refused = {
        f"{domain}::{name} without {text}"
        for domain, named in operators.get("refused", {}).items()
        for name, texts in named.items()
        for text in texts
    }
    return (
        kernels
        | refused
        | {f"{rule} {json.dumps(value)}" for rule, value in operators.get("rules", {}).items()}
    )


def main() -> None:
    path = Path(sys.argv[1])
    version = json.loads((WEB / "node_modules/onnxruntime-web/package.json").read_text())["version"]
    newest = newest_opset()
    made = list(forms(newest))
    found, lacking, unknown = probe(made)
    before = entries(read_toml(path))
    text = path.read_text().partition("[operators]")[0].rstrip() + "\n\n"
    path.write_text(text + table(found, sizes(), newer(newest), version, newest))
    now = entries(read_toml(path))
    for sign, changed in (("-", before - now), ("+", now - before)):
        print("\n".join(f"{sign} {entry}" for entry in sorted(changed)))
    print(f"{len(made)} kernels of onnxruntime {ort.__version__}: {len(found)} in onnxruntime-web {version}")
    print("not there:", ", ".join(lacking) or "none")
    print("not tried:", ", ".join(unknown) or "none")


if __name__ == "__main__":
    main()
