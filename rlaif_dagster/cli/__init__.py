"""The command line, one module a command. Everything heavier than typer is imported inside the commands, so that
`rlaif --help` answers at once."""
