"""Runs, and where they run, as JSON; all of it is read-only."""

from typing import Any

from rest_framework import serializers

from experiments.api.evidence_serializers import EstimateSerializer
from experiments.models import Run
from experiments.states import RunState
from scheduler.draining import MAX_REASON_LENGTH
from scheduler.models import Device, HostReading, Job, Lease, Node, Reading, SessionState


class RunSerializer(serializers.ModelSerializer[Run]):
    """`waiting_for` is the sentence that says why a queued run waits, or a running one for its node; computed when read."""

    experiment = serializers.CharField(source="cell.experiment.name", read_only=True)
    cell = serializers.CharField(source="cell.name", read_only=True)
    waiting_for = serializers.SerializerMethodField()
    jobs = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id",
            "name",
            "kind",
            "experiment",
            "cell",
            "state",
            "reason",
            "message",
            "waiting_for",
            "jobs",
            "depends_on",
            "attempt",
            "superseded_by",
            "spec",
            "devices",
            "device_memory_mib",
            "host_memory_mib",
            "cpu_threads",
            "limit_seconds",
            "priority",
            "launches_count",
            "log_tail",
            "cancel_requested_at",
            "cancel_requested_by",
            "queued_at",
            "ready_at",
            "started_at",
            "finished_at",
            "harvested_at",
        ]
        read_only_fields = fields

    def get_waiting_for(self, run: Run) -> str:
        view = self.context["view"]
        if run.state == RunState.QUEUED:
            return str(view.waiting_reasons.get(run.pk, ""))
        return str(view.away_notes.get(run.pk, "")) if run.state == RunState.RUNNING else ""

    def get_jobs(self, run: Run) -> list[int]:
        return [launch.job_id for launch in run.launches.all()]


class EstimatedRunSerializer(RunSerializer):
    """A run with its estimates: one run at a time, because they name all their observations."""

    estimates = EstimateSerializer(many=True, read_only=True)

    class Meta(RunSerializer.Meta):
        fields = [*RunSerializer.Meta.fields, "estimates"]
        read_only_fields = fields


class LeaseSerializer(serializers.ModelSerializer[Lease]):
    device = serializers.CharField(source="device.place", read_only=True)
    kind = serializers.CharField(source="device.kind", read_only=True)

    class Meta:
        model = Lease
        fields = ["device", "kind", "memory_mib", "released_at"]
        read_only_fields = fields


class JobSerializer(serializers.ModelSerializer[Job]):
    node = serializers.StringRelatedField[Any]()
    experiment = serializers.StringRelatedField[Any]()
    is_simulated = serializers.BooleanField(source="node.is_simulated", read_only=True)
    runs = serializers.SerializerMethodField()
    leases = LeaseSerializer(many=True, read_only=True)

    class Meta:
        model = Job
        fields = [
            "id",
            "title",
            "node",
            "is_simulated",
            "experiment",
            "runs",
            "leases",
            "state",
            "limit_seconds",
            "host_memory_mib",
            "cpu_threads",
            "directory",
            "cancel_requested_at",
            "exit_code",
            "exit_signal",
            "ending",
            "message",
            "peak_rss_mib",
            "cpu_seconds",
            "placed_at",
            "claimed_at",
            "started_at",
            "ended_at",
        ]
        read_only_fields = fields

    def get_runs(self, job: Job) -> list[int]:
        return [launch.run_id for launch in job.launches.all()]


class DeviceSerializer(serializers.ModelSerializer[Device]):
    """`foreign_mib` is what others' programs use of it, which is not offered; `free_mib` what a job could have now."""

    node = serializers.StringRelatedField[Any]()

    class Meta:
        model = Device
        fields = [
            "id",
            "node",
            "index",
            "kind",
            "uuid",
            "model_name",
            "memory_mib",
            "allocated_mib",
            "foreign_mib",
            "free_mib",
            "foreign_use",
            "utilisation_percent",
            "state",
            "state_message",
            "queue_name",
        ]
        read_only_fields = fields


class NodeSerializer(serializers.ModelSerializer[Node]):
    session_state = serializers.ChoiceField(choices=SessionState.choices, read_only=True)

    class Meta:
        model = Node
        fields = [
            "id",
            "name",
            "pool",
            "is_simulated",
            "is_draining",
            "drain_message",
            "session_state",
            "session_epoch",
            "session_renewed_at",
            "host_memory_mib",
            "cpu_threads",
            "allocated_host_memory_mib",
            "allocated_cpu_threads",
        ]
        read_only_fields = fields


class DrainedDeviceSerializer(DeviceSerializer):
    """With what was said of it before, where it took no jobs already."""

    drained_before = serializers.CharField(allow_null=True, read_only=True)

    class Meta(DeviceSerializer.Meta):
        fields = [*DeviceSerializer.Meta.fields, "drained_before"]
        read_only_fields = fields


class DrainedNodeSerializer(NodeSerializer):
    """With what was said of it before, where it took no jobs already."""

    drained_before = serializers.CharField(allow_null=True, read_only=True)

    class Meta(NodeSerializer.Meta):
        fields = [*NodeSerializer.Meta.fields, "drained_before"]
        read_only_fields = fields


class ReadingSerializer(serializers.ModelSerializer[Reading]):
    class Meta:
        model = Reading
        fields = [
            "at",
            "used_mib",
            "foreign_mib",
            "utilisation_percent",
            "temperature_celsius",
            "power_watts",
        ]
        read_only_fields = fields


class HostReadingSerializer(serializers.ModelSerializer[HostReading]):
    class Meta:
        model = HostReading
        fields = ["at", "used_mib", "load"]
        read_only_fields = fields


class QueueSerializer(serializers.Serializer[Any]):
    paused_at = serializers.DateTimeField(allow_null=True)
    paused_by = serializers.CharField()
    queued_runs = serializers.IntegerField()


class DrainSerializer(serializers.Serializer[Any]):
    because = serializers.CharField(
        default="", allow_blank=True, max_length=MAX_REASON_LENGTH, help_text="Why."
    )


class HoursSerializer(serializers.Serializer[Any]):
    hours = serializers.FloatField(min_value=0.01, max_value=336, default=1)


class LinesSerializer(serializers.Serializer[Any]):
    lines = serializers.IntegerField(min_value=1, max_value=5000, default=200)


class LossPointSerializer(serializers.Serializer[Any]):
    step = serializers.IntegerField()
    loss = serializers.FloatField(allow_null=True, help_text="null where it was not a finite number")
