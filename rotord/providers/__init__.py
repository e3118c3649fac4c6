"""Ways out: what carries a message off this machine. Each keeps the promises of `base.Provider`."""
