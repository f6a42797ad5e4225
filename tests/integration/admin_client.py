"""The admin, as a person's browser asks for it."""

from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def url(name: str, *args: Any) -> str:
    return reverse(f"admin:{name}", args=args)
