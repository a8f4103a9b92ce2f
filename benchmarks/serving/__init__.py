"""How fast the data plane is: beside other servers of the same pipelines, beside bare floors, and beside its goals.

Run it with ``python -m benchmarks.serving``; `benchmarks/README.md` says what is measured and how to read it.
"""
