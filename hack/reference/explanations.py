"""What each condition means, and for each reason its cause, its fix and a command that shows more."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from llmservice_operator.conditions import ConditionType, Reason, WarningReason


class Explanation(NamedTuple):
    """One row of the page. `fix` and `command` are empty where there is nothing to do."""

    cause: str
    fix: str = ""
    command: str = ""


MEANINGS: Final[Mapping[ConditionType, str]] = {
    ConditionType.READY: "Everything the spec asks for is there: all replicas of the wanted revision are ready. Always "
    "present; before the operator has seen a change of the spec it is never true for it.",
    ConditionType.SERVING: "At least one replica answers requests. Stays true through a rolling update.",
    ConditionType.RECONCILING: "Something moves toward the spec. Present only while true.",
    ConditionType.STALLED: "Nothing moves until somebody acts, or what is missing appears. Present only while true.",
    ConditionType.CONFIGURATION_VALID: "The spec can be carried out: what it names exists and is allowed.",
    ConditionType.MODEL_CACHED: "The model's files lie on the volume from which replicas load them.",
    ConditionType.SCHEDULED: "Every pod has found a node.",
    ConditionType.VERIFIED: "The model answers the prompts of `spec.rollout.verification` as expected, or none are "
    "asked for. A replica is not ready before.",
    ConditionType.AUTOSCALING_ACTIVE: "The autoscaler does its work, or none is asked for.",
    ConditionType.DEGRADED: "Something that runs does not run as asked. Abnormal when true.",
    ConditionType.UPDATE_PENDING: "This operator, or a profile, would make the replicas differently from what runs. "
    "Abnormal when true.",
    ConditionType.DRIFTED: "A child was changed by others within the last hour, and put back. Abnormal when true.",
    ConditionType.PAUSED: "The operator keeps its hands off. Abnormal when true.",
}

_DESCRIBE = "kubectl describe llmservice NAME"
_PODS = "kubectl describe pods -l app.kubernetes.io/instance=NAME"
_SERVER_LOG = "kubectl logs deployment/NAME"
_WARMUP_LOG = "kubectl logs -l app.kubernetes.io/instance=NAME,app.kubernetes.io/component=warmup"
_WARMUP_JOB = "kubectl describe jobs -l app.kubernetes.io/instance=NAME"
_CONFIGURATION = "kubectl get configmaps -n llmservice-system -o yaml"
_HPA = "kubectl describe hpa NAME"
_CLAIM = "kubectl describe pvc -l app.kubernetes.io/instance=NAME"

REASON_EXPLANATIONS: Final[Mapping[Reason, Explanation]] = {
    Reason.NOT_YET_OBSERVED: Explanation(
        "The operator has not looked yet, or cannot know.",
        "Wait some seconds; if it stays, see whether the operator runs.",
        "kubectl get pods -n llmservice-system",
    ),
    Reason.ALL_REPLICAS_READY: Explanation("All replicas of the wanted revision are ready."),
    Reason.SUSPENDED: Explanation(
        "`spec.suspend` is true or `spec.replicas` is 0: no replica is wanted.",
        "Set `spec.suspend` to false, or scale up.",
        "kubectl scale llmservice NAME --replicas=1",
    ),
    Reason.ROLLOUT_IN_PROGRESS: Explanation(
        "Replicas of a new revision are replacing the old ones.", "Wait.", "kubectl get llmservice NAME --watch"
    ),
    Reason.REPLICAS_NOT_READY: Explanation(
        "Fewer replicas are ready than asked for; they start or are being replaced.", "Wait.", _PODS
    ),
    Reason.ENDPOINTS_READY: Explanation("At least one replica is ready and stands behind the Service."),
    Reason.NO_READY_ENDPOINTS: Explanation(
        "No replica is ready. `Ready` says what holds them back.", "Follow the reason of `Ready`.", _DESCRIBE
    ),
    Reason.CACHING: Explanation("The warm-up Job fills the cache.", "Wait.", _WARMUP_LOG),
    Reason.SCHEDULING: Explanation("Pods wait for a node.", "Wait.", _PODS),
    Reason.STARTING: Explanation("Replicas start and load the model.", "Wait.", _SERVER_LOG),
    Reason.VERIFYING: Explanation("A replica answers the golden prompts.", "Wait.", _SERVER_LOG),
    Reason.ROLLING_OUT: Explanation(
        "A new revision replaces the old one.", "Wait.", "kubectl rollout status deployment/NAME"
    ),
    Reason.ROLLING_BACK: Explanation(
        "A new revision was at fault; the last good one is being put back.", "Wait.", _DESCRIBE
    ),
    Reason.SCALING: Explanation("The number of replicas changes.", "Wait.", "kubectl get deployment NAME"),
    Reason.DELETING: Explanation(
        "The LLMService is being deleted; its replicas finish their requests.", "Wait.", "kubectl get pods"
    ),
    Reason.VALID: Explanation("The spec can be carried out."),
    Reason.PROFILE_NOT_FOUND: Explanation(
        "`spec.profile` names none of the operator's profiles.",
        "Name one that is there, or ask an administrator to add it.",
        _CONFIGURATION,
    ),
    Reason.NOT_ALLOWED_BY_PROFILE: Explanation(
        "The profile's allow-list does not have a value of the spec; the message says which.",
        "Use an allowed value or another profile.",
        _CONFIGURATION,
    ),
    Reason.ENDPOINT_NOT_ALLOWED: Explanation(
        "The address that the model is to come from is not on the operator's list, or it redirects to one that is not.",
        "Use an address of the list, or ask an administrator to add one to `allowedEndpoints`.",
        _CONFIGURATION,
    ),
    Reason.SCHEDULE_INVALID: Explanation(
        "`spec.upgradePolicy.window` has a schedule that no day meets, or names no time zone.",
        "Follow the message: five fields as for a CronJob, and a name of the IANA database.",
        "kubectl explain llmservice.spec.upgradePolicy.window",
    ),
    Reason.QUANTIZATION_CONFLICT: Explanation(
        "The checkpoint is quantized already, by another method than the spec asks for.",
        "Leave the method at `Auto`, or choose an unquantized model.",
        _WARMUP_LOG,
    ),
    Reason.MODEL_TOO_LARGE: Explanation(
        "Weights, the KV cache of all sequences and what is beside them ([fit.md](fit.md)) need more memory than the "
        "GPU has, or without a GPU the pod's limit. No replica is started; what runs goes on.",
        "Do one of what the message proposes, or correct `spec.resources.gpu.memory`.",
        _DESCRIBE,
    ),
    Reason.CONTEXT_TOO_LONG: Explanation(
        "`spec.engine.maxModelLen` is longer than the model was made for. No replica is started; what runs goes on.",
        "Lower it to what the message says.",
        _DESCRIBE,
    ),
    Reason.SECRET_NOT_FOUND: Explanation(
        "A Secret that the spec names is not in the namespace.",
        "Create it, or correct the name. It goes on by itself.",
        "kubectl get secrets",
    ),
    Reason.SECRET_KEY_INVALID: Explanation(
        "The Secret does not have the key, or it is empty.",
        "Put the value under the key that the message names.",
        "kubectl describe secret SECRET",
    ),
    Reason.STORAGE_CLASS_NOT_FOUND: Explanation(
        "There is no StorageClass of this name, or no default one.",
        "Name one that is there in `spec.cache.storageClassName`.",
        "kubectl get storageclasses",
    ),
    Reason.RUNTIME_CLASS_NOT_FOUND: Explanation(
        "There is no RuntimeClass of this name.",
        "Name one that is there, or leave `spec.scheduling.runtimeClassName` out.",
        "kubectl get runtimeclasses",
    ),
    Reason.PRIORITY_CLASS_NOT_FOUND: Explanation(
        "There is no PriorityClass of this name.",
        "Name one that is there, or leave `spec.scheduling.priorityClassName` out.",
        "kubectl get priorityclasses",
    ),
    Reason.CHILD_NAME_CONFLICT: Explanation(
        "An object with the name of a child is there and is not ours; the operator never takes over what others made.",
        "Rename the LLMService, or delete the other object.",
        "kubectl get deployments,services,hpa,pvc,configmaps,jobs",
    ),
    Reason.REVISION_NOT_KEPT: Explanation(
        "The annotation `llmservice.dev/rollback-to` names no earlier revision that was good and is kept with its "
        "model; what runs stays as it is.",
        "Name one that `status.rollout.history` has as Good, or remove the annotation.",
        "kubectl get llmservice NAME -o jsonpath='{.status.rollout.history}'",
    ),
    Reason.REJECTED_BY_SERVER: Explanation(
        "The API server, a webhook or a policy refused an object; the message has its words.",
        "Change what the message names.",
        _DESCRIBE,
    ),
    Reason.OPERATOR_FORBIDDEN: Explanation(
        "The operator's roles do not allow a request; the message names verb and resource. "
        "`llmservice_operator_missing_rights_total` counts every such request.",
        "Apply the roles of `deploy/` again; the operator goes on within ten seconds.",
        "kubectl apply --server-side -f deploy/cluster-role.yaml",
    ),
    Reason.DOWNLOADED: Explanation("The warm-up downloaded the model."),
    Reason.ALREADY_PRESENT: Explanation("The volume had the model already."),
    Reason.NOT_REQUIRED: Explanation("The model is mounted as it is (sources `pvc` and `image`)."),
    Reason.DOWNLOADING: Explanation(
        "The warm-up downloads the model.", "Wait; the column Progress shows how far.", _WARMUP_LOG
    ),
    Reason.QUANTIZING: Explanation("The warm-up writes the quantized copy.", "Wait.", _WARMUP_LOG),
    Reason.VOLUME_PENDING: Explanation(
        "The cache's volume is not there yet.",
        "Wait; if it stays, see what the claim's events say.",
        _CLAIM,
    ),
    Reason.VOLUME_UNUSABLE: Explanation(
        "The claim is missing, cannot be mounted on this node, or cannot be written.",
        "Correct `spec.cache`, or free the volume from the node that holds it.",
        _CLAIM,
    ),
    Reason.MODEL_NOT_FOUND: Explanation(
        "The hub has no such repository, or hides it without a token; the server no such archive, the bucket no files.",
        "Correct `repo`, `url`, `uri` or `region`, or name a token for a private one.",
        _WARMUP_LOG,
    ),
    Reason.REVISION_NOT_FOUND: Explanation(
        "The repository has no such branch, tag or commit.", "Correct `revision`.", _WARMUP_LOG
    ),
    Reason.ACCESS_DENIED: Explanation(
        "The repository, archive or bucket is private, and the token or key is missing or may not read it.",
        "Accept the model's terms on the hub; name a token in `tokenSecretRef`, keys in `credentialsSecretRef`.",
        _WARMUP_LOG,
    ),
    Reason.HUB_UNREACHABLE: Explanation(
        "The hub or server does not answer; the warm-up tries again.",
        "Check network, DNS and proxy between the pods and it.",
        _WARMUP_LOG,
    ),
    Reason.THROTTLED: Explanation(
        "The hub answers 429; the warm-up tries again later.", "Wait, or name a token with a higher limit.", _WARMUP_LOG
    ),
    Reason.DIGEST_MISMATCH: Explanation(
        "The model's files do not have `spec.model.digest`, the archive not its `sha256`, or a downloaded file is not "
        "what the hub announced. The message has both values; it is tried again.",
        "Correct the digest, or name what has it. For a file of the hub, suspect a proxy.",
        _WARMUP_LOG,
    ),
    Reason.CACHE_FULL: Explanation(
        "The volume has no room for the download and the quantized copy; the message has the figures.",
        "Raise `spec.cache.size`, if the storage class can grow a volume.",
        _CLAIM,
    ),
    Reason.UNSAFE_FILES: Explanation(
        "The repository or archive has links, names that lead outside, or weights only in formats that can run code.",
        "Choose one with safetensors, in plain files.",
        _WARMUP_LOG,
    ),
    Reason.MODEL_INVALID: Explanation(
        "A file of the model is missing or broken; the message says which.",
        "Choose another revision or model.",
        _WARMUP_LOG,
    ),
    Reason.MODEL_UNSUPPORTED: Explanation(
        "The engine does not know the model's architecture or format.", "Choose another model.", _WARMUP_LOG
    ),
    Reason.WARMUP_TIMED_OUT: Explanation(
        "The warm-up took longer than allowed; it is tried again and goes on where it was.",
        "Raise `spec.cache.warmup.timeoutSeconds`.",
        _WARMUP_JOB,
    ),
    Reason.WARMUP_FAILED: Explanation(
        "The warm-up failed for a reason that it could not name; it is tried again.", "Read its log.", _WARMUP_LOG
    ),
    Reason.ALL_SCHEDULED: Explanation("Every pod has a node."),
    Reason.INSUFFICIENT_GPU: Explanation(
        "No node has a free GPU of this kind.",
        "Free one, add a node, or correct `spec.resources.gpu`.",
        "kubectl describe nodes",
    ),
    Reason.INSUFFICIENT_RESOURCES: Explanation(
        "No node has the cpu, memory or storage free that the pod asks for.",
        "Lower `spec.resources.requests`, or add a node.",
        "kubectl describe nodes",
    ),
    Reason.NO_MATCHING_NODE: Explanation(
        "No node has the labels of the node selector, or the pod is tied to the node of its volume.",
        "Correct `spec.scheduling.nodeSelector`.",
        "kubectl get nodes --show-labels",
    ),
    Reason.TAINT_NOT_TOLERATED: Explanation(
        "The nodes that would fit have taints.", "Add them to `spec.scheduling.tolerations`.", "kubectl describe nodes"
    ),
    Reason.QUOTA_EXCEEDED: Explanation(
        "The namespace's ResourceQuota or LimitRange is used up.",
        "Ask for less, or have it raised. It goes on by itself.",
        "kubectl describe resourcequotas,limitranges",
    ),
    Reason.POD_SECURITY_DENIED: Explanation(
        "Pod Security or another policy refuses the pods.",
        "Ask who owns the namespace's policy; the pods fit Pod Security restricted.",
        "kubectl get namespace NAMESPACE --show-labels",
    ),
    Reason.UNSCHEDULABLE: Explanation(
        "The scheduler found no node for another reason; the message has its words.", "Follow the message.", _PODS
    ),
    Reason.PROMPTS_PASSED: Explanation("A replica of the revision asked for answered every prompt as expected."),
    Reason.NOT_CONFIGURED: Explanation("`spec.rollout.verification` is absent."),
    Reason.PROMPT_FAILED: Explanation(
        "The answer to a prompt has none of the texts expected, is empty, or cannot be given; the message has the "
        "prompt's number.",
        "Put the prompt to the model yourself; then correct the expectation, or the change of the model.",
        "kubectl logs deployment/NAME --previous",
    ),
    Reason.PROMPT_TIMED_OUT: Explanation(
        "The prompts were not all answered within `spec.rollout.verification.timeoutSeconds`.",
        "Raise the limit, ask for fewer tokens, or find out why the model is slow.",
        _SERVER_LOG,
    ),
    Reason.PENDING: Explanation(
        "No replica of the revision asked for has answered the prompts yet.", "Wait.", _DESCRIBE
    ),
    Reason.ACTIVE: Explanation("The autoscaler reads its metrics and sets the replicas."),
    Reason.DISABLED: Explanation("`spec.scaling` is absent, or the LLMService is suspended: nobody scales."),
    Reason.LIMIT_REACHED: Explanation(
        "The autoscaler wants more or fewer replicas than `minReplicas` and `maxReplicas` allow.",
        "Move the limits if that is not wanted.",
        _HPA,
    ),
    Reason.METRICS_API_MISSING: Explanation(
        "The cluster has no metrics API for a metric of `spec.scaling.metrics`.",
        "Install the metrics server, or an adapter for custom or external metrics.",
        "kubectl get apiservices",
    ),
    Reason.METRIC_MISSING: Explanation(
        "The metrics API does not have the metric.", "Correct its name, or the adapter's rule.", _HPA
    ),
    Reason.SCALER_FAILED: Explanation(
        "The autoscaler cannot work; the message has its words.", "Follow the message.", _HPA
    ),
    Reason.AS_EXPECTED: Explanation("What runs, runs as asked."),
    Reason.ROLLED_BACK: Explanation(
        "The revision that the spec asks for was at fault: it crashed, ran out of memory, has no image, failed "
        "verification or was not ready in time. So the last good one runs again; the message has the cause.",
        "Correct the spec. To try the same once more, give the annotation `llmservice.dev/retry` a new value.",
        "kubectl annotate llmservice NAME llmservice.dev/retry=1 --overwrite",
    ),
    Reason.ROLLOUT_HELD: Explanation(
        "A new revision did not become ready within `spec.rollout.progressDeadlineSeconds` and is not taken back, "
        "because `spec.rollout.onFailure` is Hold or nothing good was there before, or the cause lies outside it; the "
        "old replicas serve on.",
        "Correct the spec, or take the change back.",
        _PODS,
    ),
    Reason.CRASH_LOOP: Explanation(
        "The server ends again and again; the message has its exit code and words.",
        "Follow the message.",
        "kubectl logs deployment/NAME --previous",
    ),
    Reason.OUT_OF_MEMORY: Explanation(
        "The model does not fit into the pod's memory, or the GPU's.",
        "Raise `spec.resources`, or choose a smaller quantization, batch or context.",
        _PODS,
    ),
    Reason.IMAGE_PULL_FAILED: Explanation(
        "A node cannot pull the image; the message has the registry's words.",
        "Have the profile's image or pull secret corrected.",
        _PODS,
    ),
    Reason.AUTH_SECRET_INVALID: Explanation(
        "The Secret of API keys has no key, or an empty one; the server refuses to start open.",
        "Put one key per line under each tenant's name.",
        "kubectl describe secret SECRET",
    ),
    Reason.ENGINE_FAILED: Explanation(
        "The engine could not load the model or died, for example without the accelerator that it was told to use.",
        "Follow the message.",
        _SERVER_LOG,
    ),
    Reason.REPLICAS_UNAVAILABLE: Explanation(
        "Some replicas are not ready though they should be; the others serve.", "See why.", _PODS
    ),
    Reason.OPERATOR_UPGRADED: Explanation(
        "Another version of the operator, or a changed profile, would make the replicas differently; the message and "
        "`status.operator.pendingSummary` list the fields. The replicas stay as they are.",
        "Apply it when it suits you, or let the next change of the spec bring it. With `spec.upgradePolicy.mode: Auto` "
        "nothing waits.",
        "kubectl annotate llmservice NAME llmservice.dev/apply-update=1 --overwrite",
    ),
    Reason.WAITING_FOR_WINDOW: Explanation(
        "As `OperatorUpgraded`; the window of `spec.upgradePolicy` is not open.",
        "Wait for it, or apply the update now.",
        "kubectl annotate llmservice NAME llmservice.dev/apply-update=1 --overwrite",
    ),
    Reason.UP_TO_DATE: Explanation("The replicas are as this operator makes them."),
    Reason.FIELDS_REVERTED: Explanation(
        "Somebody changed a field that the spec decides; the message names the field manager and the first such field.",
        "Change the LLMService instead. To change children by hand for a while, set `spec.paused`.",
        "kubectl get deployment NAME -o yaml --show-managed-fields",
    ),
    Reason.IN_SYNC: Explanation("No child was put back within the last hour."),
    Reason.PAUSED_BY_USER: Explanation(
        "`spec.paused` is true: the operator writes nothing but this status.",
        "Set it to false.",
        'kubectl patch llmservice NAME --type=merge -p \'{"spec":{"paused":false}}\'',
    ),
    Reason.NOT_PAUSED: Explanation("The operator keeps every child as the spec says."),
}

WARNING_EXPLANATIONS: Final[Mapping[WarningReason, Explanation]] = {
    WarningReason.OPEN_TO_EVERYBODY: Explanation(
        "`spec.service.type` lets clients in from outside the cluster, and `spec.auth.mode` is Anonymous.",
        "Set `spec.auth.mode` to APIKey and name a Secret of keys in `spec.auth.apiKeysSecretRef`.",
        "kubectl get llmservice NAME -o wide",
    ),
    WarningReason.UNKNOWN_ANNOTATION: Explanation(
        "An annotation of the LLMService begins with `llmservice.dev/` and is none that the operator knows.",
        "Correct its name, or remove it.",
        "kubectl get llmservice NAME -o jsonpath='{.metadata.annotations}'",
    ),
    WarningReason.UNKNOWN_FIELD: Explanation(
        "A field was set under another version of the resource, and this version has no such field. It is ignored.",
        "Leave it out of the manifest. The warning goes when the manifest is applied with `--server-side`; another "
        "`kubectl apply` does not take back what it once said.",
        "kubectl get llmservice NAME -o yaml --show-managed-fields",
    ),
}
