"""The action, the template and the hook of docs/ci.md: held to the schemas of who reads them, and run.

Steps that are somebody else's action, and installing, need the network and are not run. What `gh` is asked
for is written down by a program of that name.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

from graphopt import export_package
from graphopt.gate import read_result
from tests._cache import ROOT
from tests.project._documents import blocks

SCHEMAS = ROOT / "tests/gate/schemas"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
TEMPLATE = yaml.safe_load((ROOT / "ci/graphopt.gitlab-ci.yml").read_text())[".graphopt-gate"]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
BLOCKS = list(blocks((ROOT / "docs/ci.md").read_text()))
FILES = {block.value: block.text for block in BLOCKS if block.mark == "file"}
WORKFLOW, PIPELINE, PRE_COMMIT = ".github/workflows/gate.yml", ".gitlab-ci.yml", ".pre-commit-config.yaml"
USED = yaml.safe_load(FILES[WORKFLOW])["jobs"]["gate"]["steps"][1]["with"]
BROKEN = "package_bytes <= 1kB\n"


def keeps_to(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("schema", "path"), [("github-actions", "action.yml"), ("gitlab-ci", "ci/graphopt.gitlab-ci.yml")]
)
def test_files_of_the_repository_keep_to_their_schema(schema: str, path: str) -> None:
    done = keeps_to(schema, ROOT / path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("schema", "name"), [("github-workflows", WORKFLOW), ("gitlab-ci", PIPELINE)])
def test_examples_keep_to_their_schema(schema: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "example.yml").write_text(FILES[name])
    done = keeps_to(schema, tmp_path / "example.yml")
    assert done.returncode == 0, done.stdout


def test_the_schemas_refuse_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "action.yml").write_text(
        (ROOT / "action.yml").read_text().replace("using: composite", "using: 7")
    )
    assert keeps_to("github-actions", tmp_path / "action.yml").returncode == 1


def test_the_hook_and_its_example_keep_to_their_schema() -> None:
    schemas = {
        name: json.loads((SCHEMAS / name).read_text())
        for name in ("pre-commit-hooks.json", "pre-commit-config.json")
    }
    registry: Registry[Any] = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()
    )
    for name, data in (
        ("pre-commit-hooks.json", HOOKS),
        ("pre-commit-config.json", yaml.safe_load(FILES[PRE_COMMIT])),
    ):
        jsonschema.Draft7Validator(schemas[name], registry=registry).validate(data)


def test_the_examples_name_what_there_is() -> None:
    used = yaml.safe_load(FILES[WORKFLOW])["jobs"]["gate"]["steps"][1]
    extended = yaml.safe_load(FILES[PIPELINE])
    hook = yaml.safe_load(FILES[PRE_COMMIT])["repos"][0]["hooks"][0]

    assert set(used["with"]) <= set(ACTION["inputs"])
    assert {name for name, given in ACTION["inputs"].items() if given.get("required")} <= set(used["with"])
    assert set(extended["gate"]["variables"]) <= set(TEMPLATE["variables"])
    assert (ROOT / extended["include"][0]["file"]).exists()
    assert [hook["id"]] == [each["id"] for each in HOOKS]


def test_no_input_is_pasted_into_a_script() -> None:
    """What somebody typed into a title of a pull request would run."""
    for step in STEPS.values():
        assert "${{" not in step.get("run", "")


@pytest.fixture(scope="module")
def package(cached: Callable[[str, Callable[[Path], None]], Path], tiny_model: Callable[..., Path]) -> Path:
    """The package of a tiny model, as it was exported."""

    def build(folder: Path) -> None:
        export_package(tiny_model("llama"), folder / "tiny-int4")

    return cached("ci-example", build)


@pytest.fixture
def place(package: Path, tmp_path: Path) -> Path:
    """A checked-out repository with the package in it."""
    for name in ("tiny-int4", "released"):
        (tmp_path / name).symlink_to(package / "tiny-int4")
    return tmp_path


class Job:
    """A job of a GitHub workflow as far as the action needs one: its folders, files and expressions."""

    def __init__(self, place: Path, **inputs: str) -> None:
        self.place = place
        self.inputs = {
            name: str(given.get("default", "")) for name, given in ACTION["inputs"].items()
        } | inputs
        self.outputs: dict[str, dict[str, str]] = {}
        self.summary, self.asked = place / "summary.md", place / "asked.jsonl"
        self.github = {
            "repository": "someone/something",
            "event.pull_request.number": "7",
            "action_path": str(ROOT),
        }
        self.github |= {"token": "secret", "job": "gate"}
        gh = place / "bin/gh"
        gh.parent.mkdir()
        (place / "temp").mkdir()
        gh.write_text(
            f"#!{sys.executable}\nimport json, os, sys\n"
            f"print(json.dumps(sys.argv[1:]), file=open({str(self.asked)!r}, 'a'))\n"
            "print(os.environ.get('COMMENTS', ''), end='')\n"
        )
        gh.chmod(0o755)

    def run(self, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script of a step as GitHub does, and keep what it set."""
        step, output = STEPS[name], self.place / f"{name}.output"
        assert step["shell"] == "bash"
        output.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.place,
            env=path_of(self.place)
            | {
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(self.summary),
                "RUNNER_TEMP": str(self.place / "temp"),
            }
            | {key: self.valued(text) for key, text in step.get("env", {}).items()}
            | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if "id" in step:
            lines = output.read_text().splitlines()
            self.outputs[step["id"]] = dict(line.split("=", 1) for line in lines)
        return done

    def valued(self, text: str) -> str:
        """`text` with the values of its expressions, which are single names here."""
        return re.sub(r"\$\{\{ (.+?) \}\}", lambda found: self.either(found[1].split(" || ")), text)

    def either(self, names: list[str]) -> str:
        return next((value for name in names if (value := self.value(name))), "")

    def value(self, name: str) -> str:
        room, _, rest = name.partition(".")
        if room == "steps":
            step, _, output = rest.partition(".outputs.")
            return self.outputs[step][output]
        return {"inputs": self.inputs, "github": self.github}[room][rest]


