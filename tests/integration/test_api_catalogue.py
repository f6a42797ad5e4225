"""Datasets and models that people declare over HTTP."""

from pathlib import Path

import pytest
from django.conf import LazySettings
from rest_framework.test import APIClient

from experiments.models import BaseModel, Dataset
from tests import factories
from tests.integration.api_client import API, client_of


@pytest.fixture
def keeper(db: None) -> APIClient:
    names = [f"{verb}_{model}" for verb in ("view", "add", "change") for model in ("dataset", "basemodel")]
    return client_of(factories.make_user(permissions=[f"experiments.{name}" for name in names]))


@pytest.fixture
def roots(settings: LazySettings, tmp_path: Path) -> Path:
    settings.DATASET_ROOTS = settings.MODEL_ROOTS = [tmp_path / "declared"]
    (tmp_path / "declared").mkdir()
    (tmp_path / "declared" / "data.json").write_text("{}")
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "declared" / "link.json").symlink_to(tmp_path / "secret.json")
    return tmp_path


@pytest.mark.parametrize(("address", "model"), [("datasets", Dataset), ("models", BaseModel)])
def test_a_path_under_a_declared_root_is_taken_up(
    keeper: APIClient, roots: Path, address: str, model: type[Dataset] | type[BaseModel]
) -> None:
    body = {
        "name": "letters",
        "path": "data.json",
        "content_hash": "told",
        "verified_at": "2026-01-01T00:00:00Z",
    }
    response = keeper.post(f"{API}/{address}/", body, format="json")
    assert response.status_code == 201, response.data
    stored = model.objects.get()
    assert stored.path == str(roots / "declared" / "data.json")
    assert (stored.content_hash, stored.verified_at) == ("", None)


@pytest.mark.parametrize("address", ["datasets", "models"])
@pytest.mark.parametrize("path", ["missing.json", "../secret.json", "link.json", "/etc/passwd"])
def test_a_path_elsewhere_is_refused(keeper: APIClient, roots: Path, address: str, path: str) -> None:
    response = keeper.post(f"{API}/{address}/", {"name": "letters", "path": path}, format="json")
    assert response.status_code == 400
    assert response.data["errors"][0]["path"] == "path"
    assert response.data["errors"][0]["remedy"]
    assert not Dataset.objects.exists() and not BaseModel.objects.exists()


def test_a_changed_dataset_is_no_longer_verified(keeper: APIClient, roots: Path) -> None:
    dataset = factories.make_dataset()
    response = keeper.patch(f"{API}/datasets/{dataset.pk}/", {"path": "data.json"}, format="json")
    assert response.status_code == 200, response.data
    assert (response.data["verified_at"], response.data["content_hash"]) == (None, "")
