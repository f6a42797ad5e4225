from datetime import timedelta

from django.db import migrations

AN_HOUR = timedelta(hours=1)


def give_turns(apps, schema_editor):
    """To what was ready when turns were introduced; without one a run would not be in the queue."""
    ready = apps.get_model("experiments", "Run").objects.filter(ready_at__isnull=False, turn_at__isnull=True)
    for run in ready.only("ready_at", "priority").iterator():
        ready.filter(pk=run.pk).update(turn_at=run.ready_at - run.priority * AN_HOUR)


class Migration(migrations.Migration):
    dependencies = [("experiments", "0002_queue_order")]
    operations = [migrations.RunPython(give_turns, migrations.RunPython.noop)]