def path_of(place: Path) -> dict[str, str]:
    """An environment in which `graphopt`, `python` and `gh` are the tests' own."""
    path = os.pathsep.join([str(place / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gates", "code", "verdict"),
    [(USED["gates"], 0, "pass"), (BROKEN, 1, "fail"), ("package_byte <= 1kB", 2, "error")],
)
def test_the_action_runs(place: Path, gates: str, code: int, verdict: str) -> None:
    job = Job(place, package=USED["package"], baseline=USED["baseline"], gates=gates)
    done = job.run("Gate")

    assert done.returncode == 0, done.stderr  # the last step ends the job, after results are kept
    assert job.outputs["gate"]["verdict"] == verdict, done.stderr
    assert job.run("Verdict").returncode == code
    assert {job.valued(each["value"]) for each in ACTION["outputs"].values()} == set(
        job.outputs["gate"].values()
    )
    if verdict == "error":
        assert "package_bytes" in done.stderr
        assert not job.summary.exists()
        return
    results = Path(job.outputs["gate"]["results"])
    report = read_result(results / "result.json")
    jsonschema.validate(
        json.loads((results / "result.json").read_text()),
        json.loads((ROOT / "docs/schemas/gate-result.schema.json").read_text()),
    )
    assert report.verdict == verdict
    assert job.summary.read_text().startswith("## ✅" if code == 0 else "## ❌")
    assert ("::error file=" in done.stdout) is (code == 1)
    written = {
        "report.html",
        "junit.xml",
        "graphopt.sarif",
        "summary.md",
        "comment.md",
        "badge.json",
        "samples.jsonl",
    }
    assert written <= {path.name for path in results.iterdir()}


def test_two_gates_of_a_job_keep_their_results_apart(place: Path) -> None:
    job = Job(place, package="gone", baseline="gone")
    found = set()
    for _ in range(2):
        job.run("Gate")
        found.add(job.outputs["gate"]["results"])

    assert len(found) == 2


def test_gates_are_words_and_not_code(place: Path) -> None:
    job = Job(place, package="tiny-int4", baseline="released", gates='$(touch planted) "; touch planted; #\n')
    job.run("Gate")

    assert job.outputs["gate"]["code"] == "2"
    assert not (place / "planted").exists()


@pytest.mark.parametrize(
    ("comments", "method", "at"),
    [("", "POST", "issues/7/comments"), ("41\n42\n", "PATCH", "issues/comments/41")],
)
def test_a_comment_is_written_once_and_then_kept_up_to_date(
    comments: str, method: str, at: str, place: Path
) -> None:
    job = Job(place)
    job.outputs["gate"] = {"results": str(place)}
    (place / "comment.md").write_text("<!-- graphopt gate 0123 -->\n## fine\n")
    done = job.run("Comment", COMMENTS=comments)
    assert done.returncode == 0, done.stderr
    looked, wrote = map(json.loads, job.asked.read_text().splitlines())

    assert looked[2] == "repos/someone/something/issues/7/comments"
    assert 'startswith("<!-- graphopt gate 0123 -->")' in looked[-1]
    assert wrote[:4] == ["api", "--method", method, f"repos/someone/something/{at}"]
    assert f"body=@{place}/comment.md" in wrote


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "gates", "code"), [("sh", None, 0), ("bash", None, 0), ("sh", BROKEN, 1)])
def test_the_template_runs(shell: str, gates: str | None, code: int, place: Path) -> None:
    example = yaml.safe_load(FILES[PIPELINE])["gate"]["variables"]
    variables = TEMPLATE["variables"] | example | ({"GRAPHOPT_GATES": gates} if gates else {})
    done = scripted(shell, TEMPLATE["script"], place, variables)

    assert done.returncode == code, done.stdout + done.stderr
    reports = TEMPLATE["artifacts"]["reports"]
    assert (place / reports["junit"]).read_text().count("<testcase ") == (1 if gates else 2)
    assert len(json.loads((place / reports["codequality"]).read_text())) == code
    assert TEMPLATE["allow_failure"]["exit_codes"] == 3


