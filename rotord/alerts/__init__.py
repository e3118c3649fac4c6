"""Where alerts go: one module a service, each a plain HTTP call. What to say and when is rotord.core.alerting's business."""
