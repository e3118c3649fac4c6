"""The commands of `rotord`, one module a group; `main` is the console script."""
