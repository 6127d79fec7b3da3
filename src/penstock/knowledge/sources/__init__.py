"""Where documents come from: kinds of sources, what they hold, when they are read again."""
