"""The process that steps run in: Java and Spark, sessions, errors of Spark and of the machine, secrets, files, terminals.

Modules here import no other package than `tidemill.errors`; most of them import no Spark.
"""
