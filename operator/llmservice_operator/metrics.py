"""Every metric of the operator. Queue and reconcile carry controller-runtime's names, so that its dashboards work."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # They would double the page, and nobody graphs them.

CONTROLLER: Final = "llmservice"
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

QUEUE_DEPTH = Gauge("workqueue_depth", "LLMServices that wait for a worker", ["name"])
QUEUE_ADDS = Counter("workqueue_adds_total", "Keys put on the queue", ["name"])
QUEUE_RETRIES = Counter("workqueue_retries_total", "Keys put back after a failure", ["name"])
QUEUE_SECONDS = Histogram(
    "workqueue_queue_duration_seconds", "How long a key waited for a worker", ["name"], buckets=_SECONDS
)
WORK_SECONDS = Histogram("workqueue_work_duration_seconds", "How long a worker took", ["name"], buckets=_SECONDS)
UNFINISHED_SECONDS = Gauge(
    "workqueue_unfinished_work_seconds", "How long the workers have been at what they do now, all together", ["name"]
)
LONGEST_SECONDS = Gauge(
    "workqueue_longest_running_processor_seconds", "How long the slowest worker has been at what it does now", ["name"]
)

RECONCILES = Counter("controller_runtime_reconcile_total", "Reconciles by result", ["controller", "result"])
RECONCILE_ERRORS = Counter("controller_runtime_reconcile_errors_total", "Reconciles that failed", ["controller"])
RECONCILE_SECONDS = Histogram(
    "controller_runtime_reconcile_time_seconds", "Duration of a reconcile", ["controller"], buckets=_SECONDS
)
ACTIVE_WORKERS = Gauge("controller_runtime_active_workers", "Workers that are reconciling", ["controller"])
WORKERS = Gauge("controller_runtime_max_concurrent_reconciles", "Workers there are", ["controller"])

API_REQUEST_SECONDS = Histogram(
    "llmservice_operator_api_request_duration_seconds",
    "Requests to the API server, watches aside; code is the HTTP status, or error without an answer",
    ["verb", "code"],
    buckets=_SECONDS,
)
MISSING_RIGHTS = Counter(
    "llmservice_operator_missing_rights_total",
    "Requests that the operator's roles do not allow; resource is the plural with its group",
    ["verb", "resource"],
)
APPLIES = Counter(
    "llmservice_operator_applies_total",
    "Children by what applying them came to: created, updated, repaired, unchanged, refused",
    ["kind", "outcome"],
)
DRIFT_REPAIRS = Counter(
    "llmservice_operator_drift_repairs_total", "Children put back after somebody else changed them", ["kind"]
)
STATUS_WRITES = Counter("llmservice_operator_status_writes_total", "Writes of an LLMService's status")
EVENTS_DROPPED = Counter("llmservice_operator_events_dropped_total", "Events not written: rate limit or full queue")
WATCH_RESTARTS = Counter("llmservice_operator_watch_restarts_total", "Watches that were started anew", ["kind"])
LATE_EVENTS = Counter(
    "llmservice_operator_watch_late_events_total", "Watch events that came only when they were repeated", ["kind"]
)
WATCH_AGE_SECONDS = Gauge(
    "llmservice_operator_watch_age_seconds", "Since the API server last said something, bookmarks included", ["kind"]
)
LOOP_LAG_SECONDS = Gauge("llmservice_operator_event_loop_lag_seconds", "How late the event loop runs its timers")
LEADER = Gauge("llmservice_operator_leader", "Whether this replica holds the Lease and writes")
LEASE_FAILURES = Counter(
    "llmservice_operator_lease_failures_total",
    "Requests about the Lease that failed; code is the HTTP status, or error without an answer",
    ["code"],
)
LLMSERVICES = Gauge("llmservice_operator_llmservices", "LLMServices by condition", ["condition", "status"])
# A label `namespace` would be taken for the operator's own when it is scraped.
SERVING = Gauge(
    "llmservice_operator_serving", "Whether at least one replica answers", ["llmservice_namespace", "llmservice"]
)
ABNORMAL = Gauge(
    "llmservice_operator_abnormal_conditions",
    "1 for each condition that is not as it should be; an LLMService that is well, or suspended, has none",
    ["llmservice_namespace", "llmservice", "condition", "reason"],
)

# What has not happened yet is counted, too: a rate cannot see a first time that comes out of nothing.
QUEUE_RETRIES.labels(CONTROLLER)
RECONCILE_ERRORS.labels(CONTROLLER)
for _result in ("success", "error", "requeue", "requeue_after"):
    RECONCILES.labels(CONTROLLER, _result)
