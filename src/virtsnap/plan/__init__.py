"""Facts and a request to a plan, or a refusal. One file per operation. Pure."""
