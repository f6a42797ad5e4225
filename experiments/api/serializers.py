"""Rows as JSON. What machines find out is read-only."""

from typing import Any

from django.conf import settings
from rest_framework import serializers

from experiments import planning
from experiments.models import BaseModel, Dataset, Experiment, PlanEntry, Proposal
from experiments.verification import resolve_under


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    class Meta:
        model = Dataset
        fields = [
            "id",
            "name",
            "path",
            "system_prompt",
            "input_column",
            "output_column",
            "messages_column",
            "format",
            "generator_call",
            "split_rows",
            "findings",
            "content_hash",
            "problem",
            "verified_at",
            "created_at",
        ]
        read_only_fields = fields[7:]

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
            "shape",
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
    probes_of = serializers.SlugRelatedField[Any](slug_field="name", read_only=True)
    on_node_lost = serializers.CharField(read_only=True)
    notes = serializers.SerializerMethodField()

    class Meta:
        model = Experiment
        fields = [
            "name",
            "question",
            "document",
            "notes",
            "max_parallel",
            "max_parallel_is_auto",
            "priority",
            "evaluation_hold_seconds",
            "on_node_lost",
            "is_draft",
            "probes_of",
            "estimated_at",
            "created_by",
            "approved_by",
            "planned_at",
            "approved_at",
            "paused_at",
            "paused_by",
        ]
        read_only_fields = fields

    def get_notes(self, experiment: Experiment) -> list[str]:
        return planning.notes(experiment)


class PlannedExperimentSerializer(ExperimentSerializer):
    """An experiment with its plan: one experiment at a time, because a plan can be long."""

    plan = serializers.SerializerMethodField()

    class Meta(ExperimentSerializer.Meta):
        fields = [*ExperimentSerializer.Meta.fields, "plan"]
        read_only_fields = fields

    def get_plan(self, experiment: Experiment) -> dict[str, Any]:
        return planning.stored_plan_json(experiment)


class ProblemSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    message = serializers.CharField()
    remedy = serializers.CharField()


class ProblemsSerializer(serializers.Serializer[Any]):
    """Why a document or a path was refused; see experiments.api.errors."""

    errors = ProblemSerializer(many=True)  # type: ignore[assignment]  # a serializer's own errors are not sent


class ProposalSerializer(serializers.ModelSerializer[Proposal]):
    """A change of the document, or probes, that evidence speaks for; decided by its `id`."""

    kind = serializers.CharField(read_only=True, help_text="change or probe")
    state = serializers.CharField(read_only=True, help_text="open, accepted or declined")

    class Meta:
        model = Proposal
        fields = [
            "id",
            "key",
            "kind",
            "title",
            "reason",
            "changes",
            "cells",
            "observation_ids",
            "state",
            "decided_by",
            "decided_at",
        ]
        read_only_fields = fields


class EntrySerializer(serializers.ModelSerializer[PlanEntry]):
    """A line of a plan's log; `by` is empty for labmgr itself."""

    kind = serializers.CharField(read_only=True, help_text="verified, found, computed, asked or decided")

    class Meta:
        model = PlanEntry
        fields = ["at", "kind", "text", "by"]
        read_only_fields = fields


class AnswersSerializer(serializers.Serializer[Any]):
    answers = serializers.DictField(
        required=False, help_text='To the questions of the plan, by their keys: {"fixed.epochs": 2}.'
    )


class UnansweredSerializer(serializers.Serializer[Any]):
    detail = serializers.CharField()
    questions = serializers.ListField(child=serializers.DictField())


class WindowSerializer(serializers.Serializer[Any]):
    max_parallel = serializers.JSONField(
        allow_null=True,
        default=None,
        help_text="Jobs of it at the same time: a whole number of 1 or more, or auto.",
    )


class QueuedSerializer(serializers.Serializer[Any]):
    queued_runs = serializers.IntegerField()


class SummaryQuerySerializer(serializers.Serializer[Any]):
    FORMATS = {"json": "application/json", "csv": "text/csv", "md": "text/markdown"}

    format = serializers.ChoiceField(choices=list(FORMATS), default="json")
