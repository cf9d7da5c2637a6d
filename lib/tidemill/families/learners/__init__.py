"""Learners of the engine `tasks`: one interface over scikit-learn, XGBoost, LightGBM and own solvers; imported in Spark tasks."""
