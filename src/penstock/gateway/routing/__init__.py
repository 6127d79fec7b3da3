"""Which target is asked when: the pure parts. No I/O, no clock, no randomness of their own."""
