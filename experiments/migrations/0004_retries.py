from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("experiments", "0003_turns_of_earlier_runs"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="engine_crashes_count",
            field=models.PositiveSmallIntegerField(
                default=0,
                help_text="Shared engines that broke down on it; after two it has one for itself.",
            ),
        ),
    ]
