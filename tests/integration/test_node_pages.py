"""Whether a node is there is told where nodes are shown."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from tests.conftest import People
from tests.factories import make_node

AGO = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("fields", "state", "label"),
    [
        ({}, "live", "available"),
        ({"session_renewed_at": None}, "never", "never"),
        ({"session_renewed_at": timezone.now() - AGO}, "away", "away"),
        ({"session_lost_at": timezone.now()}, "lost", "lost"),
        ({"is_draining": True}, "live", "drained"),
    ],
)
def test_a_node_that_takes_no_jobs_is_not_called_available(
    people: People, fields: dict[str, object], state: str, label: str
) -> None:
    node = make_node(pool="h100", **fields)
    client, api = Client(), APIClient()
    client.force_login(people.owner)
    api.force_authenticate(people.owner)
    told = api.get(f"/api/v1/nodes/{node.pk}/").data
    assert (told["session_state"], told["pool"]) == (state, "h100")
    for page in ("/admin/scheduler/node/", f"/admin/scheduler/node/{node.pk}/change/"):
        assert f">{label}</span>" in client.get(page).content.decode()
