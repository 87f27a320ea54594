//! Of the rewriting and of the check.
