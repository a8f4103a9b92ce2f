"""Functions that ONNX has not in double precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelyard.bundle.compile.graph import Value
from modelyard.domain.frame import Array


def interpolate(x: Value, marks: Array, levels: Array) -> Value:
    """Piecewise linear interpolation as ``numpy.interp`` does it: constant outside, NaN stays.

    `x` is one column; `marks` rise, repeated ones are allowed.
    """
    graph = x.graph
    if len(marks) == 1:
        return graph.where(x.isnan(), x, float(levels[0]))
    graph.needs_cells(len(marks))
    steps = np.diff(marks)
    slopes = np.divide(np.diff(levels), steps, out=np.zeros_like(steps), where=steps > 0)
    at = (x >= marks.reshape(1, -1)).cast("i8").sum() - 1
    at = graph.where(at < 0, 0, at)
    # One more line for values at or above the last mark: no slope there.
    lines = np.stack([np.append(slopes, 0.0), marks, levels], axis=1)
    line = at.rows_of(lines)
    slope, start, level = line.columns([0]), line.columns([1]), line.columns([2])
    held = x.clip(float(marks[0]), float(marks[-1]))
    return slope * (held - start) + level


def _horner(x: Value, coefficients: Sequence[float]) -> Value:
    """A polynomial, coefficients from the highest power down."""
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


# Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988): relative accuracy about 1e-16.
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_MIDDLE = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def normal_quantile(level: Value) -> Value:
    """The standard normal quantile; infinite at 0 and 1."""
    graph = level.graph
    centred = level - 0.5
    near = centred.square() * -1.0 + 0.180625
    centre = centred * (_horner(near, _CENTRE[0]) / _horner(near, _CENTRE[1]))
    rest = graph.where(centred < 0.0, level, 1.0 - level)
    depth = (-rest.log()).sqrt()
    middle = _horner(depth - 1.6, _MIDDLE[0]) / _horner(depth - 1.6, _MIDDLE[1])
    tail = _horner(depth - 5.0, _TAIL[0]) / _horner(depth - 5.0, _TAIL[1])
    size = graph.where(depth <= 5.0, middle, tail)
    size = graph.where(rest.equals(0.0), np.inf, size)
    outer = graph.where(centred < 0.0, -size, size)
    return graph.where(centred.abs() <= 0.425, centre, outer)


# Cody, Rational Chebyshev approximation for the error function, Math. Comp. 23 (1969).
_ERF_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
     3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)  # fmt: skip
_ERFC_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
     1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip
_ERFC_LARGE = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)  # fmt: skip


def erf(x: Value) -> Value:
    """The error function in double precision."""
    graph = x.graph
    size = x.abs()
    squared = x.square()
    small = x * (_horner(squared, _ERF_SMALL[0]) / _horner(squared, _ERF_SMALL[1]))
    held = size.clip(0.46875, 6.0)
    middle = (-held.square()).exp() * (_horner(held, _ERFC_MIDDLE[0]) / _horner(held, _ERFC_MIDDLE[1]))
    inverse = 1.0 / held.square()
    ratio = inverse * (_horner(inverse, _ERFC_LARGE[0]) / _horner(inverse, _ERFC_LARGE[1]))
    large = (-held.square()).exp() / held * (float(1.0 / np.sqrt(np.pi)) - ratio)
    outer = 1.0 - graph.where(held <= 4.0, middle, large)
    outer = graph.where(x < 0.0, -outer, outer)
    return graph.where(size <= 0.46875, small, outer)
