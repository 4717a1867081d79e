"""Which version of a flow runs in test; what runs live stands in the flow itself."""

from typing import Any

from connectors.tables import partial
from kernel.tenancy import Owned


class FlowInTest(Owned, table=True):
    """The version of a flow that runs in test; its id is the flow's."""

    __table_args__ = (
        partial(
            "ix_flow_in_test_listening",
            "organization_id",
            "listens_to",
            where="state = 'active'",
        ),
    )

    published_version: int
    state: str = "active"  # active | paused
    # copies of the published trigger, as in Flow
    listens_to: str | None = None
    listens_version: int | None = None
    listens_source_id: str | None = None
    listens_connection_id: str | None = None
    lane: str | None = None


IN_TEST: Any = FlowInTest.__table__  # type: ignore[attr-defined]
