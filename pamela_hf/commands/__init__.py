"""`pamela <command>`: one module a command, found by its name."""
