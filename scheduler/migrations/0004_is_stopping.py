from django.db import migrations


class Migration(migrations.Migration):
    """`paused_at` says that a person paused the queue; this one says that labmgr is being stopped."""

    dependencies = [
        ('scheduler', '0003_steering'),
    ]

    operations = [
        migrations.RenameField(
            model_name='tickrequest',
            old_name='is_paused',
            new_name='is_stopping',
        ),
    ]
