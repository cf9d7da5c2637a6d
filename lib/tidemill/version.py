"""The version of tidemill."""

VERSION = "0.1.0"
