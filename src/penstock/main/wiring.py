"""Joins the rooms of one home: what one needs of another is passed in here and in the parts it is made of.

The parts are apart because each process loads only what it needs: the engine no documents, the apps no converter.
"""

from penstock.main.embedded import ModelRooms
from penstock.main.knowledge_rooms import KnowledgeRooms


class Installation(KnowledgeRooms, ModelRooms):
    """All rooms of one home, joined. Each is opened when first asked for."""
