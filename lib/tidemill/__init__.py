"""Production machine learning on Apache Spark, Delta Lake and Spark MLlib, from one declared pipeline."""

from tidemill.version import VERSION as __version__

__all__ = ["__version__"]
