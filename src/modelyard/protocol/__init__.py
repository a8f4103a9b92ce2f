"""Bodies of requests and answers to frames and back: Open Inference Protocol, plain rows, invocations."""
