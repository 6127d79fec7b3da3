"""Wire protocols: pure encode and decode of bytes. No I/O, no settings, no clock."""
