"""The loops: leadership keeps the lease, the dispatcher begins messages, deliveries send them, the recorder writes what became of them."""
