"""All settings. Defaults work at once on one machine; what a lab changes comes from the environment."""

import os
import secrets
import socket
import sys
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from experiments.states import RunKind, RunState
from labmgr import env

BASE_DIR = Path(__file__).resolve().parent.parent
LABMGR_HOME = env.path("LABMGR_HOME", BASE_DIR / "var")


def _secret_key() -> str:
    """The key from its 0600 file, made at the first start."""
    key_file = env.path("DJANGO_SECRET_KEY_FILE", LABMGR_HOME / "secrets" / "secret_key")
    key_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return key_file.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(64))
    return key_file.read_text().strip()


SECRET_KEY = _secret_key()
DEBUG = env.flag("LABMGR_DEBUG", False)
HTTPS = env.flag("LABMGR_HTTPS", False)
ALLOWED_HOSTS = env.names("LABMGR_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.names("LABMGR_TRUSTED_ORIGINS", [])

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "labmgr",  # before Unfold, of whose templates it has one of its own
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "experiments",
    "scheduler",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "labmgr.urls"
WSGI_APPLICATION = "labmgr.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

SQLITE_PATH = LABMGR_HOME / "db" / "labmgr.sqlite3"
_SQLITE_OPTIONS = {
    "timeout": 30,
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}
# A cut link is noticed within seconds: by us, who wait for an answer, and by the server, which would keep the rows
# locked that a lost node was writing. A client that was stopped in a transaction loses it, too.
_POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "options": "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=20000 -c idle_in_transaction_session_timeout=60000",
}
DATABASE_URL = env.text("DATABASE_URL", f"sqlite:///{SQLITE_PATH}")
DATABASES = {"default": dict(dj_database_url.parse(DATABASE_URL))}
if DATABASE_URL.startswith("sqlite"):
    SQLITE_PATH.parent.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = _SQLITE_OPTIONS
    # Tests need a file, too: a database in memory knows neither WAL nor waiting for a lock.
    DATABASES["default"]["TEST"] = {"NAME": str(SQLITE_PATH.with_name("test.sqlite3"))}
else:
    named = DATABASES["default"].get("OPTIONS", {})
    DATABASES["default"]["OPTIONS"] = {**_POSTGRES_OPTIONS, **dict(named)}  # type: ignore[call-overload]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"

USE_TZ = True
TIME_ZONE = env.text("LABMGR_TIME_ZONE", "UTC")
STATIC_URL = "static/"
STATIC_ROOT = LABMGR_HOME / "static"
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

# Where things lie
RUN_ROOT = env.path("LABMGR_RUN_ROOT", LABMGR_HOME / "runs")
CONTROL_ROOT = LABMGR_HOME / "control"
CACHE_ROOT = LABMGR_HOME / "cache"
DATASET_ROOTS = env.paths("LABMGR_DATASET_ROOTS", [LABMGR_HOME / "datasets"])
RECIPE_ROOTS = env.paths("LABMGR_RECIPE_ROOTS", [LABMGR_HOME / "recipes"])
MODEL_ROOTS = env.paths("LABMGR_MODEL_ROOTS", [LABMGR_HOME / "models"])
DEFAULTS_FILE = env.path("LABMGR_DEFAULTS", BASE_DIR / "experiments" / "defaults.yaml")
ML_PYTHON = env.path("LABMGR_ML_PYTHON", LABMGR_HOME / "env" / "ml" / "bin" / "python")

# Nodes and jobs
NODE_NAME = env.text(
    "LABMGR_NODE_NAME", "".join(c if c.isalnum() else "-" for c in socket.gethostname().lower())
)
POOL = env.text("LABMGR_POOL", "")
CPU_SLOTS = env.integer("LABMGR_CPU_SLOTS", os.cpu_count() or 1, minimum=1)
READ_EVERY_SECONDS = env.integer("LABMGR_READ_EVERY", 15, minimum=1)
TOLERATED_PROGRAMS = env.names("LABMGR_TOLERATED_PROGRAMS", [])
SIMULATED_DEVICES = env.text("SIMULATED_DEVICES", "")
NODE_LOST_AFTER_SECONDS = env.integer("NODE_LOST_AFTER", 600, minimum=10)
GRACE_SECONDS = env.integer("LABMGR_GRACE_SECONDS", 10)
NODE_MARGIN_SECONDS = 3  # what a node's own clock and a loaded machine may be late by
if NODE_LOST_AFTER_SECONDS < GRACE_SECONDS + NODE_MARGIN_SECONDS + 4:
    raise ImproperlyConfigured(
        f"NODE_LOST_AFTER={NODE_LOST_AFTER_SECONDS} leaves no time to end jobs before; make it at least "
        f"LABMGR_GRACE_SECONDS + {NODE_MARGIN_SECONDS + 4} ({GRACE_SECONDS + NODE_MARGIN_SECONDS + 4})."
    )

SCHEDULE = "scheduler.outlook.LabSchedule"  # what tells plans of devices and of the queue (experiments.fleet)

# Celery: messages carry ids only, may be lost or doubled, and change nothing then (docs/architecture.md)
REDIS_SOCKET = env.path("LABMGR_REDIS_SOCKET", LABMGR_HOME / "run" / "redis.sock")
REDIS_URL = env.text("REDIS_URL", f"redis+socket://{REDIS_SOCKET}?virtual_host=0")
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "control"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {"priority_steps": [0], "socket_connect_timeout": 2, "socket_timeout": 10}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "labmgr.beat:SteadyScheduler"
CELERY_BEAT_SCHEDULE = {
    "safety-net": {"task": "scheduler.tasks.tick", "schedule": 10.0},
    "learn": {"task": "scheduler.tasks.learn", "schedule": 15.0, "options": {"expires": 15}},
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.DjangoModelPermissions"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "PAGE_SIZE": 100,
    "EXCEPTION_HANDLER": "experiments.api.errors.handle",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "labmgr",
    "DESCRIPTION": "Plan, run and compare language-model experiments.",
    "VERSION": "1",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "DeviceKindEnum": "scheduler.models.Device.Kind",
        "DeviceStateEnum": "scheduler.models.Device.State",
        "RunKindEnum": [str(kind) for kind in RunKind],
        "RunStateEnum": [str(state) for state in RunState],
    },
}

FLOWER_URL = env.text(
    "LABMGR_FLOWER_URL", f"http://localhost:{env.integer('LABMGR_FLOWER_PORT', 5555, minimum=1)}/"
)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": sys.stderr}},
    "root": {"handlers": ["stderr"], "level": env.text("LABMGR_LOG_LEVEL", "INFO")},
}

from labmgr.unfold import UNFOLD  # noqa: E402, F401
