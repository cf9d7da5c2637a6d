"""Training: model families and their spaces, the tuner, prefix-sharing cross-validation, and the refit of what it chose.

Nothing is imported here: what runs in a worker begins with this package, and needs little of it.
"""
