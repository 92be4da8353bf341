"""What the host needs to launch an op's kernels, told from what the op took alone.

A GPU works beside its host: the host launches kernels one by one and runs ahead, so an op that is
run over and over takes the longer of both, ``max(launch, device)``. In a network the host's lead
carries over from op to op, and what it takes is ``max(sum of launches, sum of devices)``, not
the sum of the larger ones. A table that knows both, ``latency_ms`` and ``device_ms``, says what
the host needs wherever the host was the slower one. Where it was not, what kernels cost to launch
elsewhere is the best guess, and ``latency_ms`` a limit to it.

Alone, an op also pays once per run what a network pays only once for all of its ops (the call,
its input and output). That is told apart by ops of few and of many kernels.
"""

from __future__ import annotations

import numpy as np

from lutra.predictors.efficiency.composition import Floats
from lutra.tables.measurement import LAUNCH_BOUND

_SPREAD = 2.0  # ops that differ less in kernels cannot tell a run's cost from their kernels'


def launch_latencies(latencies_ms: Floats, device_ms: Floats, kernels: Floats) -> Floats | None:
    """(ops,): ms the host needs for each op in a network; NaN where a latency is unknown.

    ``latencies_ms`` and ``device_ms`` (ops,) are those of ops alone, ``kernels`` counts their
    nodes. None where no op was held up by its host, so that nothing is known of launches.
    """
    bound = (latencies_ms > LAUNCH_BOUND * device_ms) & (kernels > 0)
    if not bound.any():
        return None
    run_ms, kernel_ms = _run_and_kernel(latencies_ms[bound], kernels[bound])
    most = np.maximum(latencies_ms - run_ms, 0.0)
    launches: Floats = np.where(bound, most, np.minimum(most, kernel_ms * kernels))
    launches[np.isnan(device_ms)] = np.nan
    return launches


def _run_and_kernel(latencies_ms: Floats, kernels: Floats) -> tuple[float, float]:
    """What the host spends on each run and on each kernel of launch-bound ops, in ms."""
    if kernels.max() >= _SPREAD * kernels.min():
        design = np.stack([np.ones(len(kernels)), kernels], axis=1) / latencies_ms[:, None]
        run, kernel = np.linalg.lstsq(design, np.ones(len(kernels)), rcond=None)[0]
        if run > 0.0 and kernel > 0.0:
            return float(run), float(kernel)
    return 0.0, float(np.median(latencies_ms / kernels))
