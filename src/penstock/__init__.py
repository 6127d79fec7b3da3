"""Penstock: all of LLM operations in one program.

Importing this package does no I/O, starts no thread and loads none of the heavy libraries; the
architecture tests hold it to that.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
