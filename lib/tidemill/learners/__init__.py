"""Learners on arrays for the engine `tasks`, estimators that MLlib lacks for the engine `spark`, and their fitted models.

Enters: arrays of vectors and labels, or a DataFrame of them. Leaves: fitted models, as stages of Spark ML. Families refer to
the code here by dotted names, so that it can change without them.
"""
