"""What people ask of manifests: listings, exports, sums, the state of stores, stores to remove.

`stores` finds the store that is meant, `rows` reads it a page at a time, the others turn that into
objects and text. It must not print, and what it changes in a store is `restore`'s and `gone`'s.
"""
