"""Estimators of the engine `spark` that MLlib lacks."""
