"""What a person can pause."""

from django.db import models
from django.utils import timezone


class Pausable(models.Model):
    """Nothing of it is started while it is paused; what runs goes on."""

    paused_at = models.DateTimeField(null=True, help_text="Nothing of it is started since then.")
    paused_by = models.CharField(max_length=150, blank=True)

    class Meta:
        abstract = True

    @property
    def pause(self) -> str:
        """Such as "is paused by ana since 2026-01-02 12:00"; empty while it is not."""
        if self.paused_at is None:
            return ""
        return f"is paused by {self.paused_by} since {timezone.localtime(self.paused_at):%Y-%m-%d %H:%M}"
