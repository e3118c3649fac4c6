"""PostgreSQL: one module for each group of tables, each statement a constant right above the one function that runs it."""
