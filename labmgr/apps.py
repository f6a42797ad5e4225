from django.apps import AppConfig


class LabmgrConfig(AppConfig):
    name = "labmgr"

    def ready(self) -> None:
        # Tasks are sent from the web process and from commands, too: they need the configured app.
        from labmgr import celery  # noqa: F401, PLC0415
