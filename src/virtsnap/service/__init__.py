"""One coroutine per API call; the only place where the layers meet."""
