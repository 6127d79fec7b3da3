"""A control application over the furnished house."""

from typing import Any

import pytest

from penstock.control.app import create_control
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished, furnished, furnished_root, house, unfurnished

__all__ = ["furnished", "furnished_root", "house", "unfurnished"]


@pytest.fixture
def app(furnished: Furnished) -> Any:
    """The control application."""
    return create_control(furnished.services)


@pytest.fixture
def owner(app: Any, furnished: Furnished) -> AsgiClient:
    """A client with the owner's key."""
    return AsgiClient(app, bearer=furnished.owner_key)
