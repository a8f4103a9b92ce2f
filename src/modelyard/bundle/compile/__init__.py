"""From a fitted estimator to an ONNX graph that gives the same numbers, or the reason why not."""
