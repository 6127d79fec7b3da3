"""Everything about the quality of retrieval in one place, for REST, console and commands."""

from dataclasses import dataclass

from penstock.knowledge.quality.building import QuestionBuilder
from penstock.knowledge.quality.comparing import ComparingService
from penstock.knowledge.quality.explaining import Explainer
from penstock.knowledge.quality.feedback import FeedbackService
from penstock.knowledge.quality.measuring import MeasuringService
from penstock.knowledge.quality.reporting import ReportService
from penstock.knowledge.quality.watching import TriadService


@dataclass(frozen=True, kw_only=True)
class RetrievalQuality:
    """The services. All of them may be called from any thread."""

    measuring: MeasuringService
    """Measured quality on labelled questions, over time."""
    comparing: ComparingService
    """Two generations beside each other with a verdict."""
    explainer: Explainer
    """What a question found, what it missed, and why."""
    questions: QuestionBuilder
    """Sets of labelled questions."""
    feedback: FeedbackService
    reports: ReportService
    watches: TriadService | None = None
    """Judged shares of apps' answers; None where there is no gateway to ask judges by."""
