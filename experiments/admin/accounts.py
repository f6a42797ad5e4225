"""People, groups and API tokens, in Unfold's clothes."""

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from rest_framework.authtoken.admin import TokenAdmin as RestTokenAdmin
from rest_framework.authtoken.models import TokenProxy
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

if TYPE_CHECKING:  # Unfold has no types of its own

    class _Unfold: ...

    _UserAdmin = DjangoUserAdmin[User]
else:
    from unfold.admin import ModelAdmin as _Unfold

    _UserAdmin = DjangoUserAdmin

admin.site.unregister([User, Group, TokenProxy])


@admin.register(User)
class UserAdmin(_UserAdmin, _Unfold):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_per_page = 25


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, _Unfold):
    list_per_page = 25


@admin.register(TokenProxy)
class TokenAdmin(RestTokenAdmin, _Unfold):
    list_per_page = 25
