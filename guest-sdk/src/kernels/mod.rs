//! tract's matrix kernels replaced by the host's native ones, where the host offers them.
