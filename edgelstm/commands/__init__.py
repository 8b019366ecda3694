"""The commands of the command line, one module each. Heavy imports are inside the commands."""
