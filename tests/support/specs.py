"""A spec with every field in it, and a profile with every value, for tests that look at whole manifests."""

from typing import Any

FULL_SPEC: dict[str, Any] = {
    "model": {
        "source": {
            "huggingFace": {
                "repo": "meta-llama/Llama-3.2-3B",
                "revision": "v1.0",
                "endpoint": "https://huggingface.co",
                "tokenSecretRef": {"name": "hugging-face", "key": "token"},
            }
        },
        "servedName": "llama",
    },
    "replicas": 2,
    "engine": {
        "quantization": {"method": "BitsAndBytesInt8", "computeDtype": "BFloat16", "doubleQuant": False},
        "maxModelLen": 4096,
        "batching": {"maxBatchSize": 16, "maxQueueDepth": 0},
    },
    "resources": {
        "gpu": {"count": 1, "resourceName": "nvidia.com/mig-1g.10gb"},
        "requests": {"cpu": "1500m", "memory": "1024Mi"},
        "limits": {"memory": "12Gi", "ephemeral-storage": "1.5Gi"},
        "sharedMemory": "2048Mi",
    },
    "scheduling": {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "inference",
        "runtimeClassName": "nvidia",
    },
    "cache": {
        "size": "20Gi",
        "storageClassName": "fast",
        "accessMode": "ReadWriteMany",
        "reclaimPolicy": "Retain",
        "warmup": {"backoffLimit": 1, "timeoutSeconds": 600},
    },
    "service": {
        "type": "LoadBalancer",
        "port": 8080,
        "sessionAffinity": "ClientIP",
        "annotations": {"service.example.com/internal": "true"},
        "loadBalancerSourceRanges": ["203.0.113.0/24"],
        "loadBalancerClass": "example.com/lb",
    },
    "auth": {"mode": "APIKey", "apiKeysSecretRef": {"name": "llama-keys"}},
    "rollout": {"progressDeadlineSeconds": 900, "drainTimeoutSeconds": 60},
    "disruption": {"maxUnavailable": "50%"},
    "networkPolicy": {"mode": "Restricted", "allowFromNamespaces": ["apps"]},
    "observability": {"logFormat": "Text"},
}

HTTP_SOURCE: dict[str, Any] = {
    "http": {
        "url": "https://models.example.com/gemma-3-270m.tar.gz?version=1",
        "sha256": "cd" * 32,
        "tokenSecretRef": {"name": "artifacts", "key": "token"},
    }
}

S3_SOURCE: dict[str, Any] = {
    "s3": {
        "uri": "s3://models/gemma/270m/",
        "endpoint": "http://minio.storage:9000",
        "region": "eu-west-1",
        "credentialsSecretRef": {"name": "minio"},
    }
}

SCALING: dict[str, Any] = {
    "provider": "HPA",
    "minReplicas": 2,
    "maxReplicas": 4,
    "metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    ],
}

FULL_PROFILE: dict[str, Any] = {
    "image": "registry.example.com/llmservice/server:nvidia",
    "env": {"HF_HOME": "/tmp/hf", "LLMSERVICE_LOG_LEVEL": "debug"},
    "maxTokens": 512,
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "llm", "effect": "NoSchedule"}],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "topology.kubernetes.io/zone"}}
            ]
        }
    },
    "warmup": {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"memory": "32Gi"}},
    "imagePullSecrets": ["registry"],
    "imagePullPolicy": "Always",
}
