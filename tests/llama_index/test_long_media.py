"""Long media: thousands of segments of one source, in linear time."""

import time

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore

from llama_index_marengo import MarengoSegmenter, Segmentation, SegmentDocumentStore

pytestmark = pytest.mark.slow


@pytest.fixture
def long(local, read):
    """4 hours on one track, cut to 6,000 segments."""
    local.synthetic_sec = 12_000.0
    return read(local.put(b"a long match", "match.mp4"))


def test_6000_segments_are_indexed_and_removed_in_seconds(embed_model, long):
    segmenter = MarengoSegmenter(embed_model=embed_model, options=["visual"], segmentation=Segmentation.fixed(2))
    context = StorageContext.from_defaults(docstore=SegmentDocumentStore())
    began = time.monotonic()
    index = VectorStoreIndex.from_documents(
        long, storage_context=context, embed_model=embed_model, transformations=[segmenter]
    )
    assert len(index.docstore.docs) == len(index.vector_store.data.embedding_dict) == 6000
    index.delete_ref_doc(long[0].id_, delete_from_docstore=True)
    assert index.docstore.docs == {}
    # SimpleDocumentStore takes over half a minute for each of the two.
    assert time.monotonic() - began < 50


def kept(store):
    """All but a source's own metadata: the first node's in ours, in the other it depends on how nodes were added."""
    return store.to_dict() | {
        "docstore/ref_doc_info": {key: info.node_ids for key, info in (store.get_all_ref_doc_info() or {}).items()}
    }


class TestDocstore:
    """SegmentDocumentStore keeps what SimpleDocumentStore keeps, and forgets it as well."""

    @pytest.fixture
    def nodes(self):
        def node(source, i):
            related = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)}
            return TextNode(id_=f"{source}{i}", text=f"text {i}", metadata={"start_sec": i}, relationships=related)

        return [node(source, i) for source in ("match", "other") for i in range(6)]

    @pytest.mark.parametrize("one_by_one", [True, False])
    @pytest.mark.parametrize("store_text", [True, False])
    def test_the_same(self, nodes, one_by_one, store_text):
        ours, theirs = SegmentDocumentStore(), SimpleDocumentStore()
        for store in (ours, theirs):
            for batch in [[node] for node in nodes] if one_by_one else [nodes]:
                store.add_documents(batch, store_text=store_text)
            store.add_documents(nodes[:2], store_text=store_text)
        assert kept(ours) == kept(theirs)
        for store in (ours, theirs):
            store.delete_document(nodes[1].id_, raise_error=False)
            store.delete_ref_doc(nodes[-1].ref_doc_id)
        assert kept(ours) == kept(theirs)
        for node in nodes[:6]:
            ours.delete_document(node.id_, raise_error=False)
        assert not any(ours.to_dict().values())

    async def test_async(self, nodes):
        ours, theirs = SegmentDocumentStore(), SimpleDocumentStore()
        for store in (ours, theirs):
            await store.async_add_documents(nodes)
            await store.adelete_ref_doc(nodes[0].ref_doc_id)
        assert kept(ours) == kept(theirs)

    def test_persisted_by_one_and_read_by_the_other(self, nodes, tmp_path):
        ours = SegmentDocumentStore()
        ours.add_documents(nodes)
        ours.persist(str(tmp_path / "docstore.json"))
        read = SimpleDocumentStore.from_persist_dir(str(tmp_path))
        assert read.docs == SegmentDocumentStore.from_persist_dir(str(tmp_path)).docs == ours.docs
