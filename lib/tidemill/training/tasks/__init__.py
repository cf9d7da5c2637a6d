"""The engine ``tasks``: each fit is one Spark task, which trains an estimator of a single machine on a copy of the fold's vectors.

The vectors are made by the same MLlib stages as for the engine ``spark``; what is chosen scores by Spark again, at any size.
"""
