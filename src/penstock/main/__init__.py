"""The composition root: settings, wiring, the supervisor and the processes. The only reader of the environment."""
