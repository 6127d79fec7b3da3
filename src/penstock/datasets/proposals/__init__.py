"""Cases that a model proposes and a person accepts: asking, strict reading, the queue, and the version that they make."""
