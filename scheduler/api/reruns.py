"""Running again what failed, is missing or has changed. Here and not in experiments, because it looks into runs' folders."""

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.api.permissions import MayView, acting_user
from experiments.api.serializers import ProblemsSerializer
from experiments.models import Experiment
from experiments.rerunning import Wanted, Which
from scheduler import reruns


class RerunQuerySerializer(serializers.Serializer[None]):
    which = serializers.ChoiceField(choices=[choice.value for choice in Which])
    dry_run = serializers.BooleanField(default=False, help_text="Only tell what would be run again.")


class RerunSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField(help_text="Of the attempt that ended.")
    name = serializers.CharField()
    kind = serializers.CharField()
    state = serializers.CharField(help_text="Of the attempt that ended.")
    attempt = serializers.IntegerField(help_text="Which the next one is.")
    why = serializers.CharField()
    changes_spec = serializers.BooleanField(help_text="It would do something else than it did.")
    next_id = serializers.IntegerField(allow_null=True, help_text="Of the next attempt; null of a dry run.")


class RerunsSerializer(serializers.Serializer[None]):
    runs = RerunSerializer(many=True)


class RerunView(GenericAPIView[Experiment]):
    queryset = Experiment.objects.all()
    permission_classes = [MayView]
    lookup_field = "name"

    @extend_schema(request=RerunQuerySerializer, responses={200: RerunsSerializer, 400: ProblemsSerializer})
    def post(self, request: Request, name: str) -> Response:
        """Run again what `failed` (or was cancelled), is `missing` or has `changed`, or tell what that would be.

        One's own, or anybody's with `experiments.control_any_run`; what would do something else than was approved needs
        `experiments.approve_plan`, too.
        """
        asked = RerunQuerySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        experiment, which = self.get_object(), Which(asked.validated_data["which"])
        user, now = acting_user(request), timezone.now()
        if asked.validated_data["dry_run"]:
            found = reruns.wanted(experiment=experiment, which=which, user=user, now=now)
            return Response({"runs": [_row(want, None) for want in found]})
        queued = reruns.rerun(experiment=experiment, which=which, user=user, now=now)
        return Response({"runs": [_row(one.wanted, one.run_id) for one in queued]})


def _row(wanted: Wanted, next_id: int | None) -> dict[str, object]:
    return RerunSerializer(
        {**vars(wanted), "id": wanted.run_id, "changes_spec": wanted.changes_spec, "next_id": next_id}
    ).data
