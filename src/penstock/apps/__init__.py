"""Apps: declared chains of steps that answer under a model name of their own, each step a span."""
