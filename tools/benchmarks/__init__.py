"""The benchmarks behind tools/bench: paired runs on fresh filesystems, tables and plots.

Read `cli` first, then `copy_cases`. The rules of measuring (runs in turn, order alternated, first
round discarded, medians, a sync inside the timed window) are kept by `copy_cases` and `measure`;
the figures arsync has to reach stand in one table in `targets` and nowhere else.
"""
