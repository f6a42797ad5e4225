import json
import secrets
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db import transaction

PASSWORD_BYTES = 15  # 20 characters


class Command(BaseCommand):
    help = "Creates the superuser 'admin' with a generated password, unless there is a superuser; prints it once."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help='print {"username": ..., "password": ...}, or {}'
        )

    def handle(self, *args: Any, **options: Any) -> None:
        account = create_first_admin()
        if options["json"]:
            self.stdout.write(json.dumps(account))
        elif account:
            self.stdout.write(f"Created {account['username']} with the password {account['password']}")
        else:
            self.stdout.write("There is a superuser already.")


@transaction.atomic
def create_first_admin() -> dict[str, str]:
    """The new account, whose password is stored nowhere in the clear; empty when there is a superuser."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return {}
    account = {"username": "admin", "password": secrets.token_urlsafe(PASSWORD_BYTES)}
    user, _ = users.update_or_create(
        username=account["username"], defaults={"is_staff": True, "is_superuser": True}
    )
    user.set_password(account["password"])
    user.save()
    return account