def scripted(
    shell: str, lines: list[str], place: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run lines of a job as GitLab's runner does: in one shell, until one fails."""
    return subprocess.run(
        [shell, "-ec", "\n".join(lines)],
        cwd=place,
        env=path_of(place) | dict(variables),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_hook_runs(place: Path) -> None:
    hook = yaml.safe_load(FILES[PRE_COMMIT])["repos"][0]["hooks"][0]
    (place / "exact.toml").write_text(FILES["exact.toml"])
    (released,) = (
        line
        for block in BLOCKS
        for line in block.text.splitlines()
        if "released.json" in line and block.language == "sh"
    )
    subprocess.run(["bash", "-c", released], cwd=place, env=path_of(place), check=True, capture_output=True)
    command = [*shlex.split(HOOKS[0]["entry"]), *hook["args"]]

    for text, code in ((FILES["exact.toml"], 0), ('[gates]\npackage_bytes = "<= 1kB"\n', 1)):
        (place / "exact.toml").write_text(text)
        done = subprocess.run(
            command, cwd=place, env=path_of(place), capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "watched"),
    [
        ("a/model.onnx", True),
        ("a/model.onnx.data", True),
        ("graphopt.toml", True),
        ("a/graphopt.json", True),
        ("README.md", False),
    ],
)
def test_the_hook_watches_packages_and_gates(path: str, watched: bool) -> None:
    assert (re.search(HOOKS[0]["files"], path) is not None) is watched
