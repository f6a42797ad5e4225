import json
from typing import Any

from django.core.management.base import BaseCommand

from experiments import documents


class Command(BaseCommand):
    help = "Print the JSON Schema of experiment documents, for editors and checks of one's own."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(documents.json_schema(), indent=2))
