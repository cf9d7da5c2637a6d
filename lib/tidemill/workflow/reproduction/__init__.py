"""Proof of results: runs made again (replay), versions taken to another lake (copy), and two versions side by side (compare).

In: a spec, and a model version or run of its lake. Out: frozen results that commands print. The lake itself is only read; `copy`
writes to the other one.
"""
