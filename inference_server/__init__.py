"""The inference server that the operator deploys: a web process in front of an engine process."""
