"""How a version computes: compiled in this process, or native in its own process and environment."""

import os

# Since 1.29 onnxruntime starts a thread on import that sends usage figures over the network. Nothing leaves this
# machine unasked, and a process with threads cannot be forked safely. It reads this once, when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
