"""What arsync remembers of a destination between runs.

The only package that imports lmdb. `format` has the bytes of a page (docs/formats.md), `identity`
says which tree a directory is, `places` finds the store of a tree, `store` reads and writes one.
It must not know what a row is good for: that is the planner's business.
"""
