"""Run a command that makes something; print its wall seconds and the peak memory of its largest process.

python benchmarks/_timed.py LOG COMMAND...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main() -> None:
    log, *command = sys.argv[1:]
    started = time.perf_counter()
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed, see {log}")
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_rss_mb": usage.ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
