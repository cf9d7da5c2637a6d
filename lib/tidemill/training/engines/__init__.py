"""Where a trial is fitted: one fit on the whole cluster (`spark`), or many fits at once, each in one Spark task (`tasks`)."""
