"""Datasets over one home: its registry and blobs, and its record of traffic where there is one."""

from functools import partial

from penstock.datasets.ports import Traffic
from penstock.datasets.service import DatasetService
from penstock.main.copies import hold_copies
from penstock.registry.service import Registry
from penstock.spec.home import Home
from penstock.store.blobs import BlobStore


def create_datasets(
    home: Home, registry: Registry, blobs: BlobStore, traffic: Traffic | None = None
) -> DatasetService:
    """Return the datasets of a home. Files on their way lie where a killed backup's are cleared away, too."""
    return DatasetService(
        registry, blobs, hold_folder=partial(hold_copies, home), traffic=traffic, private_root=home.root
    )
