"""What is decided: values and the time in, values out; no I/O, no clock."""
