"""What fits models: learners of arrays for the engine `tasks`, estimators that MLlib lacks for the engine `spark`, and their models.

Enters: arrays of vectors and labels, or a DataFrame of them. Leaves: fitted models, as stages of Spark ML. The families name what is here
by dotted names, so that any of it may change without them.
"""
