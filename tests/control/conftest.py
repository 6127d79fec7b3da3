"""A control application over the furnished house."""

from typing import Any

import pytest

from penstock.control.app import create_control
from tests.fixtures.asgi import AsgiClient
from tests.fixtures.furnished import Furnished, build_furnished, furnished, unfurnished

__all__ = ["build_furnished", "furnished", "unfurnished"]


@pytest.fixture
def app(furnished: Furnished) -> Any:
    """The control application."""
    return create_control(furnished.services)


@pytest.fixture
def owner(app: Any, furnished: Furnished) -> AsgiClient:
    """A client with the owner's key."""
    return AsgiClient(app, bearer=furnished.owner_key)
