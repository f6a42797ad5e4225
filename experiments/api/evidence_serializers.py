"""What was observed and fitted as JSON, and what people may say about it."""

from typing import Any

from rest_framework import serializers

from experiments import telling
from experiments.conditions import FIELDS
from experiments.models import Calibration, Estimate, Observation


class ObservationSerializer(serializers.ModelSerializer[Observation]):
    """A fact with all its conditions; what is not known is null or empty, and `incomplete_because` says so."""

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
            "incomplete_because",
            "experiment",
            "run",
            "base_model",
            *FIELDS,
            "told_by",
            "completed_by",
            "said",
            "source_tree",
            "source_file",
            "source_line",
            "observed_at",
            "changed_at",
        ]
        read_only_fields = fields


class ToldSerializer(serializers.Serializer[Any]):
    """A figure that a person tells."""

    metric = serializers.ChoiceField(choices=sorted(telling.UNITS))
    value = serializers.CharField(
        max_length=50, help_text='A number in the unit of the metric, or a text such as "4.34it/s".'
    )
    said = serializers.DictField(
        required=False, default=dict, help_text='Its conditions: {"model": "Llama-3.2-1B", "batch_size": 4}.'
    )


class CompletionSerializer(serializers.Serializer[Any]):
    """Conditions of observations whose source does not say them: of some, or of all of a tree."""

    ids = serializers.ListField(child=serializers.IntegerField(min_value=1), required=False, default=list)
    source_tree = serializers.CharField(
        required=False, default="", trim_whitespace=False, help_text="The path that they were harvested with."
    )
    said = serializers.DictField(allow_empty=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if bool(attrs["ids"]) == bool(attrs["source_tree"]):
            raise serializers.ValidationError("Give ids or a source_tree.")
        return attrs


class CompletedSerializer(serializers.Serializer[Any]):
    chosen = serializers.IntegerField(help_text="Incomplete observations that were found.")
    complete = serializers.IntegerField(help_text="How many of them are complete by it.")


class CalibrationSerializer(serializers.ModelSerializer[Calibration]):
    observations_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = Calibration
        fields = [
            "id",
            "metric",
            "model_name",
            "model_shape",
            "device_kind",
            "shared",
            "coefficients",
            "left_out",
            "error_ratio",
            "runs_count",
            "valid_from",
            "valid_to",
            "observations_count",
            "fitted_at",
        ]
        read_only_fields = fields


class PlannerErrorSerializer(serializers.Serializer[Any]):
    """How far estimates of one figure and grade were off, of runs that have ended."""

    metric = serializers.CharField()
    grade = serializers.CharField()
    n = serializers.IntegerField()
    mean_absolute_error = serializers.FloatField(help_text="Of estimate over actual, minus 1.")
    bias = serializers.FloatField(help_text="Above 0 where too much was said.")


class EstimateSerializer(serializers.ModelSerializer[Estimate]):
    """What the plan said of a run, and in `actual` what it then was."""

    class Meta:
        model = Estimate
        fields = [
            "metric",
            "value",
            "low",
            "high",
            "grade",
            "n",
            "observation_ids",
            "note",
            "actual",
            "compared_at",
        ]
        read_only_fields = fields
