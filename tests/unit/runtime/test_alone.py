"""What importing the compiled runtime must not start."""

import os
import subprocess
import sys

_LOOK = """
import os
import modelyard.runtime.onnx
print(len(os.listdir("/proc/self/task")))
"""


def test_importing_it_starts_no_thread_and_so_sends_nothing() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", _LOOK], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
