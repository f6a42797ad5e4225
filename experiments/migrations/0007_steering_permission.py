from django.db import migrations

OLD = "Can cancel other people's experiments and runs"
NEW = "Can cancel, pause and steer other people's experiments and runs, and the queue"


def rename(apps, schema_editor, name=NEW):
    """Django makes permissions after it has migrated, and never names one anew that is there."""
    permissions = apps.get_model('auth', 'Permission').objects
    ours = permissions.filter(content_type__app_label='experiments', codename='control_any_run')
    ours.update(name=name)


def rename_back(apps, schema_editor):
    rename(apps, schema_editor, OLD)


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('experiments', '0006_steering'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='experiment',
            options={'ordering': ['-planned_at'], 'permissions': [('approve_plan', 'Can approve plans'), ('control_any_run', NEW), ('run_commands', "Can plan runs of the lab's own commands"), ('run_own_recipes', "Can plan fine-tunes by the lab's own recipe files")]},
        ),
        migrations.RunPython(rename, rename_back),
    ]
