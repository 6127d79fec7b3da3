"""Prompts: templates with typed variables, rendering, versions, diff, files; a prompt answers like a model."""
