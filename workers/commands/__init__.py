"""The groups of the command line, a module each; `workers.cli` puts them together."""
