"""The step evaluate: metrics of test rows and the gates."""
