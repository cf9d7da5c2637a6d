"""Fixtures of the slow tier: the sample of the flights and the one run over it, as tests/e2e has them."""

from tests.e2e.conftest import demo_data, raw_flights, sample_data, whole_run

__all__ = ["demo_data", "raw_flights", "sample_data", "whole_run"]
