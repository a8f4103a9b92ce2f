"""The floor over gRPC: processes with grpc.aio that read the real request and send a fixed answer of the real type."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import grpc

from modelyard.protocol.messages import SERVICE, message


def fixed_answer() -> Any:
    """One row's probabilities."""
    answer = message("ModelInferResponse")(model_name="bench", model_version="1")
    answer.outputs.add(name="predict_proba", datatype="FP64", shape=[1, 2])
    answer.raw_output_contents.append(bytes(16))
    return answer


async def serve(port: int) -> None:
    """Answer until ended."""
    answer = fixed_answer()

    async def infer(request: Any, context: Any) -> Any:
        return answer

    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    handler = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=message("ModelInferRequest").FromString,
        response_serializer=message("ModelInferResponse").SerializeToString,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Start the processes and wait; with an argument, be one of them."""
    port = int(os.environ["PORT"])
    if len(sys.argv) > 1:
        asyncio.run(serve(port))
        return
    command = [sys.executable, "-m", "benchmarks.serving.bare_grpc", "one"]
    processes = [subprocess.Popen(command) for _ in range(int(os.environ["WORKERS"]))]

    def end(*_: object) -> None:
        for process in processes:
            process.terminate()

    signal.signal(signal.SIGTERM, end)
    for process in processes:
        process.wait()


if __name__ == "__main__":
    main()
