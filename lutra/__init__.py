"""lutra: measured latency tables of your own device, and the best subnet under your budget.

The package has six floors, each importing only those before it: ``errors``, ``ops`` (what is
measured), ``devices`` (where), ``tables`` (what came out), ``profiler`` (how it is measured),
``search`` (what to choose), ``cli``. Nothing heavy is imported here.
"""

__version__ = "0.4.0"
