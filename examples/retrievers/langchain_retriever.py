"""A LangChain retriever over a Penstock knowledge base. Copy it: it is all there is to it.

retriever = PenstockRetriever(base="handbook", k=5, user="ada")
documents = retriever.invoke("How long does one full sleep cycle last?")
"""

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

import penstock


class PenstockRetriever(BaseRetriever):
    """Searches one base, as whom `user` and `groups` say. Where a document can be opened stands in its metadata."""

    base: str
    k: int = 5
    filter: str | dict | None = None
    user: str | None = None
    groups: tuple[str, ...] = ()
    gateway_url: str | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return _documents(penstock.retrieve(self.base, query, **self._options()))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        return _documents(await penstock.retrieve_async(self.base, query, **self._options()))

    def _options(self) -> dict:
        return self.model_dump(include={"k", "filter", "user", "groups", "gateway_url"})


def _documents(found: penstock.Retrieved) -> list[Document]:
    return [
        Document(
            id=passage.passage_id,
            page_content=passage.text,
            metadata={
                "source": passage.url or passage.document,
                "document": passage.document,
                "title": passage.title,
                "section": passage.section,
                "score": passage.score,
                "version": found.version,
            },
        )
        for passage in found
    ]
