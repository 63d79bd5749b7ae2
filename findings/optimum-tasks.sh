#!/usr/bin/env bash
# A good engineer would expect a package that installs beside transformers 5 to import beside it, and to infer the task of a model that is on the
# disk. `import optimum.exporters.tasks` of optimum 2.3.0, in an environment that pip made of optimum, transformers 5.23.0 and torch 2.13.0,
# fails: it imports `requests`, which none of them asks for any more. With it, `infer_task_from_model` refuses every local folder.
#
# Seen: ModuleNotFoundError: No module named 'requests'; then RuntimeError: Cannot infer the task from a local directory yet.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check optimum==2.3.0 transformers==5.23.0 torch==2.13.0
cd "$work"
venv/bin/python -W ignore - <<'EOF'
import importlib
import json
import subprocess
import sys
from pathlib import Path

try:
    import optimum.exporters.tasks
except ModuleNotFoundError as error:
    print(error)
    assert error.name == "requests", error
else:
    raise SystemExit("it can be imported")
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
subprocess.run([*pip, "requests==2.32.5"], check=True)
importlib.invalidate_caches()
from optimum.exporters.tasks import TasksManager

folder = Path("model")
folder.mkdir()
(folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}))
try:
    TasksManager.infer_task_from_model(str(folder))
except RuntimeError as error:
    print(error)
    assert "Cannot infer the task from a local directory yet" in str(error), error
else:
    raise SystemExit("it infers the task")
EOF
