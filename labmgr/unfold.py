"""How the admin looks: Unfold's settings."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: request.user.has_perm(permission)


def _static(path: str) -> Callable[[HttpRequest], str]:
    return lambda request: static(path)


def _flower(request: HttpRequest) -> str:
    url: str = settings.FLOWER_URL
    return url


def _list(title: str, icon: str, model: str) -> dict[str, Any]:
    app, _, name = model.partition(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": _may(f"{app}.view_{name}"),
    }


UNFOLD = {
    "SITE_TITLE": "labmgr",
    "SITE_HEADER": "labmgr",
    "SITE_SUBHEADER": "Lab manager",
    "SITE_URL": "/admin/",
    "SITE_SYMBOL": "science",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": _static("experiments/favicon.svg")},
    ],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "STYLES": [_static("experiments/lab.css")],
    "SCRIPTS": [_static("experiments/charts.js")],
    "DASHBOARD_CALLBACK": "scheduler.admin.dashboard.context",
    "COLORS": {
        "primary": {
            "50": "oklch(96.2% .018 272.314)",
            "100": "oklch(93% .034 272.788)",
            "200": "oklch(87% .065 274.039)",
            "300": "oklch(78.5% .115 274.713)",
            "400": "oklch(67.3% .182 276.935)",
            "500": "oklch(58.5% .233 277.117)",
            "600": "oklch(51.1% .262 276.966)",
            "700": "oklch(45.7% .24 277.023)",
            "800": "oklch(39.8% .195 277.366)",
            "900": "oklch(35.9% .144 278.697)",
            "950": "oklch(25.7% .09 281.288)",
        }
    },
    "SIDEBAR": {
        "show_search": False,
        "navigation": [
            {
                "items": [
                    {"title": "Dashboard", "icon": "dashboard", "link": reverse_lazy("admin:index")},
                    _list("Experiments", "science", "experiments.experiment"),
                    _list("Runs", "play_circle", "experiments.run"),
                ]
            },
            {
                "title": "Machines",
                "items": [
                    _list("Jobs", "terminal", "scheduler.job"),
                    _list("Devices", "memory", "scheduler.device"),
                    _list("Nodes", "dns", "scheduler.node"),
                ],
            },
            {
                "title": "Material",
                "items": [
                    _list("Datasets", "database", "experiments.dataset"),
                    _list("Models", "deployed_code", "experiments.basemodel"),
                ],
            },
            {
                "title": "Evidence",
                "items": [
                    _list("Observations", "straighten", "experiments.observation"),
                    _list("Calibrations", "tune", "experiments.calibration"),
                ],
            },
            {
                "title": "Access",
                "collapsible": True,
                "items": [
                    _list("Users", "person", "auth.user"),
                    _list("Groups", "group", "auth.group"),
                    _list("Tokens", "key", "authtoken.tokenproxy"),
                ],
            },
            {
                "title": "Elsewhere",
                "items": [
                    {"title": "API", "icon": "api", "link": reverse_lazy("api-docs")},
                    {"title": "Flower", "icon": "local_florist", "link": _flower},
                ],
            },
        ],
    },
}
