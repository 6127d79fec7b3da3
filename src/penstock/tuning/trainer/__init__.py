"""The trainer: a program of its own that a run's frozen specification is handed to.

It is started by path in the training runtime (`PYTHON -I …/tuning/trainer/__main__.py RUN_FOLDER/run.json`), where
Penstock itself is not installed, so nothing here imports anything of Penstock but its neighbours in this folder. Torch,
transformers and PEFT are imported here and nowhere else. What it reads and writes: `docs/internals/trainer.md`.
"""
