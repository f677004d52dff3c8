"""The command line: ``python -m marengo_cli.demo``."""
