"""A LlamaIndex retriever over a Penstock knowledge base. Copy it: it is all there is to it.

retriever = PenstockRetriever("handbook", k=5, user="ada")
nodes = retriever.retrieve("How long does one full sleep cycle last?")
"""

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

import penstock


class PenstockRetriever(BaseRetriever):
    """Searches one base; `options` are those of `penstock.retrieve`: k, filter, user, groups, gateway_url."""

    def __init__(self, base: str, **options) -> None:
        super().__init__()
        self._base = base
        self._options = options

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(penstock.retrieve(self._base, query_bundle.query_str, **self._options))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return _nodes(await penstock.retrieve_async(self._base, query_bundle.query_str, **self._options))


def _nodes(found: penstock.Retrieved) -> list[NodeWithScore]:
    return [
        NodeWithScore(
            score=passage.score,
            node=TextNode(
                id_=passage.passage_id,
                text=passage.text,
                metadata={
                    "file_path": passage.document,
                    "title": passage.title,
                    "section": passage.section,
                    "url": passage.url,
                    "version": found.version,
                },
            ),
        )
        for passage in found
    ]
