//! PNG and JPEG to tensors.
