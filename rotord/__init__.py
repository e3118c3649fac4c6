"""rotord: sends legitimate mail for many clients from many addresses."""
