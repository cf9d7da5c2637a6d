"""Production machine learning on Apache Spark, Delta Lake and Spark MLlib, from one declared pipeline."""

from tidemill.version import VERSION

__all__ = ["__version__"]
__version__ = VERSION
