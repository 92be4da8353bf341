"""Tests run beside each other, so each process computes with one thread of its own.

Those of several, on as many cores, would wait for one another at every step.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # torch and BLAS read it when they are loaded, later than this
