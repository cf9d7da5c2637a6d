"""From files to a validated spec: YAML with places, overlays, variables, SQL and Python beside the spec."""
