"""The engine in virtual time: real loops and a real pool between a database in memory and providers that misbehave."""
