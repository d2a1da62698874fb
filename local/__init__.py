"""One-machine mode: the embedded servers, and the supervisor of everything that `rubrika up` starts."""
