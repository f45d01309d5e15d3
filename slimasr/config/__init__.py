"""The recipe's typed schema, and reading it from YAML."""
