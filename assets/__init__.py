"""What depends on what: one module a stage. An asset reads, calls one function, returns."""
