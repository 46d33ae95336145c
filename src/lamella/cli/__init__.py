"""The command line: `lamella`."""
