"""Rows as JSON. What machines find out is read-only."""

from typing import Any

from django.conf import settings
from rest_framework import serializers

from experiments import planning
from experiments.models import BaseModel, Calibration, Dataset, Experiment, Observation
from experiments.verification import resolve_under


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    class Meta:
        model = Dataset
        fields = [
            "id",
            "name",
            "path",
            "system_prompt",
            "format",
            "generator_call",
            "split_rows",
            "content_hash",
            "problem",
            "verified_at",
            "created_at",
        ]
        read_only_fields = fields[4:]

    def validate_path(self, path: str) -> str:
        return str(resolve_under(path, settings.DATASET_ROOTS))


class BaseModelSerializer(serializers.ModelSerializer[BaseModel]):
    class Meta:
        model = BaseModel
        fields = [
            "id",
            "name",
            "path",
            "architecture",
            "parameter_count",
            "config",
            "content_hash",
            "problem",
            "verified_at",
            "created_at",
        ]
        read_only_fields = fields[3:]

    def validate_path(self, path: str) -> str:
        return str(resolve_under(path, settings.MODEL_ROOTS))


class ExperimentSerializer(serializers.ModelSerializer[Experiment]):
    created_by = serializers.SlugRelatedField[Any](slug_field="username", read_only=True)
    approved_by = serializers.SlugRelatedField[Any](slug_field="username", read_only=True)
    is_draft = serializers.BooleanField(read_only=True)
    on_node_lost = serializers.CharField(read_only=True)

    class Meta:
        model = Experiment
        fields = [
            "name",
            "question",
            "document",
            "notes",
            "max_parallel",
            "priority",
            "evaluation_hold_seconds",
            "on_node_lost",
            "is_draft",
            "created_by",
            "approved_by",
            "planned_at",
            "approved_at",
        ]
        read_only_fields = fields


class PlannedExperimentSerializer(ExperimentSerializer):
    """An experiment with its plan: one experiment at a time, because a plan can be long."""

    plan = serializers.SerializerMethodField()

    class Meta(ExperimentSerializer.Meta):
        fields = [*ExperimentSerializer.Meta.fields, "plan"]
        read_only_fields = fields

    def get_plan(self, experiment: Experiment) -> dict[str, Any]:
        return planning.stored_plan_json(experiment)


class ObservationSerializer(serializers.ModelSerializer[Observation]):
    base_model = serializers.StringRelatedField[Any]()
    experiment = serializers.CharField(source="run.cell.experiment.name", default=None, read_only=True)

    class Meta:
        model = Observation
        fields = [
            "id",
            "metric",
            "value",
            "unit",
            "is_bound",
            "is_complete",
            "experiment",
            "run",
            "base_model",
            "device_kind",
            "precision",
            "recipe",
            "lora_rank",
            "batch_size",
            "gradient_accumulation_steps",
            "max_seq_len",
            "packed",
            "world_size",
            "cpu_threads",
            "co_runners",
            "software",
            "source_file",
            "source_line",
            "observed_at",
        ]
        read_only_fields = fields


class CalibrationSerializer(serializers.ModelSerializer[Calibration]):
    observations_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = Calibration
        fields = [
            "id",
            "metric",
            "model_name",
            "device_kind",
            "coefficients",
            "error_ratio",
            "valid_from",
            "valid_to",
            "observations_count",
            "fitted_at",
        ]
        read_only_fields = fields


class ProblemSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    message = serializers.CharField()
    remedy = serializers.CharField()


class ProblemsSerializer(serializers.Serializer[Any]):
    """Why a document or a path was refused; see experiments.api.errors."""

    errors = ProblemSerializer(many=True)  # type: ignore[assignment]  # a serializer's own errors are not sent


class QueuedSerializer(serializers.Serializer[Any]):
    queued_runs = serializers.IntegerField()


class SummaryQuerySerializer(serializers.Serializer[Any]):
    FORMATS = {"json": "application/json", "csv": "text/csv", "md": "text/markdown"}

    def get_fields(self) -> dict[str, Any]:
        # `as` is no name that a class body can give
        return {"as": serializers.ChoiceField(choices=list(self.FORMATS), default="json")}
