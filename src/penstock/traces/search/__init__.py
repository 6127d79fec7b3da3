"""The search language: from text to conditions and back, and what can follow while it is typed."""

from penstock.traces.search.completion import Completion, complete
from penstock.traces.search.errors import SearchInvalid
from penstock.traces.search.parser import parse
from penstock.traces.search.render import render

__all__ = ["Completion", "SearchInvalid", "complete", "parse", "render"]
