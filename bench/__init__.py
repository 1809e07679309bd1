"""The benchmark: this server and its peers under the same load, alternating, in one run.

``python -m bench`` from the root of the repository; ``docs/performance.rst`` tells what it measures and what came out.

In: nothing but a C compiler and Python; peers are installed into the cache directory of the person who runs it.
Out: one table as text and JSON, the bars, a chart.  The order of the modules is the way of a measurement:
:mod:`bench.scenarios` (what is measured), :mod:`bench.programs` and :mod:`bench.installing` (who), :mod:`bench.serving` (a
server as a child), :mod:`bench.loading` (the load generator, ``loadgen.c``), :mod:`bench.procfs` (what the system says),
:mod:`bench.measuring` (rounds), :mod:`bench.bars`, :mod:`bench.report` and :mod:`bench.chart` (what it means).
"""
