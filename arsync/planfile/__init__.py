"""A plan in a file: what a run would do, for another day (docs/formats.md, "Plan files").

Owns the file, from the plan that is written to the one that is made again and compared.
"""
