"""The command line: argument parsing and printing only. The work is done in `main` and below."""
